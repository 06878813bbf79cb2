"""The hypervisors that libvirt drives, as a table of their differences."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from typing import Literal

Limit = Literal["cpu", "disk-bandwidth", "network-bandwidth"]
"""What a guest may be denied, as the matrix says it."""


@dataclass(frozen=True)
class Bus:
    """How disks are attached: libvirt's name, and how the guest's kernel calls the disks."""

    name: str
    prefix: str


VIRTIO = Bus("virtio", "vd")
XEN = Bus("xen", "xvd")
SATA = Bus("sata", "sd")


@dataclass(frozen=True)
class Hypervisor:
    """A row of the table. What is left out is as with QEMU."""

    name: str
    """As the matrix says it."""
    domain_type: str
    """`<domain type=…>`, https://libvirt.org/formatdomain.html."""
    emulated: bool
    cpu: str | None
    """The CPU model; None: the machine's own of `runners.machines`."""
    any_arch: bool
    """Runs guests of architectures other than the host's."""
    node: str = ""
    """The device it needs on the host."""
    driver: Literal["qemu", "xen", "lxc"] = "qemu"
    """Of libvirt: the first word of a URI."""
    os_type: str = "hvm"
    """What of the guest is virtual, `<os><type>`."""
    machine: str = ""
    """`<type machine=…>`; empty: the architecture's own of `runners.machines`."""
    container: bool = False
    """The guest has the host's kernel, and a folder for a disk."""
    disks: Bus = VIRTIO
    own_disk: Bus | None = VIRTIO
    """How a disk is attached that the guest's firmware is to boot from; None: it has no firmware."""
    block_devices: bool = False
    """Disks are block devices of the host, served by its kernel; otherwise files, by the guest's own QEMU."""
    card: str = "virtio"
    """The model of the network card."""
    console: str = ""
    """The console's device in the guest; empty: the architecture's own."""
    console_type: str = ""
    """`<console><target type=…>`; empty: as the machine has it."""
    cmdline: str = ""
    """More of a kernel's command line."""
    host_clock: bool = False
    """The time stamp counter is the host's own."""
    packed_kernel: bool = False
    """It starts a kernel only as Debian packs it, not the one that has been taken out of that."""
    emulators: tuple[str, ...] = ()
    loaders: tuple[str, ...] = ()
    """Where these are on hosts whose libvirt looks for them elsewhere: patterns of paths."""
    log: str = ""
    """The file on the host in which libvirt's driver says what its errors leave out."""
    paused: bool = True
    """A guest can be made that stands still until its console is listened to."""
    limits: frozenset[Limit] = frozenset({"cpu", "disk-bandwidth", "network-bandwidth"})
    """What libvirt's driver can limit."""

    def console_of(self, cmdline: str) -> str:
        """A kernel's command line, made for the machine of its architecture, with this console."""
        return re.sub(r"\bconsole=\w+", f"console={self.console}", cmdline) if self.console else cmdline


KVM = Hypervisor("kvm", domain_type="kvm", emulated=False, cpu="host-passthrough", any_arch=False, node="/dev/kvm")
QEMU = Hypervisor("qemu", domain_type="qemu", emulated=True, cpu=None, any_arch=True)

_LIBXL_LOG = "/var/log/libvirt/libxl/libxl-driver.log"

# libxl's scheduler `credit2` has no cap that libvirt could set, its disks no limit, and its network cards have one for
# what a guest sends only. Without the host's counter a PVH guest dies of RDTSCP.
XEN_HVM = Hypervisor(
    "xen-hvm",
    domain_type="xen",
    emulated=False,
    cpu="host",
    any_arch=False,
    driver="xen",
    machine="xenfv",
    disks=XEN,
    block_devices=True,  # a QEMU for the disks alone takes longer to come up than libxl waits for it on a busy host
    own_disk=SATA,  # as IDE, none came past its boot loader
    card="netfront",
    console="ttyS0",
    console_type="serial",
    cmdline="quiet",  # each character of its serial port is a trip to the emulator
    host_clock=True,
    packed_kernel=True,
    emulators=("/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen-*/bin/qemu-system-i386"),  # Debian's, older ones
    loaders=("/usr/lib/xen-*/boot/hvmloader",),
    log=_LIBXL_LOG,
    limits=frozenset(),
)
XEN_PVH = Hypervisor(
    "xen-pvh",
    domain_type="xen",
    emulated=False,
    cpu="host",
    any_arch=False,
    driver="xen",
    os_type="xenpvh",
    machine="xenpvh",
    disks=XEN,
    block_devices=True,  # a QEMU for the disks alone takes longer to come up than libxl waits for it on a busy host
    own_disk=None,
    card="netfront",
    console="hvc0",
    console_type="xen",
    host_clock=True,
    log=_LIBXL_LOG,
    limits=frozenset(),
)
XEN_PV = replace(XEN_PVH, name="xen-pv", os_type="xen", machine="xenpv")

LXC = Hypervisor(
    "lxc",
    domain_type="lxc",
    emulated=False,
    cpu="host",
    any_arch=False,
    driver="lxc",
    os_type="exe",
    container=True,
    own_disk=None,
    console="console",
    paused=False,
    limits=frozenset({"cpu", "network-bandwidth"}),
)

HYPERVISORS = {row.name: row for row in (KVM, QEMU, XEN_HVM, XEN_PVH, XEN_PV, LXC)}


"""Of the embedded driver."""

_DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}


def native_arch() -> str:
    """The architecture of this host, by Debian's name."""
    machine = platform.machine()
    return _DEBIAN_NAMES.get(machine, machine)
