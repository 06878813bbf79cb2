"""The architectures that guests may have: one row each, the only place that knows how they differ."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from farm.errors import ConfigError

_DISK_MODULES = ("virtio_blk", "virtio_net", "virtio_rng", "ext4", "crc32c_generic")
_ON_PCI = ("virtio_pci", *_DISK_MODULES)
_ON_CCW = ("virtio_ccw", *_DISK_MODULES)


@dataclass(frozen=True)
class Firmware:
    """Firmware that QEMU does not bring along: a file in a package of Debian."""

    package: str
    path: str
    """In the unpacked package."""


@dataclass(frozen=True)
class Machine:
    """How a guest of one architecture is emulated, booted and spoken to.

    Which kernel it has depends on the release too: `KERNELS` in `runners.images.spec`.
    """

    arch: str
    """Debian's name."""
    qemu_arch: str
    """The name in QEMU's program: `x86_64`, `riscv64`, `s390x`."""
    libvirt_arch: str
    """libvirt's name."""
    machine_type: str
    """Of libvirt and of QEMU's `-machine`."""
    cpu: str
    """The CPU model for emulation."""
    console: str
    """The serial console's device in the guest."""
    transport: Literal["pcie", "pci", "ccw"]
    """How virtio devices are attached."""
    modules: tuple[str, ...]
    """Kernel modules that the initramfs loads; one that the kernel has built in, or not at all, is left out."""
    firmware_text: str
    """What the serial console shows when the machine is started without kernel and disk; empty: nothing
    before the guest's own kernel speaks."""
    firmware: Firmware | None = None
    """What starts the kernel; None: QEMU does, by itself or with firmware of its own."""
    kernel_options: str = ""
    """What else is on the kernel's command line."""
    boot_options: str = ""
    """More of `-machine`, where a kernel is booted directly."""
    cpu_by_argument: bool = False
    """libvirt knows no CPUs of this architecture: QEMU is told the model past it."""
    slots: tuple[int, ...] = ()
    """The PCI slots whose interrupts are wired; empty: all."""
    memory_step_mib: int = 1
    """Memory comes in multiples of this."""
    most_vcpus: int | None = None
    """None: as many as the host gives."""
    has_acpi: bool = False
    """Its kernel finds its devices by ACPI's tables."""
    is_pc: bool = False
    """Has a BIOS, which has to be told to use the serial console."""

    def vcpus(self, wanted: int) -> int:
        """As many of the wanted vCPUs as a machine can have."""
        return min(wanted, self.most_vcpus or wanted)

    def memory_mib(self, wanted_mib: int) -> int:
        """As much memory as a machine can have that is to have at least this much."""
        return -(-wanted_mib // self.memory_step_mib) * self.memory_step_mib


MACHINES = {
    machine.arch: machine
    for machine in (
        Machine(
            arch="amd64",
            qemu_arch="x86_64",
            libvirt_arch="x86_64",
            machine_type="q35",
            cpu="max",
            console="ttyS0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="SeaBIOS",
            has_acpi=True,
            is_pc=True,
        ),
        Machine(
            arch="i386",
            qemu_arch="x86_64",  # its kernel is amd64's, where it has none of its own
            libvirt_arch="x86_64",
            machine_type="q35",
            cpu="max",
            console="ttyS0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="SeaBIOS",
            kernel_options="personality=linux32",  # for our init: programs see an i686, whatever the kernel is
            has_acpi=True,
            is_pc=True,
        ),
        Machine(
            arch="arm64",
            qemu_arch="aarch64",
            libvirt_arch="aarch64",
            machine_type="virt",
            cpu="cortex-a72",  # not `max`: to emulate its signed pointers takes four times as long
            console="ttyAMA0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="",
        ),
        Machine(
            arch="armhf",
            qemu_arch="arm",
            libvirt_arch="armv7l",
            machine_type="virt",
            cpu="cortex-a15",
            console="ttyAMA0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="",
        ),
        Machine(
            arch="armel",
            qemu_arch="arm",
            libvirt_arch="armv7l",
            machine_type="virt",
            cpu="cortex-a15",  # its kernel is armhf's: those of its own are for boards without virtio
            console="ttyAMA0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="",
        ),
        Machine(
            arch="riscv64",
            qemu_arch="riscv64",
            libvirt_arch="riscv64",
            machine_type="virt",
            cpu="rva23s64",  # not `max`: QEMU 10.0 forgets the state of its Smrnmi when it saves a machine
            console="ttyS0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="OpenSBI",
        ),
        Machine(
            arch="ppc64el",
            qemu_arch="ppc64le",
            libvirt_arch="ppc64le",
            machine_type="pseries",
            cpu="POWER9",
            console="hvc0",
            transport="pci",
            modules=_ON_PCI,
            firmware_text="SLOF",
            boot_options="x-vof=on",  # SLOF, emulated, takes longer to come to the kernel than all the rest of a boot
            memory_step_mib=256,
        ),
        Machine(
            arch="s390x",
            qemu_arch="s390x",
            libvirt_arch="s390x",
            machine_type="s390-ccw-virtio",
            cpu="max",
            console="ttysclp0",
            transport="ccw",
            modules=_ON_CCW,
            firmware_text="LOADPARM=",
        ),
        Machine(
            arch="mips64el",
            qemu_arch="mips64el",
            libvirt_arch="mips64el",
            machine_type="malta",
            cpu="MIPS64R2-generic",
            cpu_by_argument=True,
            console="ttyS0",
            transport="pci",
            most_vcpus=1,  # of several, its kernel does not come up
            slots=(11, 12, 18, 19, 20, 21),  # arch/mips/pci/fixup-malta.c of the kernel
            modules=_ON_PCI,
            firmware_text="",
        ),
        Machine(
            arch="loong64",
            qemu_arch="loongarch64",
            libvirt_arch="loongarch64",
            machine_type="virt",
            cpu="la464",
            console="ttyS0",
            transport="pcie",
            modules=_ON_PCI,
            firmware_text="",
            # Debian's kernel finds PCI by ACPI only, and ACPI's tables come from UEFI.
            has_acpi=True,
            firmware=Firmware("qemu-efi-loongarch64", "usr/share/qemu-efi-loongarch64/QEMU_EFI.fd"),
        ),
    )
}


_PC_MODELS = r"(?!486|athlon|coreduo|kvm32|n270|pentium|qemu32|base|host).+(?<!-v\d)"
CPU_MODELS = {
    "amd64": _PC_MODELS,
    "i386": _PC_MODELS,
    "arm64": r"max|a64fx|cortex-a(3|5[357]|7.).*|neoverse-.*",
    "armhf": r"max|cortex-a(7|8|9|15)",
    "armel": r"max|cortex-a(7|8|9|15)",
    "riscv64": r"max|rv64|rva.*s64|sifive-u54|thead-.*|tt-.*|veyron-.*|xiangshan-.*",
    "ppc64el": r"power(8|9|10|11)",
    "s390x": r"max|qemu|(z|gen)1.*(?<!-base)",
    "mips64el": r"MIPS64R2-generic|mips64dspr2|I6.00|Octeon68XX",
    "loong64": r"la464|max",
}
"""An architecture -> a regular expression of those of QEMU's CPU models that can be asked for.

Versions (`EPYC-v2`) are not among them: they are QEMU's alone, and libvirt knows few.
"""


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
