"""The domain of a guest behind a libvirtd, of every row of the table of hypervisors. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from runners.hosts.network import Attachment, interface
from runners.libvirt.elements import NO_LIMITS, Disk, Kernel, Limits, add, add_endings, begin, to_text
from runners.libvirt.hypervisors import Hypervisor
from runners.machines import Machine

FIRST_ID = 0x61000000
"""A container's users are these of its host, from the first on: its root is nobody there."""
_IDS = 65536
"""How many users a container has."""
DHCP = "farm_network=dhcp"
"""On a kernel's command line: addresses come from the network, not from QEMU's own rules (`runners/images/guest`)."""

_PERIOD_US = 100_000
_MODES = {"max": "maximum", "host-passthrough": "host-passthrough"}
_CONSOLES = {"pcie": "serial", "pci": "serial", "ccw": "sclp"}
"""How a machine's devices are attached -> the kind of console that Linux finds there by itself."""


@dataclass(frozen=True)
class Programs:
    """What the hypervisor's own host calls things, by its capabilities."""

    emulator: str = ""
    loader: str = ""
    """The firmware of a Xen's HVM guest; the others have none, or QEMU's own."""


@dataclass(frozen=True)
class SystemSpec:
    """A guest as a libvirtd is to make it; all paths are its host's."""

    name: str
    uuid: str
    owner: str
    """Who made it, and for what: kept in the domain's metadata."""
    farm: str
    """The farm that may destroy it."""
    ledger: str
    """Its owner's, a file of the farm's machine."""
    hypervisor: Hypervisor
    machine: Machine
    vcpus: int
    memory_mib: int
    programs: Programs
    mac: str
    """The address of its network card."""
    attachment: Attachment
    """What that is put into."""
    kernel: Kernel | None = None
    """None: whatever the firmware finds, or a container."""
    disks: tuple[Disk, ...] = ()
    root: Path | None = None
    """The folder that is a container's root file system."""
    cpu: str = ""
    """The model that was asked for; empty: the row's, else the machine's."""
    limits: Limits = NO_LIMITS


def system_xml(spec: SystemSpec) -> str:
    """The XML of a domain that ends, rather than restarts, whatever happens in it."""
    domain = begin(spec.hypervisor.domain_type, spec.name, spec.uuid, _metadata(spec))
    add(domain, "memory", str(spec.memory_mib), unit="MiB")
    add(domain, "vcpu", str(spec.vcpus))
    _add_quota(domain, spec)
    _add_boot(domain, spec)
    _add_nature(domain, spec)
    clock = add(domain, "clock", offset="utc")
    if spec.hypervisor.host_clock:
        add(clock, "timer", name="tsc", mode="native")
    add_endings(domain)
    _add_devices(add(domain, "devices"), spec)
    return to_text(domain)


def _metadata(spec: SystemSpec) -> dict[str, str]:
    return {"owner": spec.owner, "farm": spec.farm, "ledger": spec.ledger}


def _add_quota(domain: ET.Element, spec: SystemSpec) -> None:
    if not spec.limits.cpu_percent:
        return
    # libvirt's LXC driver has one limit for a whole container, and calls it what QEMU's calls that of each vCPU.
    prefix = "" if spec.hypervisor.container else "global_"
    quota = add(domain, "cputune")
    add(quota, f"{prefix}period", str(_PERIOD_US))
    add(quota, f"{prefix}quota", str(_PERIOD_US * spec.limits.cpu_percent // 100))


def _add_boot(domain: ET.Element, spec: SystemSpec) -> None:
    boot = add(domain, "os")
    attributes = {"arch": spec.machine.libvirt_arch}
    if not spec.hypervisor.container:
        attributes["machine"] = spec.hypervisor.machine or spec.machine.machine_type
    add(boot, "type", spec.hypervisor.os_type, **attributes)
    if spec.hypervisor.container:
        add(boot, "init", "/sbin/init")
    if spec.programs.loader:
        add(boot, "loader", spec.programs.loader, type="rom")
    if spec.kernel:
        if spec.kernel.firmware:
            add(boot, "loader", str(spec.kernel.firmware), type="rom", readonly="yes")
        add(boot, "kernel", str(spec.kernel.kernel))
        add(boot, "initrd", str(spec.kernel.initrd))
        add(boot, "cmdline", spec.kernel.cmdline)
    elif spec.disks and not spec.hypervisor.machine:
        add(boot, "boot", dev="hd")


def _add_nature(domain: ET.Element, spec: SystemSpec) -> None:
    """What kind of a machine it is: its firmware's tables, its CPU, or the users of a container."""
    if spec.hypervisor.container:
        ids = add(domain, "idmap")
        for kind in ("uid", "gid"):
            add(ids, kind, start="0", target=str(FIRST_ID), count=str(_IDS))
        add(add(domain, "features"), "privnet")
        return
    if spec.machine.has_acpi and spec.hypervisor.os_type == "hvm":
        features = add(domain, "features")
        for name in ("acpi", "apic", "pae") if spec.hypervisor.machine else ("acpi",):
            add(features, name)
    if not spec.hypervisor.machine:
        _add_cpu(domain, spec.cpu or spec.hypervisor.cpu or spec.machine.cpu)


def _add_cpu(domain: ET.Element, model: str) -> None:
    if model in _MODES:
        add(domain, "cpu", mode=_MODES[model])
    else:
        add(add(domain, "cpu", mode="custom", match="exact"), "model", model, fallback="forbid")


def _add_devices(devices: ET.Element, spec: SystemSpec) -> None:
    if spec.programs.emulator:
        add(devices, "emulator", spec.programs.emulator)
    if spec.root:
        tree = add(devices, "filesystem", type="mount", accessmode="passthrough")
        add(tree, "source", dir=str(spec.root))
        add(tree, "target", dir="/")
    bus = spec.hypervisor.disks if spec.kernel else spec.hypervisor.own_disk
    for letter, disk in zip("abcdefgh", spec.disks, strict=False):
        if bus:
            _add_disk(devices, disk, bus.name, f"{bus.prefix}{letter}", spec)
    _add_card(devices, spec)
    console = add(devices, "console", type="pty")
    kind = spec.hypervisor.console_type or (not spec.hypervisor.container and _CONSOLES[spec.machine.transport])
    if kind:
        add(console, "target", type=kind)
    if spec.hypervisor.driver == "qemu":
        add(devices, "controller", type="usb", model="none")
        add(add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
        add(devices, "memballoon", model="none")


def _add_disk(devices: ET.Element, disk: Disk, bus: str, name: str, spec: SystemSpec) -> None:
    if spec.hypervisor.block_devices:
        element = add(devices, "disk", type="block", device="disk")
        add(element, "driver", name="phy", type="raw")
        add(element, "source", dev=str(disk.path))
    else:
        element = add(devices, "disk", type="file", device="disk")
        # It dies with the guest, so nothing needs to reach the platter. `stop`: a full host halts the guest instead of
        # showing it an error that would look like its own.
        add(element, "driver", name="qemu", type=disk.format, cache="unsafe", error_policy="stop")
        add(element, "source", file=str(disk.path))
        add(element, "serial", disk.serial)
        if disk.read_only:  # libxl has no such disk for its HVM guests; there the seed is the guest's to spoil
            add(element, "readonly")
    add(element, "target", dev=name, bus=bus)
    if spec.limits.disk_bytes_per_s and not disk.read_only:
        add(add(element, "iotune"), "total_bytes_sec", str(spec.limits.disk_bytes_per_s))


def _add_card(devices: ET.Element, spec: SystemSpec) -> None:
    card = interface(spec.attachment, spec.mac, bytes_per_s=spec.limits.network_bytes_per_s)
    devices.append(card)
    if spec.hypervisor.container:
        add(card, "guest", dev="eth0")
    else:
        add(card, "model", type=spec.hypervisor.card)
