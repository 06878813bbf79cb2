"""What a guest has used of its host: by libvirt's account of its disks and processors, and the kernel's of its memory.

The guest's network is QEMU's own, of which neither knows; `runners.counters` asks the guest.
"""

from __future__ import annotations

import re

import libvirt

from farm.model import Usage
from runners.libvirt.connection import Embedded

_STATS = libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_BLOCK
_DISK = "vda"
"""The root disk. The others are the farm's own."""
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Meter:
    """Of one guest. It remembers: of a machine that has ended, nothing can be read any more."""

    def __init__(self, driver: Embedded) -> None:
        self._driver = driver
        self._last = Usage()

    def read(self, domain: libvirt.virDomain | None) -> Usage:
        """What the guest has used by now, or had when it was last read. What cannot be read is None.

        The memory is all that its process had, what it shares with other clones included.
        """
        if domain:
            now = _of_machine(domain, self._driver) | _of_process(domain, self._driver)
            self._last = self._last.model_copy(update=now)
        return self._last


def _of_machine(domain: libvirt.virDomain, driver: Embedded) -> dict[str, float | int]:
    # NOWAIT: a machine whose monitor is busy is asked the next time.
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    try:
        ((_, found),) = driver.connection.domainListGetStats([domain], _STATS, flags) or ((None, {}),)
    except libvirt.libvirtError:
        return {}
    return from_stats(found)


def from_stats(found: dict[str, int | str]) -> dict[str, float | int]:
    """The numbers of virConnectGetAllDomainStats as fields of `Usage`, as far as they are there."""
    used: dict[str, float | int] = {}
    if "cpu.time" in found:
        used["cpu_s"] = int(found["cpu.time"]) / 1e9
    for number in range(int(found.get("block.count", 0))):
        disk = f"block.{number}."
        if found.get(disk + "name") == _DISK and disk + "wr.bytes" in found:
            used["disk_read_bytes"] = int(found[disk + "rd.bytes"])
            used["disk_written_bytes"] = int(found[disk + "wr.bytes"])
    return used


def _of_process(domain: libvirt.virDomain, driver: Embedded) -> dict[str, int]:
    try:
        status = (driver.process(domain) / "status").read_text()
    except OSError:  # it has ended meanwhile
        return {}
    peak = _PEAK.search(status)
    return {"memory_peak_mib": -(-int(peak[1]) // 1024)} if peak else {}
