from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from farm.errors import PlanError
from farm.matrix import expansion
from farm.model import (
    AttemptKey,
    Cell,
    Expansion,
    Host,
    Matrix,
    Offer,
    Phase,
    Placement,
    Plan,
    ResolvedSource,
    Submission,
)
from farm.orders import order_for
from farm.planner import plan

QEMU = tuple(Offer(hypervisor="qemu", arch=arch, emulated=True) for arch in ("amd64", "riscv64", "s390x"))
KVM = Offer(hypervisor="kvm", arch="amd64", emulated=False)
XEN = Offer(hypervisor="xen-hvm", arch="amd64", emulated=False)
DEAD_KVM = KVM.model_copy(update={"problem": "a guest did not start"})


def host(name: str, *offers: Offer, vcpus: int = 4, memory_mib: int = 8192) -> Host:
    return Host(name=name, uri="test:///", vcpus=vcpus, memory_mib=memory_mib, offers=offers)


def matrix_of(**more: Any) -> Matrix:
    axes = {"image": ["debian-13"], "arch": ["amd64", "riscv64"], "bug": ["off", "on"]}
    return Matrix.model_validate({"name": "x", "axes": axes, "test": "x"} | more)


def planned(*hosts: Host, only: Sequence[str] = (), durations: Mapping[str, float] | None = None, **more: Any) -> Plan:
    matrix = matrix_of(**more)
    return plan(matrix, expansion(matrix), hosts, only=only, durations=durations or {})


def placed(arch: str, hypervisor: str, *hosts: Host, **guest: Any) -> Placement:
    axes = {"image": ["a"], "arch": [arch], "hypervisor": [hypervisor]}
    (placement,) = planned(*hosts, axes=axes, guest=guest).placements
    return placement


FIRST = host("first", KVM, *QEMU)
SECOND = host("second", *QEMU)
THIRD = host("third", DEAD_KVM, *QEMU)
XENON = host("xenon", XEN, *QEMU)
BOTH = host("both", XEN, KVM)

FITS: dict[str, tuple[tuple[str, str], tuple[Host, ...], tuple[str, bool, tuple[str, ...]]]] = {
    "auto takes the host's first": (("amd64", "auto"), (FIRST,), ("kvm", False, ("first",))),
    "auto leaves out what cannot be used": (("amd64", "auto"), (THIRD,), ("qemu", True, ("third",))),
    "auto takes the fastest of all hosts": (("amd64", "auto"), (SECOND, XENON, FIRST), ("kvm", False, ("first",))),
    "auto for a foreign architecture": (("s390x", "auto"), (FIRST, SECOND), ("qemu", True, ("first", "second"))),
    "what is asked for is had": (("amd64", "qemu"), (FIRST, SECOND), ("qemu", True, ("first", "second"))),
    "the order in which a host names its ways is no matter": (("amd64", "auto"), (BOTH,), ("kvm", False, ("both",))),
}


@pytest.mark.parametrize("case", FITS)
def test_a_cell_goes_where_it_fits(case: str) -> None:
    asked, hosts, expected = FITS[case]
    placement = placed(*asked, *hosts)
    assert (placement.hypervisor, placement.emulated, placement.hosts) == expected
    assert placement.problem == ""


def test_a_scripted_guest_is_only_for_those_who_ask() -> None:
    fake = host("fake", Offer(hypervisor="fake", arch="amd64", emulated=False, scripted=True))
    assert placed("amd64", "fake", fake).hosts == ("fake",)
    assert placed("amd64", "auto", fake).hosts == ()


MODELS = host(
    "models",
    Offer(hypervisor="qemu", arch="amd64", emulated=True, version="10.0", cpu="max", cpus=("max", "EPYC", "qemu64")),
    Offer(hypervisor="bochs", arch="amd64", emulated=True, cpu="ryzen", cpus=("ryzen", "tigerlake")),
    KVM.model_copy(update={"cpu": "host-passthrough"}),
)


def with_cpu(hypervisor: str, cpu: str, *hosts: Host) -> Placement:
    axes = {"image": ["a"], "arch": ["amd64"], "hypervisor": [hypervisor], "cpu": [cpu]}
    (placement,) = planned(*hosts, axes=axes).placements
    return placement


@pytest.mark.parametrize(
    ("hypervisor", "cpu", "expected"),
    [
        ("auto", "EPYC", "qemu"),
        ("auto", "auto", "kvm"),
        ("auto", "host-passthrough", "kvm"),
        ("bochs", "tigerlake", "bochs"),
        ("qemu", "max", "qemu"),
    ],
)
def test_a_cell_that_asks_for_a_cpu_goes_where_there_is_that(hypervisor: str, cpu: str, expected: str) -> None:
    placement = with_cpu(hypervisor, cpu, FIRST, MODELS)
    assert placement.hypervisor == expected
    assert "models" in placement.hosts
    assert placement.cell.id == f"a/amd64/{hypervisor}/{cpu}"


def test_an_order_names_the_cpu_and_the_hosts_that_have_it() -> None:
    axes = {"image": ["a"], "arch": ["amd64"], "cpu": ["EPYC", "auto"]}
    made = planned(FIRST, MODELS, axes=axes)
    submission = Submission(plan=made, source=SOURCE)
    orders = {p.cell.id: order_for(submission, p, KEY) for p in made.placements}
    assert (orders["a/amd64/EPYC"].cpu, orders["a/amd64/EPYC"].only) == ("EPYC", ("models",))
    assert orders["a/amd64/EPYC"].env["FARM_CPU"] == "EPYC"
    assert (orders["a/amd64/auto"].cpu, orders["a/amd64/auto"].only) == ("", ())


@pytest.mark.parametrize(
    ("guest", "only"),
    [
        ({}, ()),
        ({"network": "open"}, ()),
        ({"network": "bridge"}, ("able",)),
        ({"network-bandwidth": "1M"}, ("able",)),
        ({"disk-bandwidth": "1M"}, ("able",)),
    ],
)
def test_an_order_names_the_hosts_that_have_its_network_and_its_limits(
    guest: dict[str, str], only: tuple[str, ...]
) -> None:
    offer = Offer(hypervisor="qemu", arch="amd64", emulated=True, limits=())
    has = {"networks": ("isolated", "open", "bridge"), "limits": ("disk-bandwidth", "network-bandwidth")}
    hosts = (host("able", offer.model_copy(update=has)), host("other", offer))
    made = planned(*hosts, axes={"image": ["a"], "arch": ["amd64"]}, guest=guest)
    (placement,) = made.placements
    assert order_for(Submission(plan=made, source=SOURCE), placement, KEY).only == only


@pytest.mark.parametrize(
    ("hypervisor", "cpu", "hosts", "problem"),
    [
        (
            "auto",
            "EPIC",
            (FIRST, MODELS),
            "no host knows the CPU model 'EPIC' for amd64; did you mean 'EPYC'?",
        ),
        (
            "qemu",
            "tigerlake",
            (MODELS,),
            "no host knows the CPU model 'tigerlake' for amd64; bochs has it, where it is asked for by name",
        ),
        (
            "qemu",
            "z80",
            (MODELS,),
            "no host knows the CPU model 'z80' for amd64; known: EPYC, max, qemu64",
        ),
    ],
)
def test_a_cpu_that_no_host_has_is_told(hypervisor: str, cpu: str, hosts: tuple[Host, ...], problem: str) -> None:
    assert with_cpu(hypervisor, cpu, *hosts).problem == problem


def test_bochs_and_containers_are_only_for_those_who_ask() -> None:
    lxc = Offer(hypervisor="lxc", arch="amd64", emulated=False, container=True)
    assert placed("amd64", "auto", host("x", lxc, MODELS.offers[1])).hosts == ()
    assert placed("amd64", "lxc", host("x", lxc)).hosts == ("x",)


MISFITS: dict[str, tuple[tuple[str, str], tuple[Host, ...], dict[str, Any], str]] = {
    "no hosts": (("amd64", "auto"), (), {}, "there is no host"),
    "an unknown architecture": (
        ("risv64", "auto"),
        (FIRST,),
        {},
        "no host knows the architecture 'risv64'; did you mean 'riscv64'?",
    ),
    "an architecture like no other": (
        ("m68k", "auto"),
        (FIRST,),
        {},
        "no host knows the architecture 'm68k'; known: amd64, riscv64, s390x",
    ),
    "an unknown hypervisor": (
        ("amd64", "qmeu"),
        (FIRST,),
        {},
        "no host knows the hypervisor 'qmeu'; did you mean 'qemu'?",
    ),
    "another architecture": (
        ("s390x", "kvm"),
        (FIRST, XENON),
        {},
        "no host fits: first runs s390x with qemu, not kvm; xenon runs s390x with qemu, not kvm",
    ),
    "a hypervisor that cannot be used": (
        ("amd64", "kvm"),
        (THIRD, SECOND),
        {},
        "no host fits: third kvm cannot be used (a guest did not start); second runs amd64 with qemu, not kvm",
    ),
    "an architecture of another host": (
        ("s390x", "auto"),
        (BOTH, host("dead", *(offer.model_copy(update={"problem": "too old"}) for offer in QEMU))),
        {},
        "no host fits: both cannot run s390x (only amd64); dead qemu cannot be used (too old)",
    ),
    "a host without anything": (
        ("amd64", "kvm"),
        (host("bare"), host("dead", DEAD_KVM)),
        {},
        "no host fits: bare offers nothing with kvm; dead kvm cannot be used (a guest did not start)",
    ),
    "too much memory": (
        ("amd64", "auto"),
        (FIRST,),
        {"memory": "16G"},
        "no host fits: first has 8192 MiB for guests, not 16384",
    ),
    "a network that cannot be limited": (
        ("s390x", "qemu"),
        (FIRST,),
        {"network-bandwidth": "10M"},
        (
            "no host fits: first qemu cannot limit network-bandwidth there (QEMU's user network has no limiter; kvm and"
            " qemu of a libvirtd have: qemu:///system)"
        ),
    ),
    "a network that is not there": (
        ("s390x", "auto"),
        (FIRST,),
        {"network": "bridge"},
        (
            "no host fits: first qemu has no network 'bridge' there (only hosts with a libvirtd have, whose owner has"
            " named one: FARM_HOST_BRIDGE)"
        ),
    ),
    "a limit that no host can keep": (
        ("amd64", "auto"),
        (FIRST.model_copy(update={"cpu_limit_problem": "only root may"}),),
        {"cpu": "50%"},
        "no host fits: first cannot limit the CPU of a guest (only root may)",
    ),
    "a limit that no host has tried": (
        ("amd64", "auto"),
        (FIRST,),
        {"cpu": "50%"},
        "no host fits: first cannot limit the CPU of a guest (it has not been tried)",
    ),
    "too many vcpus": (("amd64", "auto"), (FIRST,), {"vcpus": 8}, "no host fits: first has 4 vcpus for guests, not 8"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_cell_that_fits_nowhere_says_why(case: str) -> None:
    asked, hosts, guest, problem = MISFITS[case]
    placement = placed(*asked, *hosts, **guest)
    assert (placement.hosts, placement.hypervisor) == ((), "")
    assert placement.problem == problem


def test_memory_counts_host_by_host() -> None:
    small = host("small", KVM, memory_mib=256)
    assert placed("amd64", "auto", small, SECOND).hosts == ("second",)


def test_a_limit_of_the_cpu_goes_where_it_can_be_kept() -> None:
    able = SECOND.model_copy(update={"cpu_limit_problem": ""})
    assert placed("s390x", "auto", FIRST, able, cpu="50%").hosts == ("second",)
    assert placed("s390x", "auto", FIRST, able, **{"disk-bandwidth": "20M"}).hosts == ("first", "second")


def test_a_plan_carries_what_was_excluded_and_the_warnings() -> None:
    matrix = matrix_of(exclude=[{"bug": "on"}, {"bug": "maybe"}])
    expanded = expansion(matrix)
    made = plan(matrix, expanded, (FIRST,))
    assert (made.matrix, made.excluded, made.warnings) == (matrix, expanded.excluded, expanded.warnings)
    assert len(made.excluded) == 2
    assert len(made.warnings) == 1


def test_only_the_cells_asked_for_are_planned() -> None:
    made = planned(FIRST, only=("*/riscv64", "**/bug=on"))
    assert {placement.cell.id for placement in made.placements} == {
        "debian-13/amd64/bug=on",
        "debian-13/riscv64/bug=off",
        "debian-13/riscv64/bug=on",
    }


def test_a_plan_without_cells_is_an_error() -> None:
    with pytest.raises(PlanError, match="cannot plan 'x': it has no cells"):
        plan(matrix_of(), Expansion(cells=()), (FIRST,))


def order_of(*hosts: Host, **more: Any) -> list[str]:
    return [placement.cell.id.removeprefix("debian-13/") for placement in planned(*hosts, **more).placements]


def test_emulated_cells_start_first_and_one_of_each_image_leads() -> None:
    assert order_of(FIRST) == ["riscv64/bug=off", "amd64/bug=off", "riscv64/bug=on", "amd64/bug=on"]


def test_among_equals_the_order_is_that_of_the_file() -> None:
    assert order_of(SECOND) == ["amd64/bug=off", "riscv64/bug=off", "amd64/bug=on", "riscv64/bug=on"]


def test_the_longest_cells_start_first_behind_the_leader_of_each_image() -> None:
    durations = {
        "debian-13/amd64/bug=off": 10.0,
        "debian-13/amd64/bug=on": 300.0,
        "debian-13/riscv64/bug=off": 100.0,
        "debian-13/riscv64/bug=on": 200.0,
    }
    assert order_of(FIRST, durations=durations) == [
        "amd64/bug=on",
        "riscv64/bug=on",
        "riscv64/bug=off",
        "amd64/bug=off",
    ]


def test_a_cell_of_unknown_duration_may_be_the_longest() -> None:
    durations = {"debian-13/amd64/bug=off": 10.0, "debian-13/riscv64/bug=off": 100.0, "debian-13/riscv64/bug=on": 1.0}
    assert order_of(FIRST, durations=durations)[0] == "amd64/bug=on"


def test_cells_that_fit_nowhere_come_last() -> None:
    native_only = host("native", KVM)
    assert order_of(native_only) == ["amd64/bug=off", "amd64/bug=on", "riscv64/bug=off", "riscv64/bug=on"]


def test_planning_twice_gives_the_same_plan() -> None:
    assert planned(FIRST, SECOND) == planned(FIRST, SECOND)


SOURCE = ResolvedSource(kind="folder", description=".", digest="d" * 64, archive="tree.tar", files=1, bytes=1)
KEY = AttemptKey(run="x-3", cell="debian-13/amd64/bug=on", number=2)


def submitted(**more: Any) -> tuple[Submission, Placement]:
    made = planned(FIRST, only=("debian-13/amd64/bug=on",), **more)
    return Submission(plan=made, source=SOURCE, hold_on_failure_s=90.0), made.placements[0]


def test_an_order_says_all_that_a_worker_needs() -> None:
    more: dict[str, Any] = {"build": "make", "prepare": " \n", "guest": {"vcpus": 2}, "timeouts": {"boot": "9s"}}
    order = order_for(*submitted(**more, collect={"junit": ["*.xml"]}), KEY)
    assert (order.key, order.image.name, order.arch, order.hypervisor) == (KEY, "debian-13", "amd64", "kvm")
    assert order.scripts == {Phase.BUILD: "make", Phase.TEST: "x"}
    assert (order.guest.vcpus, order.timeouts.boot, order.collect.junit) == (2, 9.0, ("*.xml",))
    assert (order.source_digest, order.hold_on_failure_s) == (SOURCE.digest, 90.0)


def test_scripts_find_the_cell_in_their_environment() -> None:
    include = [{"arch": "amd64", "build-type": "debug", "hypervisor": "auto", "level": 3, "strict": True}]
    order = order_for(*submitted(include=include, env={"LC_ALL": "C", "JOBS": 2, "CI": True}), KEY)
    assert order.env == {
        "FARM_CELL": "debian-13/amd64/bug=on",
        "FARM_RUN": "x-3",
        "FARM_ATTEMPT": "2",
        "FARM_IMAGE": "debian-13",
        "FARM_ARCH": "amd64",
        "FARM_HYPERVISOR": "kvm",
        "FARM_CPU": "auto",
        "FARM_WITH": "none",
        "BUG": "on",
        "BUILD_TYPE": "debug",
        "LEVEL": "3",
        "STRICT": "true",
        "LC_ALL": "C",
        "JOBS": "2",
        "CI": "true",
    }


def test_a_cell_by_hand_is_planned_like_any_other() -> None:
    cell = Cell(id="a/amd64", values={"image": "a", "arch": "amd64"})
    (placement,) = plan(matrix_of(), Expansion(cells=(cell,)), (FIRST,)).placements
    assert placement == Placement(cell=cell, hypervisor="kvm", emulated=False, hosts=("first",))


LAYERS = {"db": {"script": "initdb"}, "gcc": {"packages": ["gcc-12"]}}


def test_scripts_find_the_layers_in_their_environment() -> None:
    include = [{"arch": "amd64", "with": "gcc+db"}]
    order = order_for(*submitted(include=include, layers=LAYERS), KEY)
    assert order.env["FARM_WITH"] == "gcc+db"
    assert [layer.name for layer in order.image.layers] == ["gcc", "db"]


def test_one_cell_of_each_image_starts_first_and_layers_make_another_image() -> None:
    axes = {"image": ["debian-13"], "arch": ["amd64"], "n": [1, 2], "with": ["none", "db", "gcc"]}
    cells = [placement.cell.layers for placement in planned(FIRST, axes=axes, layers=LAYERS).placements]
    assert sorted(cells[:3]) == [(), ("db",), ("gcc",)]
