"""Cells and hosts -> a plan: where each cell fits, why it fits nowhere, and which starts first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from farm.errors import PlanError
from farm.matrix.near import did_you_mean
from farm.model import (
    SCRIPTS,
    STANDARD_AXES,
    AttemptKey,
    Cell,
    Expansion,
    GuestSpec,
    Host,
    ImageSpec,
    Matrix,
    Offer,
    Order,
    Placement,
    Plan,
    Submission,
    axis_variable,
    scalar_text,
)
from farm.select import select

AUTO = "auto"

_FASTEST_FIRST = ("kvm", "qemu")
"""How `auto` chooses. One that is not named here comes after these."""


def plan(
    matrix: Matrix,
    expansion: Expansion,
    hosts: Sequence[Host],
    *,
    only: Sequence[str] = (),
    durations: Mapping[str, float] | None = None,
) -> Plan:
    """Place and order the cells that `only` names (all of them where it is empty).

    `durations` are the seconds a cell is expected to take, by its id, as far as they are known. A cell
    that fits nowhere is in the plan all the same, last, with its problem. Raises PlanError where `only`
    names no cell, or none is there.
    """
    cells = select(expansion.cells, only)
    if not cells:
        raise PlanError(f"cannot plan {matrix.name!r}: it has no cells", hint="look at its exclude")
    placements = [_place(cell, matrix.guest, hosts) for cell in cells]
    return Plan(
        matrix=matrix,
        placements=tuple(_ordered(placements, durations or {})),
        excluded=expansion.excluded,
        warnings=expansion.warnings,
    )


def order_for(submission: Submission, placement: Placement, key: AttemptKey) -> Order:
    """What a worker gets to know for one attempt at a placed cell."""
    matrix = submission.plan.matrix
    cell = placement.cell
    scripts = {phase: getattr(matrix, phase.value) for phase in SCRIPTS}
    return Order(
        key=key,
        image=placement.pinned or image_for(matrix, cell),
        hypervisor=placement.hypervisor,
        guest=matrix.guest,
        env=_environment(matrix, placement, key),
        scripts={phase: script for phase, script in scripts.items() if script.strip()},
        collect=matrix.collect,
        timeouts=matrix.timeouts,
        source_digest=submission.source.digest,
        hold_on_failure_s=submission.hold_on_failure_s,
    )


def image_for(matrix: Matrix, cell: Cell) -> ImageSpec:
    """The image that a cell wants."""
    return ImageSpec(name=cell.image, arch=cell.arch, packages=matrix.guest.packages)


def _environment(matrix: Matrix, placement: Placement, key: AttemptKey) -> dict[str, str]:
    """No name is in two of the three: `Matrix` refuses an axis or `env` that would hide another's."""
    cell = placement.cell
    return {
        **{name: scalar_text(value) for name, value in matrix.env.items()},
        **{axis_variable(axis): scalar_text(v) for axis, v in cell.values.items() if axis not in STANDARD_AXES},
        "FARM_CELL": cell.id,
        "FARM_RUN": key.run,
        "FARM_ATTEMPT": str(key.number),
        "FARM_IMAGE": cell.image,
        "FARM_ARCH": cell.arch,
        "FARM_HYPERVISOR": placement.hypervisor,
    }


class _Fit(NamedTuple):
    """One host for one cell: the ways to run it there, or why there is none."""

    host: str
    offers: tuple[Offer, ...]
    problem: str = ""


def _place(cell: Cell, guest: GuestSpec, hosts: Sequence[Host]) -> Placement:
    """The fastest way that any host has, and the hosts that have it."""
    fits = [_fit(cell, guest, host) for host in hosts]
    best = min((offer for fit in fits for offer in fit.offers), key=_slowness, default=None)
    if best is None:
        return Placement(cell=cell, problem=_problem(cell, hosts, fits))
    way = (best.hypervisor, best.emulated)
    having = tuple(fit.host for fit in fits if way in [(offer.hypervisor, offer.emulated) for offer in fit.offers])
    return Placement(cell=cell, hypervisor=best.hypervisor, emulated=best.emulated, hosts=having)


def _slowness(offer: Offer) -> tuple[bool, int]:
    known = offer.hypervisor in _FASTEST_FIRST
    return offer.emulated, _FASTEST_FIRST.index(offer.hypervisor) if known else len(_FASTEST_FIRST)


def _fit(cell: Cell, guest: GuestSpec, host: Host) -> _Fit:
    offers = [offer for offer in host.offers if offer.arch == cell.arch and _asked(cell, offer)]
    usable = tuple(offer for offer in offers if not offer.problem)
    lack = next(_lacks(guest, host), "")
    if usable and not lack:
        return _Fit(host.name, usable)
    problems = [f"{offer.hypervisor} cannot be used ({offer.problem})" for offer in offers if offer.problem]
    return _Fit(host.name, (), lack if usable else ", ".join(problems) or _offers_nothing(cell, host))


def _asked(cell: Cell, offer: Offer) -> bool:
    return cell.hypervisor == offer.hypervisor or (cell.hypervisor == AUTO and not offer.scripted)


def _lacks(guest: GuestSpec, host: Host) -> Iterator[str]:
    if guest.memory_mib > host.memory_mib:
        yield f"has {host.memory_mib} MiB for guests, not {guest.memory_mib}"
    if guest.vcpus > host.vcpus:
        yield f"has {host.vcpus} vcpus for guests, not {guest.vcpus}"


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
    return "no host fits: " + "; ".join(f"{fit.host} {fit.problem}" for fit in fits)


def _ordered(placements: Sequence[Placement], durations: Mapping[str, float]) -> Iterator[Placement]:
    """The longest first, so that none is left over at the end; what is unknown might be the longest.

    One cell of each image leads, in that order: their images are then built side by side.
    """
    unknown = float("inf")
    ranked = sorted(placements, key=lambda p: (not p.hosts, -durations.get(p.cell.id, unknown), not p.emulated))
    leaders: dict[tuple[str, str], Placement] = {}
    for placement in ranked:
        if placement.hosts:
            leaders.setdefault((placement.cell.image, placement.cell.arch), placement)
    yield from leaders.values()
    leading = {placement.cell.id for placement in leaders.values()}
    yield from (placement for placement in ranked if placement.cell.id not in leading)
