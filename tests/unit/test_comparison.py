"""Hypervisors beside each other."""

from __future__ import annotations

import math

import pytest

from farm.comparison import header, markdown, rows, stars
from farm.model import GuestFacts, Offer, Slowness, Trial, Tried


def tried(boot_s: float) -> Tried:
    facts = GuestFacts(
        host="h",
        hypervisor="kvm",
        hypervisor_version="10",
        emulated=False,
        machine="q35",
        cpu="host",
        image="debian-13/amd64",
        image_digest="0",
        vcpus=1,
        memory_mib=512,
    )
    return Tried(facts=facts, provision_s=1, boot_s=boot_s, connect_s=1, step_s=0.01, taken_mib=100, destroy_s=0.1)


def trial(name: str, *boots_s: float, problem: str = "") -> Trial:
    return Trial(
        host="h",
        offer=Offer(hypervisor=name, arch="amd64", emulated=name == "qemu", version="10"),
        guests=tuple(map(tried, boots_s)),
        slowness=None if problem else Slowness(cpu=1.0, fork=8.0 if name == "qemu" else 1.0, disk=1.0),
        problem=problem,
    )


@pytest.mark.parametrize(("value", "count"), [(1.0, 5), (1.4, 5), (2.0, 4), (4.0, 3), (8.0, 2), (16.0, 1), (999.0, 1)])
def test_each_doubling_costs_a_star_and_one_is_left_to_everybody(value: float, count: int) -> None:
    assert stars(value, 1.0, 0.1) == "★" * count + "☆" * (5 - count)


def test_what_is_below_the_least_is_as_good_as_that() -> None:
    assert stars(0.09, 0.001, 0.1) == "★★★★★"
    assert stars(-5.0, -200.0, 32.0) == "★★★★★"


def test_what_was_not_measured_has_no_stars() -> None:
    assert stars(math.nan, 1.0, 0.1) == ""


def test_a_row_has_the_middle_of_the_guests() -> None:
    kvm, qemu = rows([trial("kvm", 1.0, 9.0, 2.0), trial("qemu", 8.0, 8.0)])
    boot = header().index("boot")
    assert (kvm[0], kvm[boot]) == ("kvm 10 on h", "★★★★★ 2.0 s")
    assert (qemu[0], qemu[boot]) == ("qemu 10 on h, emulated", "★★★☆☆ 8.0 s")
    assert qemu[header().index("fork")] == "★★☆☆☆ 8.0×"


def test_one_without_figures_says_why() -> None:
    (row,) = rows([trial("lxc", problem="no libvirtd | there")])
    assert row[:2] == ["lxc 10 on h", "no figures: no libvirtd | there"]
    assert len(row) == len(header())
    table = markdown([trial("lxc", problem="no libvirtd | there")]).splitlines()
    assert {line.count("|") for line in table} == {len(header()) + 1}
