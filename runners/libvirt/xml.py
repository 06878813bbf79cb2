"""The domain of a guest of the embedded QEMU driver. Pure: a specification in, XML out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from runners.libvirt.elements import NO_LIMITS, Disk, Kernel, Limits, add, add_endings, begin, to_text
from runners.libvirt.hypervisors import Hypervisor
from runners.machines import Machine

_QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
_NETWORK_DEVICES = {
    # A fixed place on the root bus, after all that libvirt puts there itself; no option ROM for PXE.
    "pcie": "virtio-net-pci,netdev=farm,bus=pcie.0,addr={slot:#x},romfile=",
    "pci": "virtio-net-pci,netdev=farm,addr={slot:#x},romfile=",
    "ccw": "virtio-net-ccw,netdev=farm,devno=fe.0.1000",
}
_NETWORK_SLOT = 30
_CONSOLES = {"pcie": "serial", "pci": "serial", "ccw": "sclp"}
_NO_USB = {"pcie": True, "pci": True, "ccw": False}
"""Whether libvirt would add a USB controller, unless it is told that there is none."""
_NETWORKS = {"isolated": ",restrict=on", "open": ""}
_PERIOD_US = 100_000
"""In which a guest's share of the CPUs is counted, and after which it gets it anew."""

ET.register_namespace("qemu", _QEMU_NS)


@dataclass(frozen=True)
class Memory:
    """The memory of a guest that is going to be saved, or has been: both know it by the same name."""

    path: Path | None = None
    """The file that it is; None: anonymous."""
    shared: bool = False
    """The guest's writes go into the file; otherwise they stay its own, copied page by page."""


@dataclass(frozen=True)
class DomainSpec:
    """A guest as libvirt is to make it."""

    name: str
    uuid: str
    owner: str
    """Who made it, and for what: kept in the domain's metadata."""
    hypervisor: Hypervisor
    machine: Machine
    vcpus: int
    memory_mib: int
    console: Path
    """A file that gets everything the guest's console says."""
    kernel: Kernel | None = None
    """None: whatever the firmware finds."""
    disks: tuple[Disk, ...] = ()
    network: str = ""
    """`isolated` or `open`, with a port of the host's loopback forwarded to SSH; empty: none."""
    memory: Memory | None = None
    """None: anonymous, as usual."""
    incoming: bool = False
    """It does not boot, but waits to be given the state of another."""
    clock_offset_s: int = 0
    """How far its hardware clock is ahead of the host's."""
    limits: Limits = NO_LIMITS
    cpu: str = ""
    """The CPU model, as QEMU calls it; empty: the hypervisor's or the machine's own."""


def domain_xml(spec: DomainSpec) -> str:
    """The XML of a domain that ends, rather than restarts, whatever happens in it."""
    domain = begin(spec.hypervisor.domain_type, spec.name, spec.uuid, {"owner": spec.owner})
    add(domain, "memory", str(spec.memory_mib), unit="MiB")
    add(domain, "vcpu", str(spec.vcpus))
    if spec.limits.cpu_percent:
        quota = add(domain, "cputune")
        add(quota, "global_period", str(_PERIOD_US))
        add(quota, "global_quota", str(_PERIOD_US * spec.limits.cpu_percent // 100))
    _add_boot(domain, spec)
    if spec.machine.has_acpi:
        add(add(domain, "features"), "acpi")
    _add_cpu(domain, spec)
    add(domain, "clock", **_clock(spec.clock_offset_s))
    add_endings(domain)
    _add_devices(domain, spec)
    if arguments := tuple(_arguments(spec)):
        commandline = add(domain, f"{{{_QEMU_NS}}}commandline")
        for value in arguments:
            add(commandline, f"{{{_QEMU_NS}}}arg", value=value)
    _add_forgotten(domain)
    return to_text(domain)


def _add_boot(domain: ET.Element, spec: DomainSpec) -> None:
    boot = add(domain, "os")
    add(boot, "type", "hvm", arch=spec.machine.libvirt_arch, machine=spec.machine.machine_type)
    if spec.kernel:
        if spec.kernel.firmware:
            add(boot, "loader", str(spec.kernel.firmware), type="rom", readonly="yes")
        add(boot, "kernel", str(spec.kernel.kernel))
        add(boot, "initrd", str(spec.kernel.initrd))
        add(boot, "cmdline", spec.kernel.cmdline)
    elif spec.machine.is_pc:
        add(boot, "bios", useserial="yes")


def _add_cpu(domain: ET.Element, spec: DomainSpec) -> None:
    if spec.cpu or spec.machine.cpu_by_argument:
        return
    model = spec.hypervisor.cpu or spec.machine.cpu
    modes = {"max": "maximum", "host-passthrough": "host-passthrough"}
    if model in modes:
        add(domain, "cpu", mode=modes[model])
    else:
        add(add(domain, "cpu", mode="custom", match="exact"), "model", model, fallback="forbid")


def _clock(offset_s: int) -> dict[str, str]:
    return {"offset": "variable", "basis": "utc", "adjustment": str(offset_s)} if offset_s else {"offset": "utc"}


def _add_devices(domain: ET.Element, spec: DomainSpec) -> None:
    devices = add(domain, "devices")
    add(devices, "emulator", f"/usr/bin/qemu-system-{spec.machine.qemu_arch}")
    slots = iter(spec.machine.slots)
    for number, disk in enumerate(spec.disks):
        element = add(devices, "disk", type="file", device="disk")
        # The disk dies with the guest, so nothing needs to reach the platter. `stop`: a full host halts
        # the guest instead of showing it an I/O error that would look like its own.
        add(element, "driver", name="qemu", type=disk.format, cache="unsafe", error_policy="stop")
        add(element, "source", file=str(disk.path))
        add(element, "target", dev=f"vd{chr(ord('a') + number)}", bus="virtio")
        add(element, "serial", disk.serial)
        if disk.read_only:
            add(element, "readonly")
        elif spec.limits.disk_bytes_per_s:
            add(add(element, "iotune"), "total_bytes_sec", str(spec.limits.disk_bytes_per_s))
        _add_address(element, slots)
    if _NO_USB[spec.machine.transport]:
        add(devices, "controller", type="usb", model="none")
    console = add(devices, "console", type="file")
    add(console, "source", path=str(spec.console))
    add(console, "target", type=_CONSOLES[spec.machine.transport])
    random = add(devices, "rng", model="virtio")
    add(random, "backend", "/dev/urandom", model="random")
    _add_address(random, slots)
    add(devices, "memballoon", model="none")


def _add_address(device: ET.Element, slots: Iterator[int]) -> None:
    """Put a device into the next slot, where it matters which."""
    if slot := next(slots, None):
        add(device, "address", type="pci", domain="0x0000", bus="0x00", slot=f"{slot:#04x}", function="0x0")


def _add_forgotten(domain: ET.Element) -> None:
    # libvirt is told that QEMU lacks this: it would ask for each of some 500 properties of an x86 CPU by itself, a
    # quarter of a second, at every start (qemuProcessFetchGuestCPU); without it, three questions do.
    capabilities = add(domain, f"{{{_QEMU_NS}}}capabilities")
    add(capabilities, f"{{{_QEMU_NS}}}del", capability="cpu-unavailable-features")


def _arguments(spec: DomainSpec) -> Iterator[str]:
    """What libvirt has no words for, as arguments of QEMU."""
    if spec.cpu or spec.machine.cpu_by_argument:  # QEMU takes the last that it is told, and knows more than libvirt
        yield from ("-cpu", spec.cpu or spec.machine.cpu)
    if spec.kernel and spec.machine.boot_options:
        yield from ("-machine", spec.machine.boot_options)
    if spec.network:
        # Port 0 lets QEMU choose, and the monitor tells which: nobody can take it in between.
        yield from ("-netdev", f"user,id=farm,hostfwd=tcp:127.0.0.1:0-:22{_NETWORKS[spec.network]}")
        slot = spec.machine.slots[-1] if spec.machine.slots else _NETWORK_SLOT
        yield from ("-device", _NETWORK_DEVICES[spec.machine.transport].format(slot=slot))
    if spec.memory:
        yield from ("-object", f"{_memory_backend(spec.memory)},id=farm-memory,size={spec.memory_mib}M")
        yield from ("-machine", "memory-backend=farm-memory")
    if spec.incoming:
        yield from ("-incoming", "defer")


def _memory_backend(memory: Memory) -> str:
    share = "on" if memory.shared else "off"
    return f"memory-backend-file,mem-path={memory.path},share={share}" if memory.path else "memory-backend-ram"
