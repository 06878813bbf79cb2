"""How an attempt ends whose guest cannot be destroyed, because its host is out of reach."""

from __future__ import annotations

import pytest

from farm.errors import HostError
from farm.executor import NOTHING
from farm.model import AttemptEnded, Ending, Order, Phase, PhaseEnded, PhaseStarted, Verdict
from farm.verdict import classify
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.fake import FakeBackend, FakeGuest
from runners.guest import TICK, Work
from tests.orders import make_order, make_source


class Stuck(FakeGuest):
    """It cannot be destroyed."""

    asked = 0

    def destroy(self) -> None:
        Stuck.asked += 1
        raise HostError("cannot reach its host")


class Far(FakeBackend):
    """Makes such guests."""

    def create(self, order: Order, deadline: Deadline) -> Work[FakeGuest]:
        deadline.check()
        yield TICK
        return Stuck(order)


def test_its_teardown_has_failed_and_its_verdict_is_what_it_was() -> None:
    Stuck.asked = 0
    *events, last = run_attempt(make_order("true\n"), make_source(), lambda _name: Far())
    teardown = next(event for event in events if isinstance(event, PhaseEnded) and event.phase is Phase.TEARDOWN)
    assert (teardown.ending, teardown.detail) == (Ending.FAILED, "cannot reach its host")
    assert isinstance(last, AttemptEnded)
    assert last.evidence.failure
    assert last.evidence.failure.phase is Phase.TEARDOWN
    assert Stuck.asked == 1


def test_a_cancel_stays_a_cancel() -> None:
    running = run_attempt(make_order("sleep 600\n"), make_source(), lambda _name: Far())
    assert any(isinstance(event, PhaseStarted) and event.phase is Phase.TEST for event in running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
        list(running)


def test_the_test_of_a_host_has_neither_source_nor_script_and_ends_well() -> None:
    order = make_order("true\n").model_copy(update={"scripts": {}})
    *_, last = run_attempt(order, NOTHING, lambda _name: FakeBackend())
    assert isinstance(last, AttemptEnded)
    assert classify(last.evidence).verdict is Verdict.PASSED
