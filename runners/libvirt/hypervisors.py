"""The hypervisors that libvirt's QEMU driver offers, as a table of their differences."""

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class Hypervisor:
    """A row of the table."""

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


KVM = Hypervisor("kvm", domain_type="kvm", emulated=False, cpu="host-passthrough", any_arch=False, node="/dev/kvm")
QEMU = Hypervisor("qemu", domain_type="qemu", emulated=True, cpu=None, any_arch=True)

FASTEST_FIRST = (KVM, QEMU)

_DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}


def native_arch() -> str:
    """The architecture of this host, by Debian's name."""
    machine = platform.machine()
    return _DEBIAN_NAMES.get(machine, machine)
