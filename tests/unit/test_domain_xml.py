"""The domains, byte for byte: tests/data/domains holds them as they are meant to be."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runners.hosts.network import Attachment
from runners.libvirt.elements import Disk, Kernel, Limits
from runners.libvirt.hypervisors import HYPERVISORS, KVM, LXC, QEMU, XEN_HVM, Hypervisor
from runners.libvirt.system_xml import Programs, SystemSpec, system_xml
from runners.libvirt.xml import DomainSpec, domain_xml
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
EMBEDDED = {
    **{f"qemu-{arch}": replace(GUEST, machine=machine) for arch, machine in MACHINES.items()},
    "kvm-amd64": replace(GUEST, hypervisor=KVM),
    "limited-s390x": replace(GUEST, machine=MACHINES["s390x"], limits=Limits(150, 20 * 1024 * 1024)),
    "firmware-amd64": replace(GUEST, kernel=None, disks=(), network=""),
    "firmware-ppc64el": replace(GUEST, machine=MACHINES["ppc64el"], kernel=None, disks=(), network=""),
    "model-amd64": replace(GUEST, cpu="EPYC"),
    "kernel-by-firmware-loong64": replace(
        GUEST,
        machine=MACHINES["loong64"],
        kernel=Kernel(Path("/i/kernel"), Path("/i/initrd"), "console=ttyS0", firmware=Path("/i/firmware")),
    ),
}


def behind(hypervisor: Hypervisor) -> SystemSpec:
    """A guest as a libvirtd is to make it."""
    return SystemSpec(
        name="farm-1",
        uuid="00000000-0000-4000-8000-000000000001",
        owner="host:owner:run/cell#1",
        farm="0123456789abcdef",
        ledger="/r/ledger/owner.jsonl",
        hypervisor=hypervisor,
        machine=MACHINES["amd64"],
        vcpus=2,
        memory_mib=512,
        programs=Programs(f"/usr/lib/{hypervisor.driver}", "/usr/lib/hvmloader" if hypervisor is XEN_HVM else ""),
        mac="52:54:00:00:00:01",
        attachment=Attachment("farm-nat", "farm-nat"),
        **CONTAINER if hypervisor.container else MACHINE,
    )


MACHINE: Any = {
    "kernel": Kernel(Path("/i/kernel"), Path("/i/initrd"), "console=ttyS0 <&>"),
    "disks": (
        Disk("farm-root", Path("/g/disk"), "qcow2"),
        Disk("farm-seed", Path("/g/seed"), "raw", read_only=True),
    ),
}
CONTAINER: Any = {"root": Path("/g/root")}
LIMITED = Limits(150, 20 * 1024 * 1024, 10 * 1024 * 1024)
SYSTEM = {
    **{f"system-{name}": behind(hypervisor) for name, hypervisor in HYPERVISORS.items()},
    "system-own-disk-kvm": replace(behind(KVM), kernel=None),
    "system-own-disk-xen-hvm": replace(behind(XEN_HVM), kernel=None),
    "system-limited-kvm": replace(behind(KVM), limits=LIMITED),
    "system-limited-lxc": replace(behind(LXC), limits=replace(LIMITED, disk_bytes_per_s=None)),
    "system-qemu-arm64": replace(behind(QEMU), machine=MACHINES["arm64"]),
    "system-qemu-model": replace(behind(QEMU), cpu="Haswell", attachment=Attachment("br0")),
}
TEXTS = {name: domain_xml(spec) for name, spec in EMBEDDED.items()} | {
    name: system_xml(spec) for name, spec in SYSTEM.items()
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_domain_is_what_its_golden_file_says(name: str) -> None:
    assert TEXTS[name] + "\n" == (GOLDEN / f"{name}.xml").read_text()


def test_there_is_no_golden_file_without_a_case() -> None:
    assert {file.stem for file in GOLDEN.glob("*.xml")} == set(TEXTS)


@pytest.mark.parametrize("name", TEXTS)
def test_libvirt_s_own_schema_knows_everything_in_it(name: str) -> None:
    argv = ["virt-xml-validate", str(GOLDEN / f"{name}.xml"), "domain"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_guest_behind_a_libvirtd_names_the_farm_that_may_destroy_it() -> None:
    assert all('farm="0123456789abcdef"' in TEXTS[name] for name in SYSTEM)


def test_root_of_a_container_is_nobody_on_its_host() -> None:
    assert re.search(r'<uid start="0" target="[1-9]\d{5,}"', TEXTS["system-lxc"])


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
