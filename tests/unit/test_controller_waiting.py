"""Nothing waits for ever: neither a cell for its turn, nor an attempt for a worker that begins with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from farm.model import Event, Order, Timeouts, Verdict
from farm.store import Store
from tests.unit.rehearsal import Rehearsal, waits
from tests.unit.test_controller import finished, go, rules, serving, store, submit, verdicts

__all__ = ["store"]


async def never_begins(_order: Order) -> AsyncGenerator[Event, None]:
    """A task that no worker takes."""
    await asyncio.Event().wait()
    for event in ():
        yield event


def test_a_cell_that_finds_no_room_for_too_long_is_an_error_of_the_infrastructure(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=1)
        executor.parts["a"] = [waits]
        async with serving(store, executor) as controller:
            busy = submit(store, "a", name="busy")
            await executor.until_started(1)
            late = submit(store, "b", name="late", timeouts=Timeouts(queue=0.3))
            await finished(store, late)
            cell = store.run(late).cells[0]
            assert cell.outcome
            assert (cell.outcome.rule, cell.outcome.verdict) == ("waited-too-long", Verdict.ERROR)
            assert cell.attempts == ()
            controller.cancel(busy)
            await finished(store, busy)

    go(test())


def test_an_attempt_that_no_worker_begins_with_is_lost_and_tried_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.attempts._FIRST_EVENT_S", 0.01)
    monkeypatch.setattr("farm.attempts._LONGEST_S", 0.05)

    async def test() -> None:
        executor = Rehearsal()
        executor.parts["a"] = [never_begins]
        async with serving(store, executor):
            run = submit(store, "a")
            await finished(store, run)
        assert rules(store, run) == ["attempt-lost", "passed"]
        assert verdicts(store, run) == {"a": Verdict.PASSED}
        assert executor.under_way == {}

    go(test())
