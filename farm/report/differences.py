"""What was not the same about a cell in two runs, apart from its results. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from farm.report.parts import CellPart, GuestPart, Line, Part

_Fact = Callable[[GuestPart], str]

_QEMU = frozenset({"kvm", "qemu"})
"""Hypervisors whose version is QEMU's."""

_FACTS: dict[str, _Fact] = {
    "image": lambda guest: guest.image,
    "image digest": lambda guest: guest.image_digest,
    "image kind": lambda guest: guest.image_kind,
    "layers": lambda guest: ", ".join(guest.layers),
    "hypervisor": lambda guest: guest.hypervisor,
    "emulated": lambda guest: "yes" if guest.emulated else "no",
    "QEMU": lambda guest: guest.hypervisor_version if guest.hypervisor in _QEMU else "",
    "hypervisor version": lambda guest: "" if guest.hypervisor in _QEMU else guest.hypervisor_version,
    "host": lambda guest: guest.host,
    "machine": lambda guest: guest.machine,
    "CPU": lambda guest: guest.cpu,
    "vCPUs": lambda guest: str(guest.vcpus),
    "memory": lambda guest: f"{guest.memory_mib} MiB",
    "start": lambda guest: guest.start.value,
    "builder": lambda guest: f"{guest.builder.image} {guest.builder.image_digest}" if guest.builder else "",
}
"""What is compared of two guests, by the name it is told by."""


class Difference(Part):
    """Something other than results that was not the same; empty: there was none."""

    what: Line
    before: Line
    after: Line


class CommonDifference(Difference):
    """The same difference in a number of cells."""

    cells: int


class PackageChange(Part):
    """A package that is not the same in two images; empty: it is not there."""

    name: Line
    before: Line
    after: Line


class ImageChange(Part):
    """Two images that cells of the same id had."""

    image: Line
    before: Line
    """The digest."""
    after: Line
    cells: int
    packages: tuple[PackageChange, ...] | None
    """null where it is not known what the images hold."""


def differences(before: GuestPart | None, after: GuestPart | None) -> tuple[Difference, ...]:
    """What was not the same about two guests; nothing where either was never made."""
    if before is None or after is None:
        return ()
    pairs = ((what, fact(before), fact(after)) for what, fact in _FACTS.items())
    return tuple(Difference(what=what, before=old, after=new) for what, old, new in pairs if old != new)


def guest(cell: CellPart | None) -> GuestPart | None:
    """The guest of the attempt that counts."""
    return cell.last.guest if cell and cell.last else None


def common(found: Iterable[Difference]) -> tuple[CommonDifference, ...]:
    """Equal differences together, in the order of the facts, then those of most cells first."""
    counted = Counter((one.what, one.before, one.after) for one in found)
    order = {what: place for place, what in enumerate(_FACTS)}
    ranked = sorted(counted.items(), key=lambda entry: (order[entry[0][0]], -entry[1], entry[0]))
    return tuple(
        CommonDifference(what=what, before=before, after=after, cells=count) for (what, before, after), count in ranked
    )
