"""An agenda gives what looking at all cells would give, whatever happens between two looks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from farm import agenda, verdict
from farm.agenda import Agenda
from farm.lifecycle import (
    AttemptState,
    Cancel,
    CellState,
    Command,
    Conclude,
    Expire,
    Release,
    RunState,
    reconcile,
)
from farm.model import Blame, Outcome, State, Verdict

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OUTCOMES = (
    Outcome(verdict=Verdict.PASSED),
    Outcome(verdict=Verdict.FAILED, blame=Blame.TEST),
    Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, retry=True),
)
CELLS = 4


class Life:
    """A run in which things happen, by chance."""

    def __init__(self, run: RunState) -> None:
        self.run = run
        self.now = NOW

    def happens(self, what: str, number: int, seconds: int) -> None:
        """Something, of a cell; nothing where it cannot."""
        cell = self.run.cells[number]
        match what:
            case "starts" if not cell.running and cell.state is not State.FINISHED:
                attempt = AttemptState(len(cell.attempts) + 1, State.RUNNING, self.now)
                self.put(replace(cell, state=State.RUNNING, attempts=(*cell.attempts, attempt)))
            case "ends" if cell.running:
                self.changed(cell, state=State.FINISHED, outcome=OUTCOMES[seconds % len(OUTCOMES)])
            case "is placed" if cell.running:
                self.changed(cell, host=f"h{seconds}")
            case "is held" if cell.running:
                self.changed(cell, held_until=self.now + timedelta(seconds=seconds))
            case "is cancelled":
                self.put(replace(cell, cancel_requested=True))
            case "the run is cancelled":
                self.run = replace(self.run, cancel_requested=True)
            case "time passes":
                self.now += timedelta(seconds=seconds)

    def obeys(self, command: Command) -> None:
        """What the controller would do."""
        match command:
            case Cancel(cell=cell):
                self.changed(self.of(cell), cancel_asked=True)
            case Release(cell=cell):
                self.changed(self.of(cell), held_until=None)
            case Expire(cell=cell):
                self.changed(self.of(cell), state=State.FINISHED, outcome=verdict.lost_attempt("silent"))
            case Conclude(cell=cell, outcome=outcome):
                self.put(replace(self.of(cell), state=State.FINISHED, outcome=outcome))
            case _:
                self.run = replace(self.run, state=State.FINISHED)

    def of(self, cell: str) -> CellState:
        return next(one for one in self.run.cells if one.id == cell)

    def changed(self, cell: CellState, **changes: object) -> None:
        *before, last = cell.attempts
        self.put(replace(cell, attempts=(*before, replace(last, **changes))))  # type: ignore[arg-type]

    def put(self, cell: CellState) -> None:
        self.run = replace(self.run, cells=tuple(cell if old.id == cell.id else old for old in self.run.cells))


NAMES = [f"c{number}" for number in range(CELLS)]
COMMON = ("starts", "ends", "is placed", "time passes")
happenings = some.lists(
    some.tuples(
        some.sampled_from((*COMMON, *COMMON, "is held", "is cancelled", "the run is cancelled")),
        some.integers(0, CELLS - 1),
        some.integers(0, 100),
        some.sampled_from(("looks", "looks and obeys", "")),
    ),
    max_size=40,
)


def a_cell(number: int) -> some.SearchStrategy[CellState]:
    return some.builds(CellState, some.just(f"c{number}"), problem=some.sampled_from(["", "", "no host"]))


runs = some.builds(
    RunState,
    cells=some.tuples(*map(a_cell, range(CELLS))),
    fail_fast=some.booleans(),
    retries_infra=some.integers(0, 2),
    retries_test=some.integers(0, 1),
    created=some.sampled_from([None, NOW]),
    queue_s=some.sampled_from([None, 120.0, 1e12]),
)


@given(runs, happenings, some.lists(some.sets(some.sampled_from(NAMES)), min_size=40, max_size=40))
@settings(max_examples=600, deadline=None)
def test_it_gives_what_looking_at_all_would_give(
    run: RunState, done: list[tuple[str, int, int, str]], silent: list[set[str]]
) -> None:
    life, kept = Life(run), Agenda()
    for (what, cell, seconds, looks), quiet in zip(done, silent, strict=False):
        life.happens(what, cell, seconds)
        if looks:
            step = kept.step(life.run, now=life.now, silent=quiet)
            assert step == reconcile(life.run, now=life.now, silent=quiet)
            for command in step.commands if looks == "looks and obeys" else ():
                life.obeys(command)


@given(runs, happenings)
@settings(max_examples=300, deadline=None)
def test_until_it_is_due_nothing_becomes_due(run: RunState, done: list[tuple[str, int, int, str]]) -> None:
    life, kept = Life(run), Agenda()
    for what, cell, seconds, _ in done:
        life.happens(what, cell, seconds)
        step = kept.step(life.run, now=life.now)
        later = min(kept.due, life.now + timedelta(days=1))
        if life.now < later:
            assert reconcile(life.run, now=later - timedelta(microseconds=1)) == step


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cells were decided about, each time."""
    found: list[int] = []

    def counted(run: RunState, *, now: datetime, silent: Collection[str]) -> object:
        found.append(len(run.cells))
        return reconcile(run, now=now, silent=silent)

    monkeypatch.setattr(agenda, "reconcile", counted)
    return found


def test_only_what_has_changed_is_looked_at(looked_at: list[int]) -> None:
    life, kept = Life(RunState(tuple(CellState(f"c{n}") for n in range(1000)))), Agenda()
    waiting = kept.step(life.run, now=NOW).waiting
    assert kept.step(life.run, now=NOW).waiting is waiting
    life.happens("starts", 7, 0)
    assert len(kept.step(life.run, now=NOW).waiting) == 999
    life.happens("is held", 7, 100)
    kept.step(life.run, now=NOW)
    assert kept.due == NOW + timedelta(seconds=100)
    kept.step(life.run, now=NOW + timedelta(seconds=99))
    kept.step(life.run, now=NOW + timedelta(seconds=99), silent={"c8"})
    assert looked_at == [1000, 1, 1, 1]
