"""Guests that are kept for a person: what ends that, and what their cells come to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from farm.controller import Controller
from farm.errors import AttemptLostError
from farm.model import (
    NO_SOURCE,
    AttemptKey,
    Cell,
    Ending,
    Event,
    Evidence,
    Failure,
    Held,
    Matrix,
    Order,
    Outcome,
    Phase,
    Placement,
    Plan,
    Submission,
)
from farm.store import Store
from tests.unit.rehearsal import Part, Rehearsal, Silent, now
from tests.waiting import eventually

CELL = "debian-13/amd64"
FAILED = Evidence(failure=Failure(phase=Phase.TEST, ending=Ending.FAILED, exit_status=3))
FLAKY = Evidence(failure=Failure(phase=Phase.TEST, ending=Ending.LOST, error="LostError", message="gone"))
RESERVED = Evidence(reserved=True)
AGES = 3600.0
LONG_S = 240.0


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


def holds(evidence: Evidence, for_s: float, then: Exception | None = None) -> Part:
    """A guest that is kept until somebody ends it, or something goes wrong."""

    async def part(_order: Order) -> AsyncGenerator[Event, None]:
        at = now() - timedelta(days=1)  # by the clock of a host that is a day late
        yield Held(at=at, command="ssh x", until=at + timedelta(seconds=for_s), evidence=evidence)
        if then:
            raise then
        await asyncio.Event().wait()

    return part


def submitted(store: Store, retries: int = 1) -> AttemptKey:
    matrix = Matrix(name="x", axes={"image": ("debian-13",), "arch": ("amd64",)}, test="x", retries=retries)
    cell = Cell(id=CELL, values={"image": "debian-13", "arch": "amd64"})
    plan = Plan(matrix=matrix, placements=(Placement(cell=cell, hypervisor="qemu", hosts=("h",)),))
    run = store.create_run(Submission(plan=plan, source=NO_SOURCE), now=now())
    return AttemptKey(run=run.id, cell=CELL, number=1)


def until_kept(store: Store, key: AttemptKey, running: asyncio.Task[object]) -> None:
    """Wait until the guest of an attempt is kept."""
    eventually(
        lambda: store.holds.of(key),
        within_s=LONG_S,
        as_long_as=lambda: not running.done(),
        what=lambda: f"the guest is kept; the run is: {store.state(key.run)}",
    )


def outcome(store: Store, part: Part, end: Callable[[Controller, AttemptKey], object] | None = None) -> Outcome:
    """What a cell comes to whose guest is kept, when it is ended in some way."""
    key, executor = submitted(store), Rehearsal()
    executor.parts[CELL] = [part]
    controller = Controller(store, executor, Silent())

    async def go() -> None:
        running = asyncio.create_task(controller.execute(key.run))
        if end:
            await asyncio.to_thread(until_kept, store, key, running)
            end(controller, key)
            controller.wake()
        await running

    asyncio.run(go())
    assert len(executor.orders) == 1
    record = store.run(key.run).cells[0]
    held = store.holds.of(key)
    assert held
    assert held.ended
    assert record.outcome == record.attempts[0].outcome
    assert record.outcome
    return record.outcome


def test_it_ends_when_its_time_is_over_by_the_clock_here(store: Store) -> None:
    assert outcome(store, holds(FAILED, 0.2)).rule == "script-failed"
    held = store.holds.last("x-1", CELL)
    assert held
    assert (held.until - held.since).total_seconds() == 0.2
    assert now() - held.since < timedelta(hours=1)


def test_it_ends_when_it_is_released(store: Store) -> None:
    ended = outcome(store, holds(RESERVED, AGES), lambda _, key: store.holds.move(key, now(), now=now()))
    assert (ended.rule, ended.summary) == ("reserved", "nothing was to be tested: the guest was for a person")


@pytest.mark.parametrize(
    ("evidence", "rule"), [(FAILED, "script-failed"), (FLAKY, "connection-lost"), (RESERVED, "cancelled")]
)
def test_a_cancel_of_its_run_changes_no_verdict(store: Store, evidence: Evidence, rule: str) -> None:
    ended = outcome(store, holds(evidence, AGES), lambda controller, key: controller.cancel(key.run))
    assert (ended.rule, ended.retry) == (rule, False)


@pytest.mark.parametrize(
    ("evidence", "rule"), [(FAILED, "script-failed"), (FLAKY, "connection-lost"), (RESERVED, "attempt-lost")]
)
def test_a_worker_that_dies_changes_no_verdict_and_nothing_is_tried_again(
    store: Store, evidence: Evidence, rule: str
) -> None:
    ended = outcome(store, holds(evidence, AGES, AttemptLostError("its worker died")))
    assert (ended.rule, ended.retry) == (rule, False)


@pytest.mark.parametrize(("evidence", "rule"), [(FAILED, "script-failed"), (RESERVED, "interrupted")])
def test_what_another_process_kept_is_known_when_its_run_is_taken_up(
    store: Store, evidence: Evidence, rule: str
) -> None:
    key, executor = submitted(store), Rehearsal()
    store.start_attempt(key, now=now())
    store.record(key, [Held(at=now(), command="ssh x", until=now() + timedelta(hours=1), evidence=evidence)])
    asyncio.run(Controller(store, executor, Silent()).execute(key.run))
    ended = store.run(key.run).cells[0].outcome
    assert ended
    assert (ended.rule, executor.orders) == (rule, [])


def test_what_has_ended_is_neither_moved_nor_listed(store: Store) -> None:
    key = submitted(store)
    store.start_attempt(key, now=now())
    store.record(key, [Held(at=now(), command="ssh x", until=now(), evidence=FAILED)])
    assert [held.key for held in store.holds.open()] == [key]
    assert store.holds.open("somebody else") == ()
    store.holds.end(key, now=now())
    assert not store.holds.move(key, now() + timedelta(hours=1), now=now())
    assert store.holds.open() == ()
