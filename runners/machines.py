"""The architectures that guests may have: one row each, the only place that knows how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from farm.errors import ConfigError

_DISK_MODULES = ("virtio_blk", "virtio_net", "virtio_rng", "ext4", "crc32c_generic")


@dataclass(frozen=True)
class Machine:
    """How a guest of one architecture is emulated, booted and spoken to."""

    arch: str
    """Debian's name."""
    qemu_arch: str
    """The name in QEMU's program and in libvirt: `x86_64`, `riscv64`, `s390x`."""
    machine_type: str
    """Of libvirt and of QEMU's `-machine`."""
    cpu: str
    """The CPU model for emulation."""
    console: str
    """The serial console's device in the guest."""
    kernel_package: str
    kernel_globs: tuple[str, ...]
    """Where the kernel's file may be in the unpacked package: up to Debian 13, and since."""
    kernel_kind: Literal["bzimage", "plain"]
    """`bzimage`: the kernel inside is taken out, and booted by PVH; `plain`: QEMU takes the file as it is."""
    transport: Literal["pci", "ccw"]
    """How virtio devices are attached."""
    modules: tuple[str, ...]
    """Kernel modules that the initramfs loads; one that the kernel has built in, or not at all, is left out."""
    firmware_text: str
    """What the serial console shows when the machine is started without kernel and disk; empty: nothing
    before the guest's own kernel speaks."""
    is_pc: bool = False
    """Has ACPI tables, and a BIOS that has to be told to use the serial console."""


MACHINES = {
    machine.arch: machine
    for machine in (
        Machine(
            arch="amd64",
            qemu_arch="x86_64",
            machine_type="q35",
            cpu="max",
            console="ttyS0",
            kernel_package="linux-image-cloud-amd64",
            kernel_globs=("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"),
            kernel_kind="bzimage",
            transport="pci",
            modules=("virtio_pci", *_DISK_MODULES),
            firmware_text="SeaBIOS",
            is_pc=True,
        ),
        Machine(
            arch="riscv64",
            qemu_arch="riscv64",
            machine_type="virt",
            cpu="max",
            console="ttyS0",
            kernel_package="linux-image-riscv64",
            kernel_globs=("boot/vmlinu?-*", "usr/lib/modules/*/vmlinu?"),
            kernel_kind="plain",
            transport="pci",
            modules=("virtio_pci", *_DISK_MODULES),
            firmware_text="OpenSBI",
        ),
        Machine(
            arch="s390x",
            qemu_arch="s390x",
            machine_type="s390-ccw-virtio",
            cpu="max",
            console="ttysclp0",
            kernel_package="linux-image-s390x",
            kernel_globs=("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"),
            kernel_kind="plain",
            transport="ccw",
            modules=("virtio_ccw", *_DISK_MODULES),
            firmware_text="LOADPARM=",
        ),
    )
}


def machine_for(arch: str) -> Machine:
    """The row of an architecture, by Debian's name. Raises ConfigError."""
    if arch not in MACHINES:
        near = get_close_matches(arch, MACHINES, n=2)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"cannot make a guest of architecture {arch!r}: it is not known",
            hint=f"{meant}known: {', '.join(MACHINES)}",
        )
    return MACHINES[arch]
