"""The domains, byte for byte: tests/data/domains holds them as they are meant to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runners.libvirt.hypervisors import KVM, QEMU
from runners.libvirt.xml import Disk, DomainSpec, Kernel, domain_xml
from runners.machines import MACHINES

GOLDEN = Path(__file__).parents[1] / "data/domains"
GUEST = DomainSpec(
    name="farm-1",
    uuid="00000000-0000-4000-8000-000000000001",
    owner="host:owner:run/cell#1",
    hypervisor=QEMU,
    machine=MACHINES["amd64"],
    vcpus=2,
    memory_mib=512,
    console=Path("/g/console.log"),
    kernel=Kernel(Path("/i/kernel"), Path("/i/initrd"), "console=ttyS0 <&>"),
    disks=(Disk("farm-root", Path("/g/disk.qcow2"), "qcow2"), Disk("farm-seed", Path("/g/seed.tar"), "raw", True)),
    network="isolated",
)
CASES = {
    **{f"qemu-{arch}": replace(GUEST, machine=machine) for arch, machine in MACHINES.items()},
    "kvm-amd64": replace(GUEST, hypervisor=KVM),
    "firmware-amd64": replace(GUEST, kernel=None, disks=(), network=""),
}


@pytest.mark.parametrize("name", CASES)
def test_a_domain_is_what_its_golden_file_says(name: str) -> None:
    assert domain_xml(CASES[name]) + "\n" == (GOLDEN / f"{name}.xml").read_text()


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.xml")} == set(CASES)


def test_an_open_network_is_not_restricted_and_an_isolated_one_is() -> None:
    assert "restrict=on" in domain_xml(GUEST)
    assert "restrict" not in domain_xml(replace(GUEST, network="open"))


def test_the_owner_is_in_the_metadata() -> None:
    assert 'owner="host:owner:run/cell#1"' in domain_xml(GUEST)
