"""A guest that does a tenth of what its host does, as far as measuring goes."""

from __future__ import annotations

from typing import Any, BinaryIO

from farm.model import GuestFacts, Slowness, Start, Stream
from runners.calibration.program import PROGRAM
from runners.deadline import Deadline
from runners.guest import Chunk, Work

HOST = b"farm-rate 100.0000 1.0000\n"
"""What the host answers."""
TENFOLD = Slowness(cpu=10, fork=10, disk=10)


def facts(start: Start = Start.RESTORED, **changes: Any) -> GuestFacts:
    """What the guest is."""
    values: dict[str, Any] = {
        "host": "host", "hypervisor": "qemu", "hypervisor_version": "10.0.2", "emulated": True,
        "machine": "s390-ccw-virtio", "cpu": "max", "image": "debian-13/s390x", "image_digest": "d" * 64,
        "vcpus": 1, "memory_mib": 512, "start": start,
    }  # fmt: skip
    return GuestFacts(**values | changes)


class SlowShell:
    """Its shell."""

    def __init__(self) -> None:
        self.closed = False
        self.commands: list[str] = []

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        deadline.check()
        assert stdin
        assert stdin.read() == PROGRAM
        self.commands.append(command)
        yield Chunk(Stream.STDOUT, b"farm-rate 10.0000 1.0000\n")
        return 0

    def close(self) -> None:
        self.closed = True
