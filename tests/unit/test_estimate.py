from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from farm.estimate import Forecast, Weights, capacity, expected_s, forecast
from farm.labels import host_of, labels_of
from farm.matrix import expansion
from farm.model import Cell, GuestSpec, Host, HostLook, Mark, Matrix, Offer, Placement, Plan, Slowness
from farm.planner import plan
from farm.tables import forecast_sentence, hosts_table, plan_table

ARCHS = ("amd64", "riscv64", "s390x")
FAST, SLOW = Slowness(cpu=4, fork=9, disk=1), Slowness(cpu=9, fork=16, disk=1)  # 6 and 12 in all
KVM = Offer(hypervisor="kvm", arch="amd64", emulated=False)


def qemu(arch: str, slowness: Slowness | None) -> Offer:
    return Offer(hypervisor="qemu", arch=arch, emulated=True, slowness=slowness)


def host(*offers: Offer, name: str = "one", vcpus: int = 2) -> Host:
    return Host(name=name, uri="test:///", vcpus=vcpus, memory_mib=8192, offers=offers)


HOST = host(KVM, qemu("riscv64", FAST), qemu("s390x", SLOW))


def planned(*hosts: Host, durations: dict[str, float] | None = None, only: tuple[str, ...] = (), **more: Any) -> Plan:
    axes = {"image": ["debian-13"], "arch": ["amd64", "riscv64", "s390x"], "bug": ["off", "on"]}
    matrix = Matrix.model_validate({"name": "x", "axes": axes, "test": "x"} | more)
    return plan(matrix, expansion(matrix), hosts, durations=durations, only=only)


def expectations(made: Plan) -> dict[str, float | None]:
    return {p.cell.id.removeprefix("debian-13/"): p.expected_s for p in made.placements}


def placement(seconds: float | None, number: int = 0, *, fits: bool = True) -> Placement:
    cell = Cell(id=str(number), values={"image": "a", "arch": "amd64"})
    return Placement(cell=cell, hosts=("one",) if fits else (), expected_s=seconds)


def test_a_cell_takes_what_it_took_before() -> None:
    found = expectations(planned(HOST, durations={"debian-13/riscv64/bug=off": 60.0}))
    assert found["riscv64/bug=off"] == 60.0


def test_a_cell_that_has_not_run_takes_what_the_same_takes_elsewhere_times_how_slow_it_is() -> None:
    found = expectations(planned(HOST, durations={"debian-13/riscv64/bug=off": 60.0}))
    assert found == {
        "riscv64/bug=off": 60.0,
        "s390x/bug=off": 120.0,
        "amd64/bug=off": 10.0,
        "riscv64/bug=on": None,
        "s390x/bug=on": None,
        "amd64/bug=on": None,
    }


def test_a_cell_that_is_not_chosen_tells_about_one_that_is() -> None:
    found = expectations(planned(HOST, durations={"debian-13/riscv64/bug=off": 60.0}, only=("*/s390x/bug=off",)))
    assert found == {"s390x/bug=off": 120.0}


def test_of_several_that_tell_the_middle_counts() -> None:
    offers = [*HOST.offers, qemu("arm64", FAST)]
    axes = {"image": ["debian-13"], "arch": ["amd64", "riscv64", "s390x", "arm64"]}
    durations = {"debian-13/riscv64": 60.0, "debian-13/s390x": 120.0, "debian-13/amd64": 100.0}
    assert expectations(planned(host(*offers), durations=durations, axes=axes))["arm64"] == 60.0


def test_nothing_is_guessed_from_a_guest_that_was_not_measured() -> None:
    unmeasured = host(KVM, qemu("riscv64", None), qemu("s390x", SLOW))
    found = expectations(planned(unmeasured, durations={"debian-13/riscv64/bug=off": 60.0}))
    assert [found[f"{arch}/bug=off"] for arch in ARCHS] == [None, 60.0, None]


def test_what_is_unknown_starts_first_and_the_slowest_of_that_before_the_others() -> None:
    order = list(expectations(planned(HOST, durations={"debian-13/s390x/bug=off": 1000.0})))
    assert order == [
        "s390x/bug=on",
        "riscv64/bug=on",
        "amd64/bug=on",
        "s390x/bug=off",
        "riscv64/bug=off",
        "amd64/bug=off",
    ]


positive = st.floats(0.5, 1000)
slownesses = st.builds(Slowness, cpu=positive, fork=positive, disk=positive)


@given(st.dictionaries(st.sampled_from(ARCHS), slownesses), st.dictionaries(st.sampled_from(ARCHS), positive))
def test_what_is_recorded_holds_and_what_is_estimated_lies_among_what_it_rests_on(
    measured: dict[str, Slowness], recorded: dict[str, float]
) -> None:
    one = host(*(qemu(arch, measured.get(arch)) for arch in ARCHS))
    cells = [Cell(id=arch, values={"image": "a", "arch": arch}) for arch in ARCHS]
    placements = [Placement(cell=cell, hypervisor="qemu", emulated=True, hosts=("one",)) for cell in cells]
    found = expected_s(placements, recorded, Weights((one,)))
    assert recorded.items() <= found.items()
    weights = {arch: (slow.cpu * slow.fork) ** 0.5 for arch, slow in measured.items()}
    for arch in set(found) - set(recorded):
        rests_on = [seconds * weights[arch] / weights[other] for other, seconds in recorded.items() if other in weights]
        assert min(rests_on) <= found[arch] * 1.000001
        assert found[arch] <= max(rests_on) * 1.000001


@given(st.lists(st.none() | positive, max_size=20), st.integers(1, 30))
def test_a_forecast_lies_between_its_bounds(seconds: list[float | None], slots: int) -> None:
    known = [s for s in seconds if s is not None]
    found = forecast([placement(s, number) for number, s in enumerate(seconds)], slots)
    assert (found.known, found.unknown) == (len(known), len(seconds) - len(known))
    assert max([*known, found.work_s / slots]) <= found.wall_s * 1.000001 if known else found.wall_s == 0.0
    assert found.wall_s <= found.work_s * 1.000001


def test_a_forecast_starts_cells_as_slots_come_free_and_leaves_out_what_fits_nowhere() -> None:
    placements = [placement(30.0), placement(20.0), placement(10.0), placement(None), placement(99.0, fits=False)]
    assert forecast(placements, 2) == Forecast(work_s=60.0, wall_s=30.0, known=3, unknown=1)
    assert forecast(placements, 1).wall_s == 60.0


def test_capacity_counts_host_by_host_what_guests_take() -> None:
    spec = GuestSpec(vcpus=2, memory="3G")
    assert capacity((host(KVM, vcpus=5), host(KVM, vcpus=9)), spec) == 4
    assert capacity((host(KVM, vcpus=1),), spec) == 1
    assert capacity((), spec) == 0


def test_how_slow_guests_are_travels_with_the_labels_of_a_node() -> None:
    node = {"NodeManagerHostname": "one", "Resources": {"CPU": 2.0, "guest_memory_mib": 8192.0}}
    seen = host_of(node | {"Labels": labels_of(HOST)})
    assert {(o.hypervisor, o.arch): o.slowness for o in seen.offers} == {
        (o.hypervisor, o.arch): o.slowness for o in HOST.offers
    }


def shown(thing: object) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(thing)
    return capture.get()


def look(name: str, reason: str, mark: Mark | None) -> HostLook:
    return HostLook(name=name, host=None, drained=True, reason=reason, mark=mark, guests=())


def test_what_is_expected_and_how_slow_guests_are_can_be_seen() -> None:
    assert "emulated, 12× slower than native" in shown(hosts_table((HOST,)))
    assert "drained: a new disk" in shown(hosts_table((HOST,), [look(HOST.name, "a new disk", None)]))
    assert "failed: it burns" in shown(hosts_table((HOST,), [look(HOST.name, "it burns", Mark.FAILED)]))
    assert "drained and not there: gone" in shown(hosts_table((HOST,), [look("other", "gone", Mark.DRAINED)]))
    made = planned(HOST, durations={"debian-13/riscv64/bug=off": 60.0})
    assert "2 min 00 s" in shown(plan_table(made))
    assert forecast_sentence(forecast(made.placements, 2), 2) == (
        "expected: 2 min 00 s with 2 cells at a time (3 min 10 s of work), and 3 cells of which nothing is known"
    )
