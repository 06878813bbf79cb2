"""The table of hypervisors, and what of it goes into a guest."""

from __future__ import annotations

import libvirt
import pytest

from farm.errors import FullError, HostError, HypervisorError
from runners.libvirt.connection import hypervisor_errors
from runners.libvirt.hypervisors import HYPERVISORS, KVM, XEN_HVM, XEN_PV


@pytest.mark.parametrize(
    ("name", "cmdline"),
    [
        ("kvm", "console=ttyS0 rw"),
        ("xen-pv", "console=hvc0 rw"),
        ("xen-pvh", "console=hvc0 rw"),
        ("xen-hvm", "console=ttyS0 rw"),
    ],
)
def test_a_kernel_s_console_is_the_one_that_the_hypervisor_has(name: str, cmdline: str) -> None:
    assert HYPERVISORS[name].console_of("console=ttyS0 rw") == cmdline


def test_each_row_is_found_by_its_name() -> None:
    assert {name: row.name for name, row in HYPERVISORS.items()} == {name: name for name in HYPERVISORS}


def test_where_there_is_no_firmware_no_disk_is_booted_from() -> None:
    assert [row.name for row in HYPERVISORS.values() if row.own_disk is None] == ["xen-pvh", "xen-pv", "lxc"]


def test_only_what_has_the_host_s_kernel_is_a_container() -> None:
    assert [row.name for row in HYPERVISORS.values() if row.container] == ["lxc"]


def test_limits_that_a_driver_does_not_have_are_not_in_its_row() -> None:
    assert KVM.limits == {"cpu", "disk-bandwidth", "network-bandwidth"}
    assert XEN_HVM.limits == XEN_PV.limits == frozenset()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("internal error: cannot set up guest memory 'pc.ram': Cannot allocate memory", FullError),
        ("cannot write to console.log: No space left on device", FullError),
        ("unsupported configuration: CPU model not found", HypervisorError),
    ],
)
def test_a_host_that_is_full_is_told_from_one_that_refuses(said: str, kind: type[HostError]) -> None:
    with pytest.raises(HostError, match="cannot start a guest: ") as caught, hypervisor_errors("start a guest"):
        raise libvirt.libvirtError(said)
    assert type(caught.value) is kind
