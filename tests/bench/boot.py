"""A cold boot to the first command: what the farm adds to QEMU."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.figures import Aim, Figure, side_by_side
from tests.bench.guests import Kind, first_command_s
from tests.bench.machines import Machine

KINDS = (Kind("amd64"), Kind("riscv64"))


def figures() -> Iterator[Figure]:
    """Ours, against raw QEMU with the same arguments."""
    for kind in KINDS:
        machine = Machine(kind.cold())
        name = f"{kind.name}: cold boot to the first command, against QEMU by hand with the same arguments"
        yield side_by_side(name, Aim(1.1), "s", lambda kind=kind: first_command_s(kind.cold), machine.first_command_s)
