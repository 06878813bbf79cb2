"""The axis `cpu`: guests have the CPU that they ask for, and what a program does with it is really run."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.matrix import expansion, load
from farm.model import (
    AttemptKey,
    Evidence,
    GuestCreated,
    GuestFacts,
    Host,
    ImageSpec,
    Order,
    ResolvedSource,
    Submission,
    TestResult,
    TestsFound,
    TestStatus,
)
from farm.model.attempt import AttemptEnded
from farm.orders import order_for
from farm.planner import plan
from runners.attempt import run_attempt
from runners.guest import load_backend
from tests.orders import make_order, make_source

MATRICES = Path(__file__).parents[2] / "matrices"
FILE = MATRICES / "cpus.yaml"
WIDE, NARROW = "sixteen at a time", "one by one"


def orders() -> dict[str, Order]:
    """The orders of the matrix, as a host with QEMU and Bochs gets them."""
    offers = [offer for name in ("qemu", "bochs") for offer in load_backend(name).look()]
    host = Host(name="here", uri="test:///", vcpus=2, memory_mib=4096, offers=tuple(offers))
    document = load(FILE)
    planned = plan(document.matrix, expansion(document.matrix, document.at), [host])
    assert [placement.problem for placement in planned.placements] == [""] * 4
    source = ResolvedSource(kind="folder", description=".", digest="0" * 64, archive="x", files=1, bytes=1)
    submission = Submission(plan=planned, source=source)
    return {
        placement.cell.id: order_for(submission, placement, AttemptKey(run="x", cell=placement.cell.id, number=1))
        for placement in planned.placements
    }


def ran(order: Order) -> tuple[GuestFacts, dict[str, TestStatus], Evidence]:
    """What the guest was, and how the tests of the example ended in it."""
    source = make_source({"sum.c": (MATRICES / "examples/wide/sum.c").read_bytes()})
    events = list(run_attempt(order, source))
    facts = next(event.facts for event in events if isinstance(event, GuestCreated))
    tests: list[TestResult] = [test for event in events if isinstance(event, TestsFound) for test in event.tests]
    assert isinstance(events[-1], AttemptEnded)
    return facts, {test.name: test.status for test in tests}, events[-1].evidence


@pytest.mark.guest
def test_avx_512_is_skipped_under_qemu_whatever_the_model_is_called() -> None:
    facts, tests, evidence = ran(orders()["debian-13/amd64/qemu/EPYC"])
    assert evidence.failure is None
    assert (facts.hypervisor, facts.cpu) == ("qemu", "EPYC")
    assert tests == {NARROW: TestStatus.PASSED, WIDE: TestStatus.SKIPPED}


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_avx_512_is_run_in_bochs() -> None:
    facts, tests, evidence = ran(orders()["debian-13/amd64/bochs/corei7_skylake_x"])
    assert evidence.failure is None
    assert (facts.hypervisor, facts.cpu, facts.machine) == ("bochs", "corei7_skylake_x", "i440fx")
    assert tests == {NARROW: TestStatus.PASSED, WIDE: TestStatus.PASSED}


@pytest.mark.guest
@pytest.mark.parametrize(("model", "name"), [("qemu64", "QEMU Virtual CPU"), ("EPYC", "AMD EPYC")])
def test_a_guest_has_the_cpu_that_it_asks_for(model: str, name: str) -> None:
    image = ImageSpec(name="debian-13", arch="amd64", packages=("gcc", "libc6-dev"))
    order = make_order(f"grep -q 'model name.*: {name}' /proc/cpuinfo\n", hypervisor="qemu", image=image, cpu=model)
    _, _, evidence = ran(order)
    assert evidence.failure is None


def test_qemu_offers_the_models_that_can_boot() -> None:
    offers = {offer.arch: offer for offer in load_backend("qemu").look()}
    for offer in offers.values():
        assert offer.cpu in {*offer.cpus, "POWER9"}
    assert {"qemu64", "EPYC", "max"} <= {*offers["amd64"].cpus}
    assert not {"486", "pentium3", "EPYC-v2"} & {*offers["amd64"].cpus}


def test_bochs_offers_the_models_with_64_bits() -> None:
    (offer,) = load_backend("bochs").look()
    assert (offer.problem, offer.arch, offer.emulated, offer.version) == ("", "amd64", True, "2.7")
    assert offer.cpu in offer.cpus
    assert {"tigerlake", "ryzen"} <= {*offer.cpus}
    assert "pentium" not in offer.cpus
