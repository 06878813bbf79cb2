"""What a worker is told: a placement -> the order for an attempt, with the image that its guest has. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from farm import cross
from farm.model import (
    AUTO,
    LAYER_SEPARATOR,
    NO_LAYER,
    STANDARD_AXES,
    AttemptKey,
    Builder,
    CloudSpec,
    ImageSpec,
    Layer,
    LayerSpec,
    Matrix,
    Order,
    Phase,
    Placement,
    Plan,
    Submission,
    axis_variable,
    scalar_text,
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
        cpu=placement.cell.cpu,
        only=placement.hosts if _particular(placement, matrix) else (),
        env=_environment(matrix, placement, key),
        scripts={} if submission.reserved_s else {phase: text for phase, text in _scripts(matrix) if text.strip()},
        builder=_builder(matrix, placement, image),
        build_env=_build_environment(matrix, placement),
        collect=matrix.collect,
        timeouts=matrix.timeouts,
        source_digest=submission.source.digest,
        hold_on_failure_s=submission.hold_on_failure_s,
        reserved_s=submission.reserved_s,
        ssh_key=submission.ssh_key,
        hold_limit_s=submission.hold_limit_s,
    )


def _particular(placement: Placement, matrix: Matrix) -> bool:
    """Whether a cell needs something of its host that no label of the host's node tells."""
    guest = matrix.guest
    limited = guest.disk_bytes_per_s or guest.network_bytes_per_s
    return bool(placement.cell.cpu or matrix.requires or limited or guest.network == "bridge")


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
    if matrix.crosses:
        return cross.packages(build.packages, build=arch, host=arch)
    return tuple(cross.of_target(name, build=arch, host=arch) for name in build.packages)


def _builder(matrix: Matrix, placement: Placement, image: ImageSpec) -> Builder | None:
    if matrix.building is None or placement.builder is None:
        return None
    wanted = cross.builder_image(image, placement.builder.arch, matrix.building.packages)
    return Builder(image=wanted, hypervisor=placement.builder.hypervisor)


def _build_environment(matrix: Matrix, placement: Placement) -> dict[str, str]:
    if not matrix.crosses:
        return {}
    arch = placement.cell.arch
    return cross.environment(build=placement.builder.arch if placement.builder else arch, host=arch)


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
        "FARM_CPU": cell.cpu or AUTO,
        "FARM_WITH": LAYER_SEPARATOR.join(cell.layers) or NO_LAYER,
    }
