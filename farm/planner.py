"""Cells and hosts -> a plan: where each cell fits, why it fits nowhere, and which starts first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from farm import cross
from farm.errors import PlanError
from farm.estimate import expected_s, guessed_weight
from farm.matrix.near import did_you_mean
from farm.model import (
    LAYER_SEPARATOR,
    NO_LAYER,
    STANDARD_AXES,
    AttemptKey,
    Build,
    Builder,
    Cell,
    CloudSpec,
    Expansion,
    GuestSpec,
    Host,
    ImageSpec,
    Layer,
    LayerSpec,
    Matrix,
    Offer,
    Order,
    Phase,
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

    `durations` are the seconds that cells took before, by their ids. A cell that fits nowhere is in the plan
    all the same, last, with its problem. Raises PlanError where `only` names no cell, or none is there.
    """
    cells = select(expansion.cells, only)
    if not cells:
        raise PlanError(f"cannot plan {matrix.name!r}: it has no cells", hint="look at its exclude")
    chosen = {cell.id for cell in cells}
    # All are placed: what a cell takes can be told by one that is not chosen.
    placements = [_place(cell, matrix.guest, hosts) for cell in expansion.cells]
    if _crosses(matrix.building):
        placements = [_with_builder(matrix, placement, hosts) for placement in placements]
    expected = expected_s(placements, durations or {}, hosts)
    timed = [placement.model_copy(update={"expected_s": expected.get(placement.cell.id)}) for placement in placements]
    return Plan(
        matrix=matrix,
        placements=tuple(_ordered([placement for placement in timed if placement.cell.id in chosen], hosts)),
        excluded=expansion.excluded,
        warnings=expansion.warnings,
    )


def order_for(submission: Submission, placement: Placement, key: AttemptKey) -> Order:
    """What a worker gets to know for one attempt at a placed cell."""
    matrix = submission.plan.matrix
    image = placement.pinned or image_for(matrix, placement)
    return Order(
        key=key,
        image=image,
        hypervisor=placement.hypervisor,
        guest=matrix.guest,
        env=_environment(matrix, placement, key),
        scripts={phase: script for phase, script in _scripts(matrix) if script.strip()},
        builder=_builder(matrix, placement, image),
        build_env=_build_environment(matrix, placement),
        collect=matrix.collect,
        timeouts=matrix.timeouts,
        source_digest=submission.source.digest,
        hold_on_failure_s=submission.hold_on_failure_s,
    )


def pin(plan: Plan, resolve: Callable[[ImageSpec], ImageSpec | None]) -> Plan:
    """The plan with the images settled that its cells name by an alias.

    `resolve` gives the real name and the digest for an alias, None for what is none; it is asked once for each
    image that a cell would get.
    """
    pins: dict[str, ImageSpec | None] = {}
    placements = []
    for placement in plan.placements:
        if placement.hosts:
            image = image_for(plan.matrix, placement)
            key = image.model_dump_json()
            if key not in pins:
                pins[key] = resolve(image)
            placements.append(placement.model_copy(update={"pinned": pins[key]}))
        else:
            placements.append(placement)
    return plan.model_copy(update={"placements": tuple(placements)})


def image_for(matrix: Matrix, placement: Placement) -> ImageSpec:
    """The image that the guest of a placed cell wants. One that builds too needs more packages."""
    cell = placement.cell
    cloud = matrix.images.get(cell.image)
    return ImageSpec(
        name=cell.image,
        arch=cell.arch,
        packages=(*matrix.guest.packages, *_packages_to_build(matrix, placement)),
        layers=tuple(_layer(name, matrix.layers[name]) for name in cell.layers),
        cloud=CloudSpec(location=cloud.cloud, sha256=cloud.sha256) if cloud else None,
    )


def _layer(name: str, layer: Layer) -> LayerSpec:
    return LayerSpec(name=name, packages=layer.packages, files=layer.files, script=layer.script)


def _packages_to_build(matrix: Matrix, placement: Placement) -> tuple[str, ...]:
    build, arch = matrix.building, placement.cell.arch
    if build is None or placement.builder:
        return ()
    if _crosses(build):
        return cross.packages(build.packages, build=arch, host=arch)
    return tuple(cross.of_target(name, build=arch, host=arch) for name in build.packages)


def _builder(matrix: Matrix, placement: Placement, image: ImageSpec) -> Builder | None:
    if matrix.building is None or placement.builder is None:
        return None
    wanted = cross.builder_image(image, placement.builder.arch, matrix.building.packages)
    return Builder(image=wanted, hypervisor=placement.builder.hypervisor)


def _build_environment(matrix: Matrix, placement: Placement) -> dict[str, str]:
    if not _crosses(matrix.building):
        return {}
    arch = placement.cell.arch
    return cross.environment(build=placement.builder.arch if placement.builder else arch, host=arch)


def _crosses(build: Build | None) -> bool:
    return build is not None and build.on == "cross"


def _scripts(matrix: Matrix) -> Iterator[tuple[Phase, str]]:
    yield Phase.PREPARE, matrix.prepare
    yield Phase.BUILD, matrix.building.script if matrix.building else ""
    yield Phase.TEST, matrix.test


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
        "FARM_WITH": LAYER_SEPARATOR.join(cell.layers) or NO_LAYER,
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
    return "no host fits: " + "; ".join(f"{fit.host} {fit.problem}" for fit in fits)


def _ordered(placements: Sequence[Placement], hosts: Sequence[Host]) -> Iterator[Placement]:
    """The longest first, so that none is left over at the end; what is unknown might be, and is if its guest is slow.

    One cell of each image leads, in that order: their images are then built side by side.
    """
    ranked = sorted(placements, key=lambda p: (not p.hosts, -_seconds(p), -guessed_weight(p, hosts)))
    leaders: dict[tuple[object, ...], Placement] = {}
    for placement in ranked:
        if placement.hosts:
            leaders.setdefault((placement.cell.image, placement.cell.arch, placement.cell.layers), placement)
    yield from leaders.values()
    leading = {placement.cell.id for placement in leaders.values()}
    yield from (placement for placement in ranked if placement.cell.id not in leading)


def _seconds(placement: Placement) -> float:
    return float("inf") if placement.expected_s is None else placement.expected_s
