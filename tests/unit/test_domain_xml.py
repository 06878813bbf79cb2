"""The domains, byte for byte: tests/data/domains holds them as they are meant to be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from runners.libvirt.hypervisors import KVM, QEMU
from runners.libvirt.xml import Disk, DomainSpec, Kernel, Limits, domain_xml
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
    "limited-s390x": replace(GUEST, machine=MACHINES["s390x"], limits=Limits(150, 20 * 1024 * 1024)),
    "firmware-amd64": replace(GUEST, kernel=None, disks=(), network=""),
    "firmware-ppc64el": replace(GUEST, machine=MACHINES["ppc64el"], kernel=None, disks=(), network=""),
    "kernel-by-firmware-loong64": replace(
        GUEST,
        machine=MACHINES["loong64"],
        kernel=Kernel(Path("/i/kernel"), Path("/i/initrd"), "console=ttyS0", firmware=Path("/i/firmware")),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_domain_is_what_its_golden_file_says(name: str) -> None:
    assert domain_xml(CASES[name]) + "\n" == (GOLDEN / f"{name}.xml").read_text()


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.xml")} == set(CASES)


@pytest.mark.parametrize("arch", [arch for arch, machine in MACHINES.items() if machine.slots])
def test_where_slots_matter_no_two_devices_have_the_same_and_all_are_wired(arch: str) -> None:
    text = domain_xml(replace(GUEST, machine=MACHINES[arch]))
    taken = [int(slot, 16) for slot in re.findall(r"(?:slot=\"|addr=)(0x\w+)", text)]
    assert len(taken) == len(GUEST.disks) + 2  # the source of randomness, the network card
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(MACHINES[arch].slots)


def test_an_open_network_is_not_restricted_and_an_isolated_one_is() -> None:
    assert "restrict=on" in domain_xml(GUEST)
    assert "restrict" not in domain_xml(replace(GUEST, network="open"))


def test_the_owner_is_in_the_metadata() -> None:
    assert 'owner="host:owner:run/cell#1"' in domain_xml(GUEST)


def test_each_limit_stands_alone() -> None:
    slow_cpu = domain_xml(replace(GUEST, limits=Limits(cpu_percent=5)))
    assert "<global_quota>5000</global_quota>" in slow_cpu
    assert "iotune" not in slow_cpu
    slow_disk = domain_xml(replace(GUEST, limits=Limits(disk_bytes_per_s=65536)))
    assert slow_disk.count("<total_bytes_sec>65536</total_bytes_sec>") == 1  # what the farm itself reads from is free
    assert "cputune" not in slow_disk
