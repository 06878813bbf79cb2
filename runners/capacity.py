"""What the guests of this process' host may take together, and whether it can limit them."""

from __future__ import annotations

import os
from typing import NamedTuple

import libvirt

from farm.config import Settings
from runners.hosts.libvirtd import libvirtd
from runners.hosts.uri import HostUri, parse_uri
from runners.libvirt import quota
from runners.libvirt.connection import hypervisor_errors

_KEPT_FOR_HOST_MIB = 2048
_LEAST_MIB = 512
_UNLIMITED = {"xen": "libvirt's driver for Xen has no such limit"}
"""By driver, why it cannot limit the CPU of a guest; the others do it by control groups, as root."""


class Capacity(NamedTuple):
    """Of a host."""

    name: str
    vcpus: int
    memory_mib: int
    """What guests may take together."""
    cpu_limit_problem: str
    """Why the CPU of a guest cannot be limited there; empty where it can."""


def look(settings: Settings) -> Capacity:
    """As far as it is known without trying. Raises HostError where a libvirtd does not answer, ConfigError."""
    uri = parse_uri(settings.uri)
    if uri.embedded:
        return _this_machine(settings, "" if os.geteuid() == 0 else quota.NOT_ROOT)
    return _of_libvirtd(settings, uri)


def probe(settings: Settings) -> Capacity:
    """The same, limits tried."""
    uri = parse_uri(settings.uri)
    return _this_machine(settings, quota.problem(settings)) if uri.embedded else _of_libvirtd(settings, uri)


def _of_libvirtd(settings: Settings, uri: HostUri) -> Capacity:
    """What the hypervisor's machine has, which may be another one; of Xen, not what dom0 itself has."""

    def sizes(connection: libvirt.virConnect) -> tuple[int, int]:
        _, memory_mib, vcpus, *_ = connection.getInfo()
        own = connection.lookupByID(0).maxMemory() // 1024 if uri.driver == "xen" else _KEPT_FOR_HOST_MIB
        return vcpus, max(_LEAST_MIB, memory_mib - own)

    with hypervisor_errors(f"ask {uri.place} for its size"):
        vcpus, memory_mib = libvirtd(uri).ask(sizes)
    return Capacity(settings.host_name, vcpus, memory_mib, _UNLIMITED.get(uri.driver, ""))


def _this_machine(settings: Settings, cpu_limit_problem: str) -> Capacity:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 // 1024
    return Capacity(
        name=settings.host_name,
        vcpus=len(os.sched_getaffinity(0)),
        memory_mib=max(_LEAST_MIB, memory_mib - _KEPT_FOR_HOST_MIB),
        cpu_limit_problem=cpu_limit_problem,
    )
