from __future__ import annotations

from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.model import SCRIPTS, GuestFacts, Phase, Slowness, Timeouts
from farm.slowness import (
    MOST,
    SCALED,
    UNKNOWN,
    Allowed,
    allowed,
    factor,
    from_label,
    slowness_text,
    timeouts_text,
    to_label,
    weight,
)

MEASURED = Slowness(cpu=8.04, fork=14.0, disk=0.9)
times = st.floats(0.1, 1000).map(lambda value: round(value, 2))
measured = st.builds(Slowness, cpu=times, fork=times, disk=times)


def facts(slowness: Slowness | None, *, emulated: bool = True) -> GuestFacts:
    return GuestFacts(
        host="h", hypervisor="qemu", hypervisor_version="10.0.2", emulated=emulated, machine="q35", cpu="max",
        image="debian-13/amd64", image_digest="0" * 64, vcpus=1, memory_mib=512, slowness=slowness,
    )  # fmt: skip


def test_the_phases_that_the_guest_works_in_get_more_time() -> None:
    timeouts = Timeouts(test=300)
    assert allowed(timeouts, Phase.TEST, MEASURED, emulated=True) == Allowed(300.0, 14.0)
    assert {phase for phase in Phase if allowed(timeouts, phase, MEASURED, emulated=True).factor != 1.0} == SCALED
    assert set(SCRIPTS) < SCALED


def test_the_reason_of_a_time_says_how_it_came_to_be() -> None:
    longer = allowed(Timeouts(test=300), Phase.TEST, MEASURED, emulated=True)
    assert (longer.seconds, longer.reason) == (4200.0, "300 s × 14 for emulation")
    assert allowed(Timeouts(test=300), Phase.TEST, MEASURED, emulated=False).reason == ""


@pytest.mark.parametrize("slowness", [None, MEASURED])
def test_nothing_is_longer_that_is_not_to_be(slowness: Slowness | None) -> None:
    for phase in Phase:
        off, timeouts = Timeouts(scale=False), Timeouts()
        assert allowed(off, phase, slowness, emulated=True) == Allowed(getattr(timeouts, phase.value))
        assert allowed(timeouts, phase, slowness, emulated=False) == Allowed(getattr(timeouts, phase.value))


def test_what_is_not_known_has_a_factor_of_its_own() -> None:
    assert factor(None, emulated=True) == UNKNOWN


@given(measured)
def test_a_factor_has_its_bounds(slowness: Slowness) -> None:
    found = factor(slowness, emulated=True)
    assert 1.0 <= found <= MOST
    assert isclose(found, min(MOST, slowness.factor), abs_tol=0.0500001)


@given(measured)
def test_a_label_says_what_was_measured(slowness: Slowness) -> None:
    label = to_label(slowness)
    assert from_label(label) == slowness
    assert len(label) <= 63
    assert set(label) <= set("0123456789._")


@pytest.mark.parametrize(
    "label", ["", "14.2", "1_2", "1_2_3_4", "a_b_c", "nan_1_1", "1__2", "-1_1_1", "1e9_1_1", "1_1_1\n"]
)
def test_a_label_that_says_nothing_is_none(label: str) -> None:
    assert from_label(label) is None


def test_work_is_as_much_computing_as_starting_programs() -> None:
    assert weight(Slowness(cpu=4, fork=9, disk=100), emulated=True) == 6.0
    assert weight(None, emulated=False) == 1.0
    assert weight(None, emulated=True) is None


def test_words() -> None:
    assert slowness_text(Slowness(cpu=14, fork=14, disk=1)) == "14× slower than native"
    assert slowness_text(Slowness(cpu=1.2, fork=1.2, disk=1)) == "1.2× slower than native"


def test_the_log_says_how_long_each_phase_that_there_is_may_take() -> None:
    said = timeouts_text(Timeouts(boot=10, test=20), facts(MEASURED), {Phase.TEST: "x"})
    assert said.startswith("computing 8.04, starting programs 14, disk 0.9 times as slow as natively; timeouts × 14: ")
    assert "boot 140 s" in said
    assert "test 280 s" in said
    assert "build" not in said
    assert "not known how slow" in timeouts_text(Timeouts(), facts(None), {})
    assert timeouts_text(Timeouts(scale=False), facts(MEASURED), {}) == ""
    assert timeouts_text(Timeouts(), facts(MEASURED, emulated=False), {}) == ""
