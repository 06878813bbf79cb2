from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from farm import verdict
from farm.lifecycle import (
    AttemptState,
    Cancel,
    CellState,
    Command,
    Conclude,
    Expire,
    Finish,
    RunState,
    Start,
    reconcile,
)
from farm.model import Blame, Outcome, State, Verdict

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)

PASSED = Outcome(verdict=Verdict.PASSED)
FAILED = Outcome(verdict=Verdict.FAILED, blame=Blame.TEST)
INFRA = verdict.lost_attempt("killed")
STOPPED = verdict.cancelled("the run was cancelled")
FAST = verdict.cancelled("fail-fast: a came to failed")


def queued(cell: str = "a", *, problem: str = "") -> CellState:
    return CellState(cell, problem=problem)


def running(cell: str = "a", *before: Outcome, seen: datetime = NOW, cancel_asked: bool = False) -> CellState:
    last = AttemptState(len(before) + 1, State.RUNNING, seen, cancel_asked=cancel_asked)
    return CellState(cell, State.RUNNING, (*_ended(before), last))


def ended(cell: str = "a", *outcomes: Outcome, may_fail: bool = False, cancel_asked: bool = False) -> CellState:
    *first, last = _ended(outcomes)
    attempts = (*first, replace(last, cancel_asked=cancel_asked))
    return CellState(cell, State.RUNNING, attempts, may_fail=may_fail)


def done(cell: str, outcome: Outcome, *, may_fail: bool = False) -> CellState:
    return CellState(cell, State.FINISHED, _ended([outcome]), outcome, may_fail=may_fail)


def _ended(outcomes: tuple[Outcome, ...] | list[Outcome]) -> tuple[AttemptState, ...]:
    return tuple(AttemptState(number, State.FINISHED, NOW, outcome) for number, outcome in enumerate(outcomes, 1))


CASES: dict[str, tuple[RunState, tuple[Command, ...]]] = {
    "a queued cell is started": (RunState((queued(),)), (Start("a", 1),)),
    "cells are started in order up to the capacity": (
        RunState((queued("a"), queued("b"), queued("c"))),
        (Start("a", 1), Start("b", 1)),
    ),
    "running cells take up room": (RunState((running("a"), queued("b"), queued("c"))), (Start("b", 1),)),
    "max-parallel limits what runs": (RunState((queued("a"), queued("b")), max_parallel=1), (Start("a", 1),)),
    "nothing is to be done while all runs": (RunState((running(),)), ()),
    "more running than there is room for is left alone": (
        RunState((running("a"), running("b"), queued("c")), max_parallel=1),
        (),
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
    "a retry waits for room, in the order of the plan": (
        RunState((ended("a", INFRA), queued("b")), retries_infra=1, max_parallel=1),
        (Start("a", 2),),
    ),
    "a silent attempt expires": (RunState((running(seen=LONG_AGO),)), (Expire("a", 1),)),
    "an attempt is not silent before its lease is over": (
        RunState((running(seen=NOW - timedelta(seconds=60)),), lease_s=60),
        (),
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
    "an attempt that fell silent after it was asked to stop expires": (
        RunState((running(seen=LONG_AGO, cancel_asked=True),), cancel_requested=True),
        (Expire("a", 1),),
    ),
    "a silent attempt is not asked to stop": (
        RunState((running(seen=LONG_AGO),), cancel_requested=True),
        (Expire("a", 1),),
    ),
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
def test_what_has_to_happen_next(run: RunState, commands: tuple[Command, ...]) -> None:
    assert reconcile(run, capacity=2, now=NOW) == commands


def test_without_capacity_nothing_is_started() -> None:
    assert reconcile(RunState((queued(),)), capacity=0, now=NOW) == ()
