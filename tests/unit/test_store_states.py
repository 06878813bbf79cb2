"""What is known of a run is what the store says of it, whoever has written and whatever happened since."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from sqlalchemy import event

from farm.errors import FarmError
from farm.lifecycle import AttemptState
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    Evidence,
    GuestCreated,
    Heartbeat,
    Held,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Placed,
)
from farm.store import Store
from farm.store.states import KnownState
from tests.conftest import DATABASES, url_of
from tests.unit.test_store import FACTS, FAILED, NOW, PASSED, later, submission

CELLS = ("a", "b", "c")
EVENTS: dict[str, Callable[[datetime], Event]] = {
    "beats": lambda at: Heartbeat(at=at),
    "is placed": lambda at: Placed(at=at, host="h2"),
    "begins": lambda at: PhaseStarted(at=at, phase=Phase.TEST),
    "is there": lambda at: GuestCreated(at=at, facts=FACTS),
    "is done": lambda at: PhaseEnded(at=at, phase=Phase.TEST, ending=Ending.OK, duration_s=1.0),
    "is kept": lambda at: Held(at=at, until=at, command="ssh", evidence=Evidence()),
    "ends": lambda at: AttemptEnded(at=at, evidence=Evidence()),
}
STEPS: dict[str, Callable[[Store, AttemptKey, datetime], object]] = {
    "start": lambda store, key, now: store.start_attempt(key, now=now),
    "finish": lambda store, key, now: store.finish_attempt(key, FAILED, now=now),
    "ask": lambda store, key, _: store.cancel_asked(key),
    "conclude": lambda store, key, now: store.finish_cell(key.run, key.cell, PASSED, now=now),
    "cancel": lambda store, key, now: store.request_cancel(key.run, now=now),
    "finish the run": lambda store, key, now: store.finish_run(key.run, now=now, cancelled=False),
    "release": lambda store, key, now: store.holds.end(key, now=now),
    "hold longer": lambda store, key, now: store.holds.move(key, now, now=now),
    **{name: lambda store, key, now, said=said: store.record(key, [said(now)]) for name, said in EVENTS.items()},  # type: ignore[misc]
}
COMMON = ("start", "finish", *EVENTS)
steps = some.lists(
    some.tuples(
        some.sampled_from((*COMMON, *STEPS)),
        some.sampled_from(CELLS),
        some.integers(1, 3),
        some.booleans(),  # which process does it
        some.booleans(),  # whether somebody looks afterwards
    ),
    max_size=40,
)


@pytest.fixture(scope="module", params=DATABASES)
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """Of two processes."""
    folder = tmp_path_factory.mktemp("store")
    url = url_of(request, folder)
    both = (Store.open(url, folder), Store.open(url, folder))
    yield both
    for store in both:
        store.close()


@given(steps)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_known_is_what_there_is(
    stores: tuple[Store, Store], done: list[tuple[str, str, int, bool, bool]]
) -> None:
    run, known, clock = stores[0].create_run(submission(*CELLS), now=NOW).id, KnownState(), count(1)
    for name, cell, number, other, looks in done:
        with suppress(FarmError):  # what may not be done now changes nothing
            STEPS[name](stores[other], AttemptKey(run=run, cell=cell, number=number), later(next(clock)))
        if looks:
            assert stores[0].state(run, known) == stores[0].state(run)
    assert stores[0].state(run, known) == stores[0].state(run)


def test_where_nearly_all_has_changed_all_is_read(stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.store.states._MOST_CHANGED", 1)
    store = stores[0]
    run, known = store.create_run(submission(*CELLS), now=NOW).id, KnownState()
    assert [cell.id for cell in store.state(run, known).cells] == list(CELLS)
    for cell in CELLS:
        store.finish_cell(run, cell, PASSED, now=NOW)
    assert store.state(run, known) == store.state(run)


def test_the_runs_of_which_there_is_something_new_are_known(stores: tuple[Store, Store]) -> None:
    store, other = stores
    runs = [store.create_run(submission(*CELLS), now=NOW).id for _ in range(2)]
    newest = store.last_event()
    assert store.changed(newest) == (newest, frozenset(), False)
    other.request_cancel(runs[1], now=NOW)
    assert store.changed(newest) == (other.last_event(), {runs[1]}, True)
    newest, key = store.last_event(), AttemptKey(run=runs[0], cell="a", number=1)
    other.start_attempt(key, now=NOW)
    assert store.changed(newest) == (other.last_event(), {runs[0]}, False)
    newest = store.last_event()
    other.record(key, [said(NOW) for name, said in EVENTS.items() if name != "is kept"])
    assert store.last_event() > newest
    assert store.changed(newest) == (newest, frozenset(), False)
    other.record(key, [EVENTS["is kept"](NOW)])
    assert store.changed(newest) == (other.last_event(), {runs[0]}, False)


def test_no_look_goes_through_all_that_ever_happened(tmp_path: Path) -> None:
    """However many runs and events there are: what is looked at in each round is found by an index."""
    store, said = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path), []
    run, known = store.create_run(submission(*CELLS), now=NOW).id, KnownState()
    newest = store.last_event()
    store.state(run, known)
    store.start_attempt(AttemptKey(run=run, cell="a", number=1), now=NOW)

    @event.listens_for(store.engine, "before_cursor_execute")
    def listen(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            said.append((statement, values))

    assert store.changed(newest).runs == {run}
    assert store.state(run, known).cells[0].running
    assert store.served() == ()
    event.remove(store.engine, "before_cursor_execute", listen)
    assert len(said) >= 7
    with store.engine.connect() as db:
        for statement, values in said:
            steps = [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not [step for step in steps if step.startswith("SCAN")], (statement, steps)
    store.close()


def test_a_heartbeat_changes_nothing_and_an_end_tells_when_the_last_was(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    run, known = store.create_run(submission(*CELLS), now=NOW).id, KnownState()
    key = AttemptKey(run=run, cell="a", number=1)
    store.start_attempt(key, now=later(1))
    before = store.state(run, known)
    store.record(key, [Heartbeat(at=later(5))])
    assert store.state(run, known) == before
    assert before.cells[0].attempts[0].since == later(1)
    store.finish_attempt(key, FAILED, now=later(6))
    assert store.state(run, known).cells[0].attempts[0].since == later(5)


def test_what_is_told_by_another_process_without_a_line_is_seen(stores: tuple[Store, Store]) -> None:
    store, other = stores
    run, known = store.create_run(submission(*CELLS), now=NOW).id, KnownState()
    key = AttemptKey(run=run, cell="a", number=1)

    def attempt() -> AttemptState:
        return store.state(run, known).cells[0].attempts[0]

    store.start_attempt(key, now=NOW)
    other.record(key, [Held(at=NOW, until=later(9), command="ssh", evidence=Evidence())])
    assert attempt().held_until == later(9)
    other.holds.move(key, later(20), now=NOW)
    assert attempt().held_until == later(20)
    other.holds.end(key, now=NOW)
    assert attempt().held_until is None
    other.cancel_asked(key)
    assert attempt().cancel_asked
