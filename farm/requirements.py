"""Whether a host is what a matrix requires: condition by condition, and what it is instead. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator

from farm.model import CpuRequires, Host, Offer, Requires, parse_size
from farm.model.requires import parted

_NUMBERS: dict[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "~": lambda text, pattern: re.match(pattern, text) is not None,
    "!~": lambda text, pattern: re.match(pattern, text) is None,
}
_NUMBERS_OF_CPU = ("processors", "cores", "family", "model", "stepping")
_TEXTS_OF_CPU = ("model_name", "vendor_name")


def number_holds(condition: str, value: int) -> bool:
    """Whether a number meets a condition such as `>= 4`."""
    sign, wanted = parted(condition)
    return _NUMBERS[sign](value, int(wanted))


def size_holds(condition: str, mib: int) -> bool:
    """Whether a size meets a condition such as `>= 8 GB`."""
    sign, wanted = parted(condition)
    return _NUMBERS[sign](mib, int(str(parse_size(wanted))))


def text_holds(condition: str, text: str) -> bool:
    """Whether a text meets a condition such as `~ xen-.*`; as in tmt, a pattern has to match from the beginning."""
    sign, wanted = parted(condition)
    return _TEXTS[sign](text, wanted)


def admits(requires: Requires, offer: Offer) -> bool:
    """Whether this is a way to run guests that is required."""
    wanted = requires.virtualization.hypervisor
    return wanted is None or text_holds(wanted, offer.hypervisor)


def failures(requires: Requires, host: Host) -> Iterator[str]:
    """Each requirement that a host does not meet, in words that follow its name: `has 2 cores, not >= 8`."""
    if requires.hostname is not None and not text_holds(requires.hostname, host.name):
        yield f"is not called {_plain(requires.hostname)}"
    for label, condition in requires.host.items():
        if not text_holds(condition, host.labels.get(label, "")):
            has = f"{label}={host.labels[label]}" if label in host.labels else f"no label {label}"
            yield f"has {has}, not {_plain(condition)}"
    if requires.memory is not None and not size_holds(requires.memory, host.memory_mib):
        yield f"has {host.memory_mib} MiB for guests, not {_plain(requires.memory)}"
    yield from _failures_of_cpu(requires.cpu, host)
    yield from _failures_of_kind(requires, host)


def _failures_of_cpu(wanted: CpuRequires, host: Host) -> Iterator[str]:
    if wanted == CpuRequires():
        return
    if host.processor is None:
        yield "does not say what CPU it has"
        return
    for field in _NUMBERS_OF_CPU:
        condition, value = getattr(wanted, field), getattr(host.processor, field)
        if condition is not None and not number_holds(condition, value):
            yield (
                f"has {value} {field}, not {_plain(condition)}"
                if field in ("processors", "cores")
                else (f"has a CPU of {field} {value}, not {_plain(condition)}")
            )
    for field in _TEXTS_OF_CPU:
        condition, text = getattr(wanted, field), getattr(host.processor, field)
        if condition is not None and not text_holds(condition, text):
            yield f"has a CPU whose {field.replace('_', ' ')} is {text or 'not known'}, not {_plain(condition)}"
    for condition in wanted.flag:
        sign, flag = parted(condition)
        if (flag in host.processor.flags) != (sign == "="):
            yield f"has a CPU {'without' if sign == '=' else 'with'} {flag}"


def _failures_of_kind(requires: Requires, host: Host) -> Iterator[str]:
    wanted = requires.virtualization
    if wanted.is_supported is not None:
        native = any(
            not (offer.emulated or offer.container or offer.scripted or offer.problem) for offer in host.offers
        )
        if native != wanted.is_supported:
            yield "has hardware that virtualises" if native else "has no hypervisor that does not emulate"
    if wanted.is_virtualized is not None:
        if host.processor is None:
            yield "does not say whether it is a guest itself"
        elif ("hypervisor" in host.processor.flags) != wanted.is_virtualized:
            yield "is no guest of another" if wanted.is_virtualized else "is a guest of another itself"


def _plain(condition: str) -> str:
    sign, wanted = parted(condition)
    return wanted if sign == "=" else f"{sign} {wanted}"
