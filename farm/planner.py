"""Cells and hosts -> a plan: where each cell fits, why it fits nowhere, and which starts first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from farm import cross
from farm.errors import PlanError
from farm.estimate import Weights, expected_s
from farm.matrix.near import did_you_mean
from farm.model import (
    AUTO,
    Cell,
    Expansion,
    GuestSpec,
    Host,
    Matrix,
    Offer,
    Placement,
    Plan,
    Requires,
)
from farm.orders import image_for
from farm.requirements import admits, failures
from farm.select import select

_FASTEST_FIRST = ("kvm", "xen-hvm", "xen-pvh", "qemu")
"""How `auto` chooses, and among what: all others have to be asked for by their names."""

_ELSEWHERE = {
    "network-bandwidth": " (QEMU's user network has no limiter; kvm and qemu of a libvirtd have: qemu:///system)",
    "bridge": " (only hosts with a libvirtd have, whose owner has named one: FARM_HOST_BRIDGE)",
}
"""What to do about something that is missing."""
_SHOWN = 8
"""CPU models in a message; QEMU knows fifty."""


def plan(
    matrix: Matrix,
    expansion: Expansion,
    hosts: Sequence[Host],
    *,
    only: Sequence[str] = (),
    durations: Mapping[str, float] | None = None,
) -> Plan:
    """Place and order the cells that `only` names (all of them where it is empty).

    `durations` are the seconds that cells took before, by their ids. A cell that fits nowhere is in the plan
    all the same, last, with its problem. Raises PlanError where `only` names no cell, or none is there.
    """
    cells = select(expansion.cells, only)
    if not cells:
        raise PlanError(f"cannot plan {matrix.name!r}: it has no cells", hint="look at its exclude")
    chosen = {cell.id for cell in cells}
    # All are placed: what a cell takes can be told by one that is not chosen.
    placements = list(_placed(expansion.cells, matrix, hosts))
    if matrix.crosses:
        placements = [_with_builder(matrix, placement, hosts) for placement in placements]
    weights = Weights(hosts)
    expected = expected_s(placements, durations or {}, weights)
    timed = [placement.model_copy(update={"expected_s": expected.get(placement.cell.id)}) for placement in placements]
    return Plan(
        matrix=matrix,
        placements=tuple(_ordered([placement for placement in timed if placement.cell.id in chosen], weights)),
        excluded=expansion.excluded,
        warnings=(*expansion.warnings, *_left_out(matrix.requires, hosts)),
    )


def misfit(placement: Placement, matrix: Matrix, host: Host) -> str:
    """Why a cell cannot run on a host in the way in which it was placed; empty where it can."""
    fit = _fit(placement.cell, matrix, host)
    if fit.problem:
        return fit.problem
    if placement.hypervisor not in {offer.hypervisor for offer in fit.offers}:
        return f"cannot run {placement.cell.arch} with {placement.hypervisor}"
    builder = placement.builder
    ways = {(offer.hypervisor, offer.arch) for offer in host.offers if not offer.problem}
    if builder and (builder.hypervisor, builder.arch) not in ways:
        return f"cannot run {builder.arch} with {builder.hypervisor}"
    return ""


def _left_out(requires: Requires | None, hosts: Sequence[Host]) -> Iterator[str]:
    """Each host that no cell goes to, because it is not what the matrix requires."""
    for host in hosts if requires else ():
        if failed := "; ".join(failures(requires, host)) if requires else "":
            yield f"requires: {host.name} is left out: it {failed}"


class _Fit(NamedTuple):
    """One host for one cell: the ways to run it there, or why there is none."""

    host: str
    offers: tuple[Offer, ...]
    problem: str = ""


def _placed(cells: Sequence[Cell], matrix: Matrix, hosts: Sequence[Host]) -> Iterator[Placement]:
    """All cells, each where it fits; of those that ask for the same, hosts are looked at for the first alone."""
    known: dict[tuple[str, str, str], Placement] = {}
    for cell in cells:
        asked = (cell.hypervisor, cell.arch, cell.cpu)
        if asked not in known:
            known[asked] = _place(cell, matrix, hosts)
        yield known[asked].model_copy(update={"cell": cell})


def _place(cell: Cell, matrix: Matrix, hosts: Sequence[Host]) -> Placement:
    """The fastest way that any host has, and the hosts that have it."""
    fits = [_fit(cell, matrix, host) for host in hosts]
    best = min((offer for fit in fits for offer in fit.offers), key=_slowness, default=None)
    if best is None:
        return Placement(cell=cell, problem=_problem(cell, hosts, fits))
    way = (best.hypervisor, best.emulated)
    having = tuple(fit.host for fit in fits if way in [(offer.hypervisor, offer.emulated) for offer in fit.offers])
    return Placement(cell=cell, hypervisor=best.hypervisor, emulated=best.emulated, hosts=having)


def _slowness(offer: Offer) -> tuple[bool, int]:
    return offer.emulated, _rank(offer.hypervisor)


def _rank(hypervisor: str) -> int:
    return _FASTEST_FIRST.index(hypervisor) if hypervisor in _FASTEST_FIRST else len(_FASTEST_FIRST)


def _with_builder(matrix: Matrix, placement: Placement, hosts: Sequence[Host]) -> Placement:
    """A cell of a cross build, with the way to run the guest that builds for it; it goes where there is that too.

    None is needed where the cell's own architecture is the one to build on, or the host has its CPU.
    """
    cell = placement.cell
    if placement.problem:
        return placement
    if cell.arch not in cross.GNU_TYPES:
        return _unbuildable(cell, f"no cross compiler for {cell.arch} is known")
    having = {host.name: _building_offers(placement, host) for host in hosts if host.name in placement.hosts}
    best = min((offer for offers in having.values() for offer in offers), key=_building_rank, default=None)
    if not placement.emulated or (best and best.arch == cell.arch):
        return placement
    if best is None:
        return _unbuildable(cell, f"{', '.join(having)} can run none of {', '.join(cross.BUILDERS)} to build on")
    if image_for(matrix, placement).cloud:
        return _unbuildable(cell, f"{cell.image} is no image of Debian's, and only there are cross compilers")
    way = (best.hypervisor, best.arch)
    there = [name for name, offers in having.items() if way in [(offer.hypervisor, offer.arch) for offer in offers]]
    return placement.model_copy(update={"builder": best, "hosts": tuple(there)})


def _unbuildable(cell: Cell, problem: str) -> Placement:
    return Placement(cell=cell, problem=f"it cannot be cross built: {problem}")


def _building_offers(placement: Placement, host: Host) -> tuple[Offer, ...]:
    """The ways in which a host can run a guest that builds; a scripted guest is built in a scripted one."""
    scripted = any(offer.scripted and offer.hypervisor == placement.hypervisor for offer in host.offers)
    return tuple(
        offer
        for offer in host.offers
        if offer.arch in cross.BUILDERS and offer.scripted == scripted and not offer.problem
    )


def _building_rank(offer: Offer) -> tuple[bool, int, int]:
    return offer.emulated, _rank(offer.hypervisor), cross.BUILDERS.index(offer.arch)


def _fit(cell: Cell, matrix: Matrix, host: Host) -> _Fit:
    requires = matrix.requires or Requires()
    offers = [offer for offer in host.offers if offer.arch == cell.arch and _asked(cell, offer)]
    usable = tuple(
        offer
        for offer in offers
        if not offer.problem
        and _knows(offer, cell.cpu)
        and admits(requires, offer)
        and not any(_unable(matrix.guest, offer))
    )
    lack = next(chain(failures(requires, host), _lacks(matrix.guest, host)), "")
    if usable and not lack:
        return _Fit(host.name, usable)
    return _Fit(
        host.name,
        (),
        lack if usable else "; ".join(_useless(cell, matrix.guest, requires, offers)) or _offers_nothing(cell, host),
    )


def _useless(cell: Cell, guest: GuestSpec, requires: Requires, offers: Sequence[Offer]) -> Iterator[str]:
    """Why each of a host's offers for a cell is none."""
    for offer in offers:
        if offer.problem:
            yield f"{offer.hypervisor} cannot be used ({offer.problem})"
        elif not admits(requires, offer):
            yield f"{offer.hypervisor} is not the hypervisor that is required ({requires.virtualization.hypervisor})"
        elif lacks := next(_unable(guest, offer), ""):
            yield f"{offer.hypervisor} {lacks}"
        elif not _knows(offer, cell.cpu):
            near = did_you_mean(cell.cpu, _models(offer))
            yield (
                f"{offer.hypervisor} {offer.version}".rstrip() + f" has no CPU model {cell.cpu!r} for {cell.arch}{near}"
            )


def _asked(cell: Cell, offer: Offer) -> bool:
    return cell.hypervisor == offer.hypervisor or (cell.hypervisor == AUTO and offer.hypervisor in _FASTEST_FIRST)


def _knows(offer: Offer, cpu: str) -> bool:
    return not cpu or cpu in _models(offer)


def _models(offer: Offer) -> tuple[str, ...]:
    return (offer.cpu, *offer.cpus)


def _unable(guest: GuestSpec, offer: Offer) -> Iterator[str]:
    """What a guest asks for that there is not with this hypervisor there."""
    if guest.network not in offer.networks:
        yield f"has no network {guest.network!r} there{_ELSEWHERE.get(guest.network, '')}"
    asked = {
        "cpu": guest.cpu_percent,
        "disk-bandwidth": guest.disk_bytes_per_s,
        "network-bandwidth": guest.network_bytes_per_s,
    }
    for limit in (limit for limit, value in asked.items() if value and limit not in offer.limits):
        yield f"cannot limit {limit} there{_ELSEWHERE.get(limit, '')}"


def _lacks(guest: GuestSpec, host: Host) -> Iterator[str]:
    if guest.memory_mib > host.memory_mib:
        yield f"has {host.memory_mib} MiB for guests, not {guest.memory_mib}"
    if guest.vcpus > host.vcpus:
        yield f"has {host.vcpus} vcpus for guests, not {guest.vcpus}"
    if guest.cpu_percent and host.cpu_limit_problem:
        yield f"cannot limit the CPU of a guest ({host.cpu_limit_problem})"


def _offers_nothing(cell: Cell, host: Host) -> str:
    others = sorted({offer.hypervisor for offer in host.offers if offer.arch == cell.arch})
    if others:
        return f"runs {cell.arch} with {' or '.join(others)}, not {cell.hypervisor}"
    archs = sorted({offer.arch for offer in host.offers if _asked(cell, offer)})
    way = "" if cell.hypervisor == AUTO else f" with {cell.hypervisor}"
    return f"cannot run {cell.arch}{way} (only {', '.join(archs)})" if archs else f"offers nothing{way}"


def _problem(cell: Cell, hosts: Sequence[Host], fits: Sequence[_Fit]) -> str:
    """One sentence: a word that no host knows, else what each host lacks."""
    if not hosts:
        return "there is no host"
    archs = {offer.arch for host in hosts for offer in host.offers}
    hypervisors = {AUTO} | {offer.hypervisor for host in hosts for offer in host.offers}
    for what, word, known in (("architecture", cell.arch, archs), ("hypervisor", cell.hypervisor, hypervisors)):
        if word not in known:
            near = did_you_mean(word, known) or f"; known: {', '.join(sorted(known)) or 'none'}"
            return f"no host knows the {what} {word!r}{near}"
    if cell.cpu and not any(_knows(offer, cell.cpu) for offer in _ways(cell, hosts)):
        return f"no host knows the CPU model {cell.cpu!r} for {cell.arch}{_other_cpus(cell, hosts)}"
    return "no host fits: " + "; ".join(f"{fit.host} {fit.problem}" for fit in fits)


def _other_cpus(cell: Cell, hosts: Sequence[Host]) -> str:
    """What could have been meant instead of a CPU model that nobody has."""
    offers = [offer for host in hosts for offer in host.offers if offer.arch == cell.arch]
    others = sorted({offer.hypervisor for offer in offers if _knows(offer, cell.cpu)})
    if others:
        return f"; {' and '.join(others)} has it, where it is asked for by name"
    models = sorted({model for offer in _ways(cell, hosts) for model in _models(offer) if model})
    return did_you_mean(cell.cpu, models) or f"; known: {', '.join(models[:_SHOWN]) or 'none'}"


def _ways(cell: Cell, hosts: Sequence[Host]) -> tuple[Offer, ...]:
    """All that hosts offer to a cell, its CPU model aside."""
    return tuple(o for host in hosts for o in host.offers if o.arch == cell.arch and _asked(cell, o) and not o.problem)


def _ordered(placements: Sequence[Placement], weights: Weights) -> Iterator[Placement]:
    """The longest first, so that none is left over at the end; what is unknown might be, and is if its guest is slow.

    One cell of each image leads, in that order: their images are then built side by side.
    """
    ranked = sorted(placements, key=lambda p: (not p.hosts, -_seconds(p), -weights.guessed(p)))
    leaders: dict[tuple[object, ...], Placement] = {}
    for placement in ranked:
        if placement.hosts:
            leaders.setdefault((placement.cell.image, placement.cell.arch, placement.cell.layers), placement)
    yield from leaders.values()
    leading = {placement.cell.id for placement in leaders.values()}
    yield from (placement for placement in ranked if placement.cell.id not in leading)


def _seconds(placement: Placement) -> float:
    return float("inf") if placement.expected_s is None else placement.expected_s
