"""What a libvirtd says its host can do. Pure; https://libvirt.org/formatcaps.html."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from runners.libvirt.hypervisors import Hypervisor
from runners.libvirt.system_xml import Programs
from runners.machines import MACHINES, Machine


def programs_for(capabilities: str, hypervisor: Hypervisor, machine: Machine) -> Programs | None:
    """What runs a guest of this architecture; None: nothing does."""
    root = ET.fromstring(capabilities)  # noqa: S314 - libvirt's own
    for guest in root.findall("guest"):
        arch = guest.find("arch")
        if arch is None or guest.findtext("os_type") != hypervisor.os_type or arch.get("name") != machine.libvirt_arch:
            continue
        for domain in arch.findall("domain"):
            if domain.get("type") == hypervisor.domain_type:
                return Programs(
                    emulator=domain.findtext("emulator") or arch.findtext("emulator") or "",
                    loader=(domain.findtext("loader") or arch.findtext("loader") or "") if hypervisor.machine else "",
                )
    return None


def host_machine(capabilities: str) -> Machine | None:
    """The architecture of the host's own CPU; None: the farm does not know it."""
    name = ET.fromstring(capabilities).findtext("host/cpu/arch")  # noqa: S314 - libvirt's own
    return next((machine for machine in MACHINES.values() if machine.libvirt_arch == name), None)


def cpu_models(domain_capabilities: str) -> tuple[str, ...]:
    """The CPU models that a guest can be asked for, https://libvirt.org/formatdomaincaps.html."""
    root = ET.fromstring(domain_capabilities)  # noqa: S314 - libvirt's own
    models = root.findall("cpu/mode[@name='custom']/model")
    return tuple(sorted({model.text or "" for model in models if model.get("usable") != "no"} - {""}))
