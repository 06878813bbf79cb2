"""The checks of the chaos find what is wrong with a run: each is shown a store that has been damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from farm.controller import Controller
from farm.model import EventRecord, Outcome, RunRecord, State, Verdict
from farm.store import Store
from tests.chaos.invariants import wrong_with
from tests.unit.rehearsal import Rehearsal, Silent, fails, is_lost, now
from tests.unit.test_store import submission

CELLS = ("passes/a", "fails/b", "fails-then-passes/c")
Events = tuple[EventRecord, ...]


class Told(NamedTuple):
    """A run as its rows have it, and its events."""

    run: RunRecord
    events: Events


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A run of which some attempts failed, were lost, or passed."""
    store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    executor = Rehearsal()
    executor.parts = {"passes/a": [is_lost], "fails/b": [fails, fails], "fails-then-passes/c": [fails]}
    run = store.create_run(submission(*CELLS, retries={"infra": 1, "test": 1}), now=now()).id
    record = asyncio.run(Controller(store, executor, Silent()).execute(run))
    yield Told(record, store.events(0, run_id=run))
    store.close()


def changed(told: Told, kind: str, change: Callable[[EventRecord], EventRecord | None]) -> Events:
    """The events, the first of a kind changed or (None) left out."""
    place = next(place for place, event in enumerate(told.events) if event.kind == kind)
    new = change(told.events[place])
    return (*told.events[:place], *([new] if new else []), *told.events[place + 1 :])


def without(kind: str) -> Callable[[Told], Events]:
    return lambda told: changed(told, kind, lambda _event: None)


def saying(kind: str, **payload: object) -> Callable[[Told], Events]:
    return lambda told: changed(
        told, kind, lambda event: event.model_copy(update={"payload": {**event.payload, **payload}})
    )


def twice(kind: str) -> Callable[[Told], Events]:
    return lambda told: (*told.events, next(event for event in told.events if event.kind == kind))


def test_nothing_is_wrong_with_a_run_that_went_well(told: Told) -> None:
    assert [cell.outcome and cell.outcome.rule for cell in told.run.cells] == ["passed", "script-failed", "flaky"]
    assert wrong_with(told.run, told.events) == ()


@pytest.mark.parametrize(
    "damage",
    [
        *map(without, ("attempt-started", "attempt-finished", "cell-finished", "run-finished", "phase-started")),
        *map(twice, ("attempt-started", "attempt-finished", "cell-finished", "run-finished", "phase-started")),
        saying("attempt-finished", verdict="passed"),
        saying("cell-finished", verdict="cancelled"),
        saying("run-finished", cancelled=True),
        saying("run-finished", exit_code=0),
        saying("phase-started", phase="build"),
    ],
)
def test_events_that_say_something_else_are_found(told: Told, damage: Callable[[Told], Events]) -> None:
    assert any(line.startswith("events replay: ") for line in wrong_with(told.run, damage(told)))


def with_outcome(run: RunRecord, cell: str, outcome: Outcome | None) -> RunRecord:
    """The run as its rows would be if a cell had come to something else."""
    cells = (one.model_copy(update={"outcome": outcome}) if one.id == cell else one for one in run.cells)
    return run.model_copy(update={"cells": tuple(cells)})


def test_rows_that_say_something_else_are_found(told: Told) -> None:
    run, events = told
    assert wrong_with(run.model_copy(update={"state": State.RUNNING}), events)
    assert wrong_with(run.model_copy(update={"cancelled": True}), events)
    assert wrong_with(with_outcome(run, "passes/a", None), events)
    (first, *others), *cells = (run.cells[0].attempts, *run.cells[1:])
    elsewhere = first.model_copy(update={"host": "another"})
    moved = run.cells[0].model_copy(update={"attempts": (elsewhere, *others)})
    assert wrong_with(run.model_copy(update={"cells": (moved, *cells)}), events)


@pytest.mark.parametrize(
    ("cell", "outcome"),
    [
        ("passes/a", Outcome(verdict=Verdict.FAILED)),
        ("fails/b", Outcome(verdict=Verdict.PASSED)),
        ("fails-then-passes/c", Outcome(verdict=Verdict.PASSED)),
        ("fails-then-passes/c", Outcome(verdict=Verdict.ERROR)),
    ],
)
def test_a_verdict_that_is_not_true_is_found(told: Told, cell: str, outcome: Outcome) -> None:
    """Among them a failure that was seen and is forgotten."""
    found = wrong_with(with_outcome(told.run, cell, outcome), told.events)
    assert any(line.startswith("true verdicts: ") for line in found)
