"""What a guest behind a libvirtd has used, by what each of libvirt's drivers can tell.

Of memory, QEMU's knows what its process has, Xen's and LXC's what the guest has; LXC's driver counts what went to the
host's disk, not what stayed in memory.
"""

from __future__ import annotations

from contextlib import suppress

import libvirt

from farm.model import Usage
from runners.libvirt.hypervisors import Hypervisor

_KIB_PER_MIB = 1024
_NS_PER_S = 1e9


class Account:
    """Of one guest. It remembers: of a machine that has ended, nothing can be read any more."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._last = Usage()

    @property
    def last(self) -> Usage:
        """What was read last."""
        return self._last

    def read(self, domain: libvirt.virDomain) -> Usage:
        """What the guest has used by now; what cannot be read is as it was. Of its memory, the most that was read."""
        now: dict[str, float | int] = {}
        with suppress(libvirt.libvirtError):
            _state, _most, memory_kib, _vcpus, cpu_ns = domain.info()
            now = {"cpu_s": cpu_ns / _NS_PER_S, "memory_peak_mib": self._memory_mib(domain, memory_kib)}
        with suppress(libvirt.libvirtError):
            _reads, read, _writes, written, _errors = domain.blockStats(self._disk())
            now |= {"disk_read_bytes": read, "disk_written_bytes": written}
        self._last = self._last.model_copy(update=now)
        return self._last

    def _memory_mib(self, domain: libvirt.virDomain, balloon_kib: int) -> int:
        kib = balloon_kib
        if self._hypervisor.driver == "qemu":
            kib = domain.memoryStats().get("rss", 0)
        return max(self._last.memory_peak_mib or 0, -(-kib // _KIB_PER_MIB))

    def _disk(self) -> str:
        """The root disk. The others are the farm's own; a container has one."""
        return "" if self._hypervisor.container else f"{self._hypervisor.disks.prefix}a"
