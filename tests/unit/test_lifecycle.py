from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from farm import rules, verdict
from farm.lifecycle import (
    NEVER,
    PATIENCE_WITH_INTERRUPTIONS,
    AttemptState,
    Cancel,
    CellState,
    Command,
    Conclude,
    Expire,
    Finish,
    Release,
    RunState,
    backoff_s,
    failed_hosts,
    next_change,
    reconcile,
)
from farm.model import Blame, Outcome, State, Verdict


class Start(NamedTuple):
    """A cell that may start, and the number of its next attempt."""

    cell: str
    number: int


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)

PASSED = Outcome(verdict=Verdict.PASSED)
FAILED = Outcome(verdict=Verdict.FAILED, blame=Blame.TEST)
INFRA = verdict.lost_attempt("killed")
FULL = Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, rule=rules.HOST_FULL, retry=True)
AWAY = verdict.interrupted("the farm was stopped")
UNWANTED = verdict.cancelled("the cell was cancelled")
STOPPED = verdict.cancelled("the run was cancelled")
FAST = verdict.cancelled("fail-fast: a came to failed")


def queued(cell: str = "a", *, problem: str = "") -> CellState:
    return CellState(cell, problem=problem)


def running(cell: str = "a", *before: Outcome, cancel_asked: bool = False) -> CellState:
    last = AttemptState(len(before) + 1, State.RUNNING, LONG_AGO, cancel_asked=cancel_asked)
    return CellState(cell, State.RUNNING, (*_ended(before), last))


def ended(cell: str = "a", *outcomes: Outcome, may_fail: bool = False, cancel_asked: bool = False) -> CellState:
    *first, last = _ended(outcomes)
    attempts = (*first, replace(last, cancel_asked=cancel_asked))
    return CellState(cell, State.RUNNING, attempts, may_fail=may_fail)


def done(cell: str, outcome: Outcome, *, may_fail: bool = False) -> CellState:
    return CellState(cell, State.FINISHED, _ended([outcome]), outcome, may_fail=may_fail)


def _ended(outcomes: tuple[Outcome, ...] | list[Outcome]) -> tuple[AttemptState, ...]:
    return tuple(AttemptState(number, State.FINISHED, LONG_AGO, outcome) for number, outcome in enumerate(outcomes, 1))


def just_now(cell: CellState, seconds: float = 0) -> CellState:
    """Its last attempt ended so many seconds ago."""
    *before, last = cell.attempts
    return replace(cell, attempts=(*before, replace(last, since=NOW - timedelta(seconds=seconds))))


def unwanted(cell: CellState) -> CellState:
    """Somebody has cancelled it."""
    return replace(cell, cancel_requested=True)


def held(until: datetime, cell: str = "a") -> CellState:
    return CellState(cell, State.RUNNING, (AttemptState(1, State.RUNNING, LONG_AGO, held_until=until),))


CASES: dict[str, tuple[RunState, tuple[Command | Start, ...]]] = {
    "a queued cell may start": (RunState((queued(),)), (Start("a", 1),)),
    "all that waits may start, in the order of the plan": (
        RunState((running("a"), queued("b"), queued("c"))),
        (Start("b", 1), Start("c", 1)),
    ),
    "nothing is to be done while all runs": (RunState((running(),)), ()),
    "a guest that is held is left alone until its end": (RunState((held(NOW + timedelta(seconds=1)),)), ()),
    "a guest that is held is released at its end": (RunState((held(NOW),)), (Release("a", 1),)),
    "a cancel ends a guest that is held": (
        RunState((held(LONG_AGO),), cancel_requested=True),
        (Cancel("a", 1, "the run was cancelled"),),
    ),
    "an ended attempt concludes its cell": (RunState((ended("a", PASSED),)), (Conclude("a", PASSED),)),
    "a failed test is not tried again": (
        RunState((ended("a", FAILED),), retries_infra=3),
        (Conclude("a", FAILED),),
    ),
    "an attempt that infra broke is tried again": (
        RunState((ended("a", INFRA),), retries_infra=1),
        (Start("a", 2),),
    ),
    "retries run out": (RunState((ended("a", INFRA, INFRA),), retries_infra=1), (Conclude("a", INFRA),)),
    "without retries the first attempt counts": (RunState((ended("a", INFRA),)), (Conclude("a", INFRA),)),
    "a retry has its place in the order of the plan": (
        RunState((queued("a"), ended("b", INFRA), queued("c")), retries_infra=1),
        (Start("a", 1), Start("b", 2), Start("c", 1)),
    ),
    "a retry waits for its time": (RunState((just_now(ended("a", INFRA), 1.9),), retries_infra=1), ()),
    "and comes when that is over": (
        RunState((just_now(ended("a", INFRA), 2),), retries_infra=1),
        (Start("a", 2),),
    ),
    "each retry waits twice as long as the one before": (
        RunState((just_now(ended("a", INFRA, INFRA), 3.9), just_now(ended("b", INFRA, INFRA), 4)), retries_infra=2),
        (Start("b", 3),),
    ),
    "an attempt that ended with the farm is no try, and waits for nothing": (
        RunState((just_now(ended("a", AWAY, AWAY)),)),
        (Start("a", 3),),
    ),
    "a farm may be started again often": (
        RunState((ended("a", *[AWAY] * PATIENCE_WITH_INTERRUPTIONS),)),
        (Start("a", PATIENCE_WITH_INTERRUPTIONS + 1),),
    ),
    "but a cell that ends it each time is given up, with the reason": (
        RunState((ended("a", *[AWAY] * (PATIENCE_WITH_INTERRUPTIONS + 1)),), retries_infra=5),
        (
            Conclude(
                "a",
                verdict.interrupted(
                    "the farm has ended in the middle of 11 attempts at this cell, which may be why it ends"
                ),
            ),
        ),
    ),
    "and a failure that was seen outlasts that": (
        RunState((ended("a", FAILED, *[AWAY] * (PATIENCE_WITH_INTERRUPTIONS + 1)),), retries_test=1),
        (Conclude("a", FAILED),),
    ),
    "a full host says nothing of the cell": (
        RunState((ended("a", FULL, FULL, FULL),)),
        (Start("a", 4),),
    ),
    "but patience with full hosts ends": (
        RunState((ended("a", FULL, FULL, FULL, FULL),)),
        (Conclude("a", FULL),),
    ),
    "a test that failed is tried again where the matrix says so, at once": (
        RunState((just_now(ended("a", FAILED)),), retries_test=1),
        (Start("a", 2),),
    ),
    "a test that fails again has failed": (
        RunState((ended("a", FAILED, FAILED),), retries_test=1),
        (Conclude("a", FAILED),),
    ),
    "a pass after a failure is flaky": (
        RunState((ended("a", FAILED, PASSED),), retries_test=1),
        (Conclude("a", verdict.flaky((FAILED,), 2)),),
    ),
    "a pass after infra failed is a pass": (
        RunState((ended("a", INFRA, PASSED),), retries_infra=1),
        (Conclude("a", PASSED),),
    ),
    "retries of the one kind do not use up those of the other": (
        RunState((ended("a", FAILED, INFRA),), retries_infra=1, retries_test=1),
        (Start("a", 3),),
    ),
    "a failure that was seen outlasts an attempt that says nothing": (
        RunState((ended("a", FAILED, INFRA),), retries_test=1),
        (Conclude("a", FAILED),),
    ),
    "and a cancel": (
        RunState((ended("a", FAILED),), retries_test=1, cancel_requested=True),
        (Conclude("a", FAILED),),
    ),
    "a test that was asked to stop is not tried again": (
        RunState((ended("a", FAILED, cancel_asked=True),), retries_test=1),
        (Conclude("a", FAILED),),
    ),
    "one cell is cancelled, the others go on": (
        RunState((unwanted(running("a")), unwanted(queued("b")), queued("c"))),
        (Cancel("a", 1, "the cell was cancelled"), Conclude("b", UNWANTED), Start("c", 1)),
    ),
    "a cell that was cancelled is asked to stop once": (RunState((unwanted(running("a", cancel_asked=True)),)), ()),
    "a retry of a cell that was cancelled is not made": (
        RunState((unwanted(ended("a", INFRA)),), retries_infra=1),
        (Conclude("a", UNWANTED),),
    ),
    "a guest that is held ends with its cell": (
        RunState((unwanted(held(LONG_AGO)),)),
        (Cancel("a", 1, "the cell was cancelled"),),
    ),
    "what fits nowhere is concluded at once": (
        RunState((queued("a", problem="no host runs s390x"), queued("b"))),
        (Conclude("a", verdict.unplaceable("no host runs s390x")), Start("b", 1)),
    ),
    "cancelling stops what runs and what waits": (
        RunState((running("a"), queued("b"), done("c", PASSED)), cancel_requested=True),
        (Cancel("a", 1, "the run was cancelled"), Conclude("b", STOPPED)),
    ),
    "an attempt is asked to stop once": (RunState((running(cancel_asked=True),), cancel_requested=True), ()),
    "a retry that was due is cancelled": (
        RunState((ended("a", INFRA),), retries_infra=1, cancel_requested=True),
        (Conclude("a", STOPPED),),
    ),
    "an attempt lost because it was asked to stop is cancelled, not an error": (
        RunState((ended("a", INFRA, cancel_asked=True),), cancel_requested=True),
        (Conclude("a", STOPPED),),
    ),
    "an attempt that ended before it heard of the cancel counts": (
        RunState((ended("a", PASSED, cancel_asked=True),), cancel_requested=True),
        (Conclude("a", PASSED),),
    ),
    "fail-fast stops the rest": (
        RunState((done("a", FAILED), running("b"), queued("c")), fail_fast=True),
        (Cancel("b", 1, "fail-fast: a came to failed"), Conclude("c", FAST)),
    ),
    "fail-fast acts at once": (
        RunState((ended("a", FAILED), queued("b")), fail_fast=True),
        (Conclude("a", FAILED), Conclude("b", FAST)),
    ),
    "fail-fast waits for the last retry": (
        RunState((ended("a", INFRA), queued("b")), fail_fast=True, retries_infra=1),
        (Start("a", 2), Start("b", 1)),
    ),
    "a cell that may fail does not stop the rest": (
        RunState((ended("a", FAILED, may_fail=True), queued("b")), fail_fast=True),
        (Conclude("a", FAILED), Start("b", 1)),
    ),
    "without fail-fast a failure stops nothing": (
        RunState((done("a", FAILED), queued("b"))),
        (Start("b", 1),),
    ),
    "a run whose cells are all finished is finished": (RunState((done("a", PASSED),)), (Finish(),)),
    "a run without cells is finished": (RunState(()), (Finish(),)),
    "a finished run needs nothing": (RunState((done("a", PASSED),), state=State.FINISHED), ()),
}


@pytest.mark.parametrize(("run", "commands"), CASES.values(), ids=CASES.keys())
def test_what_has_to_happen_next(run: RunState, commands: tuple[Command | Start, ...]) -> None:
    step = reconcile(run, now=NOW)
    assert (*step.commands, *(Start(cell.id, len(cell.attempts) + 1) for cell in step.waiting)) == commands


SILENT: dict[str, tuple[RunState, tuple[Command, ...]]] = {
    "a silent attempt expires": (RunState((running("a"), running("b"))), (Expire("a", 1),)),
    "one that is held and was not heard of is lost": (RunState((held(LONG_AGO),)), (Expire("a", 1),)),
    "one that fell silent after it was asked to stop expires": (
        RunState((running(cancel_asked=True),), cancel_requested=True),
        (Expire("a", 1),),
    ),
    "a silent attempt is not asked to stop": (RunState((running(),), cancel_requested=True), (Expire("a", 1),)),
    "nor with its cell": (RunState((unwanted(running()),)), (Expire("a", 1),)),
    "what has ended meanwhile is not lost": (RunState((ended("a", PASSED),)), (Conclude("a", PASSED),)),
}


@pytest.mark.parametrize(("run", "commands"), SILENT.values(), ids=SILENT.keys())
def test_what_becomes_of_an_attempt_of_which_nothing_is_heard(run: RunState, commands: tuple[Command, ...]) -> None:
    assert reconcile(run, now=NOW, silent={"a"}).commands == commands


def test_the_wait_for_a_retry_has_an_upper_bound() -> None:
    assert [backoff_s(tries) for tries in (1, 2, 3, 8, 9, 1000)] == [2, 4, 8, 256, 300, 300]


def test_a_retry_goes_where_infra_has_not_failed_yet() -> None:
    attempts = [
        AttemptState(1, State.FINISHED, NOW, INFRA, host="a"),
        AttemptState(2, State.FINISHED, NOW, AWAY, host="b"),
        AttemptState(3, State.FINISHED, NOW, FAILED, host="c"),
        AttemptState(4, State.FINISHED, NOW, INFRA),
    ]
    assert failed_hosts(CellState("x", attempts=tuple(attempts))) == {"a"}


QUEUED_SINCE = NOW - timedelta(seconds=100)


def patient(*cells: CellState, queue_s: float | None) -> RunState:
    return RunState(cells, State.RUNNING, created=QUEUED_SINCE, queue_s=queue_s)


def test_a_cell_does_not_wait_for_ever() -> None:
    step = reconcile(patient(queued("a"), running("b"), queue_s=99), now=NOW)
    assert step.commands == (Conclude("a", verdict.waited_too_long(99)),)
    assert step.waiting == ()


def test_a_cell_that_may_wait_longer_goes_on_waiting() -> None:
    for queue_s in (101, None):
        step = reconcile(patient(queued("a"), queue_s=queue_s), now=NOW)
        assert (step.commands, [cell.id for cell in step.waiting]) == ((), ["a"])


def test_a_cell_that_was_tried_waits_anew_and_keeps_the_failure_that_was_seen() -> None:
    run = replace(patient(just_now(ended("a", FAILED), 50), queue_s=60), retries_test=1)
    assert reconcile(run, now=NOW).commands == ()
    assert reconcile(run, now=NOW + timedelta(seconds=11)).commands == (Conclude("a", FAILED),)


@pytest.mark.parametrize(
    ("cell", "queue_s", "expected"),
    [
        (queued("a"), 99, QUEUED_SINCE + timedelta(seconds=99)),
        (queued("a"), 1e300, NEVER),
        (queued("a"), None, NEVER),
        (running("a"), 99, NEVER),
        (held(NOW + timedelta(seconds=5)), 99, NOW + timedelta(seconds=5)),
        (just_now(ended("a", INFRA)), 9999, NOW + timedelta(seconds=backoff_s(1))),
    ],
    ids=["waits", "waits for ages", "waits for ever", "runs", "held", "to be tried again"],
)
def test_when_something_becomes_due_by_itself(cell: CellState, queue_s: float | None, expected: datetime) -> None:
    assert next_change(cell, patient(cell, queue_s=queue_s), NOW) == expected


def test_a_clock_that_jumps_makes_no_attempt_silent_and_no_cell_wait() -> None:
    """Whoever looks tells which attempts are silent, by a clock that does not jump; a retry waits for no future end."""
    run, late = RunState(cells=(running("a"),)), NOW + timedelta(hours=2)
    assert reconcile(run, now=late).commands == ()
    assert reconcile(run, now=late, silent={"a"}).commands == (Expire("a", 1),)
    spoilt = AttemptState(1, State.FINISHED, late, INFRA)
    waits = RunState(cells=(CellState("a", attempts=(spoilt,)),), retries_infra=1)
    assert [cell.id for cell in reconcile(waits, now=NOW).waiting] == ["a"]
    assert reconcile(waits, now=late).waiting == (), "by a clock that is right, it has its back-off"
