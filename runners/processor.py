"""What /proc/cpuinfo says of a machine's CPUs; each architecture's kernel has its own words."""

from __future__ import annotations

import functools
import re

from farm.model import Processor
from runners.deadline import Deadline
from runners.hosts.link import link_to
from runners.hosts.uri import HostUri

_NUMBERS = {
    "family": ("cpu family",),
    "model": ("model",),
    "stepping": ("stepping",),
}
_NAMES = ("model name", "cpu", "uarch", "isa")
_VENDORS = ("vendor_id", "CPU implementer", "mvendorid")
_FLAGS = ("flags", "Features", "features", "isa")
_WORDS = re.compile(r"[^\s,]+")

_ASK_S = 30.0
_NAME_S = 20.0


def of_host(uri: HostUri) -> Processor:
    """The CPUs of a hypervisor's machine; of Xen, as its dom0 has them. Raises HostError."""
    asked = link_to(uri).run("cat /proc/cpuinfo", deadline=Deadline.after(_ASK_S, f"ask {uri.place} for its CPUs"))
    return parse(asked.decode(errors="replace"))


@functools.cache
def name_of(uri: HostUri) -> str:
    """What the CPU of a hypervisor's machine calls itself, or else its architecture. Raises HostError."""
    said = link_to(uri).run("cat /proc/cpuinfo; echo; uname -m", deadline=Deadline.after(_NAME_S, "look at the CPU"))
    lines = said.decode(errors="replace").strip().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "cpu\t", "uarch")))
    return next(named, lines[-1])


def parse(cpuinfo: str) -> Processor:
    """The CPUs that a text of /proc/cpuinfo lists; what it does not say is empty, 0, or as many as there are CPUs."""
    blocks = [_fields(block) for block in cpuinfo.strip().split("\n\n")]
    listed = [block for block in blocks if "processor" in block] or blocks
    first = {key: value for block in reversed(blocks) for key, value in block.items()} | listed[0]
    return Processor(
        processors=len(listed),
        cores=_cores(listed),
        **{name: _number(first, keys) for name, keys in _NUMBERS.items()},
        model_name=_text(first, _NAMES),
        vendor_name=_text(first, _VENDORS),
        flags=tuple(_WORDS.findall(_text(first, _FLAGS))),
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _cores(listed: list[dict[str, str]]) -> int:
    """Cores have a number in their socket, where the kernel numbers them."""
    return len({(block.get("physical id"), block.get("core id", number)) for number, block in enumerate(listed)})


def _number(fields: dict[str, str], keys: tuple[str, ...]) -> int:
    text = _text(fields, keys)
    return int(text) if text.isdecimal() else 0


def _text(fields: dict[str, str], keys: tuple[str, ...]) -> str:
    return next((fields[key] for key in keys if key in fields), "")
