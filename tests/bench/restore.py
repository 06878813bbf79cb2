"""A restored guest to its first command."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.figures import Aim, Figure, side_by_side
from tests.bench.guests import Kind, first_command_s
from tests.bench.machines import Machine

UNPACKED = (
    *(Kind(arch) for arch in ("amd64", "i386", "arm64", "armhf", "armel", "riscv64", "s390x", "ppc64el")),
    Kind("mips64el", image="debian-12"),
    Kind("loong64", image="debian-sid"),
)
INSTALLED = tuple(Kind(arch, image="debian-13-installed") for arch in ("amd64", "arm64"))


def figures() -> Iterator[Figure]:
    """Against a cold boot of the same, and against QEMU by hand with the same files."""
    for kinds, aim in ((UNPACKED, Aim(1 / 6)), (INSTALLED, Aim(1 / 20))):
        for kind in kinds:
            yield against_cold(kind, aim)
            yield against_raw(kind)


def against_cold(kind: Kind, aim: Aim) -> Figure:
    """Both ours, from request to first command."""
    name = f"{kind.name}: restored to the first command, against booted"
    return side_by_side(name, aim, "s", lambda: first_command_s(kind.restored), lambda: first_command_s(kind.cold))


def against_raw(kind: Kind) -> Figure:
    """`-incoming`, `migrate-incoming`, `cont` and the same SSH, without the farm."""
    machine = Machine(kind.restored())
    name = f"{kind.name}: restored to the first command, against QEMU by hand with the same files"
    return side_by_side(name, Aim(1.3), "s", lambda: first_command_s(kind.restored), machine.first_command_s)
