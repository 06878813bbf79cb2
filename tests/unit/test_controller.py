"""The controller on a real store, with attempts that play their parts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from farm.controller import Controller
from farm.dispatch import Beginning, Dispatch
from farm.errors import HostError
from farm.model import AttemptKey, Blame, Event, Heartbeat, Host, Order, Phase, PhaseStarted, Placed, State, Verdict
from farm.places import queue_of
from farm.schedule import Pick, Queue, choose
from farm.store import Store
from farm.verdict import exit_code
from tests.unit.rehearsal import Rehearsal, Silent, fails, is_a_defect, is_lost, now, passes, waits
from tests.unit.test_store import submission

LONG_S = 30.0
"""More than any of this takes; only a test that fails waits so long."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    # Whoever finds it locked waits for 50 ms only.
    opened = Store.open(f"sqlite:///{tmp_path / 'farm.db'}?timeout=0.05", tmp_path)
    yield opened
    opened.close()


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, LONG_S))


def submit(store: Store, *cells: str, name: str = "demo", priority: int = 50, **matrix: object) -> str:
    made = submission(*cells, name=name, **matrix)  # type: ignore[arg-type]
    return store.create_run(made.model_copy(update={"served": True, "priority": priority}), now=now()).id


@asynccontextmanager
async def serving(store: Store, executor: Rehearsal) -> AsyncIterator[Controller]:
    """A controller that serves for as long as this lasts."""
    controller, stop = Controller(store, executor, Silent()), asyncio.Event()
    task = asyncio.create_task(controller.serve(stop))
    try:
        yield controller
    finally:
        stop.set()
        await task


async def finished(store: Store, *runs: str) -> None:
    """Return when runs have come to their end."""
    await until(lambda: all(store.state(run).state is State.FINISHED for run in runs))


async def until(true: Callable[[], object]) -> None:
    """Return when something has come true."""
    while not true():  # noqa: ASYNC110 - it does so in the database
        await asyncio.sleep(0.01)


async def is_elsewhere(order: Order) -> AsyncGenerator[Event, None]:
    """A guest that comes to be on another host than it was counted on."""
    yield Placed(at=now(), host="another")
    async for event in passes(order):
        yield event


def verdicts(store: Store, run: str) -> dict[str, Verdict | None]:
    return {cell.id: cell.outcome.verdict if cell.outcome else None for cell in store.run(run).cells}


def rules(store: Store, run: str, cell: str = "a") -> list[str]:
    """The rules that decided on the attempts of a cell."""
    return [one.outcome.rule if one.outcome else "" for one in store.cell(run, cell).attempts]


def is_a_defect_of_the_farm(store: Store, run: str, said: str) -> None:
    """A run of one cell has ended, nobody has cancelled it, and it says what has happened."""
    record = store.run(run)
    assert (record.state, record.cancelled, exit_code(record)) == (State.FINISHED, False, 2)
    (cell,) = record.cells
    assert cell.outcome
    assert (cell.outcome.rule, cell.outcome.verdict, cell.outcome.blame) == ("defect", Verdict.ERROR, Blame.FARM)
    assert said in cell.outcome.summary
    assert said in cell.outcome.lines[-1]


# --- one run ----------------------------------------------------------------------------------------


def test_execute_takes_a_run_to_its_end_and_returns_it(store: Store) -> None:
    async def test() -> None:
        watcher = Silent()
        run = await Controller(store, Rehearsal(), watcher).execute(submit(store, "a", "b"))
        assert run.state is State.FINISHED
        assert [cell.outcome.verdict for cell in run.cells if cell.outcome] == [Verdict.PASSED] * 2
        assert set(watcher.outcomes) == {"a", "b"}

    go(test())


def test_an_attempt_that_is_lost_is_followed_by_another(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [is_lost]
        await Controller(store, executor, Silent()).execute(run)
        assert [order.key.number for order in executor.orders] == [1, 2]
        assert verdicts(store, run) == {"a": Verdict.PASSED}

    go(test())


def test_a_run_that_is_cancelled_ends_its_attempts(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a", "b")
        executor.parts = {"a": [waits]}
        controller = Controller(store, executor, Silent())
        task = asyncio.create_task(controller.execute(run))
        await executor.until_started(2)
        controller.cancel(run)
        assert (await task).cancelled
        assert verdicts(store, run)["a"] is Verdict.CANCELLED
        assert executor.under_way == {}

    go(test())


def test_a_defect_ends_a_run_that_says_what_it_was(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [is_a_defect]
        record = await Controller(store, executor, Silent()).execute(run)
        assert exit_code(record) == 2
        is_a_defect_of_the_farm(store, run, "ZeroDivisionError")

    go(test())


def test_who_ends_execute_has_cancelled_its_run(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [waits]
        task = asyncio.create_task(Controller(store, executor, Silent()).execute(run))
        await executor.until_started(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert verdicts(store, run) == {"a": Verdict.CANCELLED}
        assert store.runs()[0].exit_code == 130

    go(test())


def test_a_failure_that_was_seen_outlasts_a_defect_which_ends_what_is_under_way(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a", "b", retries={"test": 1})
        executor.parts = {"a": [fails, is_a_defect], "b": [waits]}
        await Controller(store, executor, Silent()).execute(run)
        assert verdicts(store, run) == {"a": Verdict.FAILED, "b": Verdict.ERROR}
        assert rules(store, run, "b") == ["defect"]
        assert executor.under_way == {}

    go(test())


def test_a_run_whose_executor_is_gone_is_lost_and_says_why(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has cancelled it: infrastructure is to blame."""
    executor, run = Rehearsal(), submit(store, "a", "b")
    executor.parts = {"a": [waits], "b": [waits]}

    def hosts() -> tuple[Host, ...]:
        raise HostError("cannot go on: Ray's head is gone")

    async def test() -> None:
        running = asyncio.create_task(Controller(store, executor, Silent()).execute(run))
        await executor.until_started(2)
        monkeypatch.setattr(executor, "hosts", hosts)
        with pytest.raises(HostError, match="Ray's head is gone"):
            await running
        record = store.run(run)
        assert (record.state, record.cancelled) == (State.FINISHED, False)
        assert [(cell.outcome.verdict, cell.outcome.blame) for cell in record.cells if cell.outcome] == [
            (Verdict.ERROR, Blame.INFRA)
        ] * 2

    go(test())


def test_a_clock_that_jumps_ends_no_attempt(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours later from one moment to the next: nothing is lost, for it was heard of just now."""
    executor, run = Rehearsal(), submit(store, "a", retries={"infra": 0})
    goes_on = asyncio.Event()

    async def part(order: Order) -> AsyncGenerator[Event, None]:
        yield PhaseStarted(at=now(), phase=Phase.TEST)
        await goes_on.wait()
        async for event in passes(order):
            yield event

    executor.parts["a"] = [part]

    async def test() -> None:
        async with serving(store, executor) as controller:
            await executor.until_started(1)
            monkeypatch.setattr("farm.controller._now", lambda: now() + timedelta(hours=2))
            for _ in range(3):
                controller.wake()
                await asyncio.sleep(0.3)
            goes_on.set()
            await finished(store, run)
        assert rules(store, run) == ["passed"]

    go(test())


def test_no_more_attempts_are_under_way_than_there_is_room(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=3)
        await Controller(store, executor, Silent()).execute(submit(store, *"abcdefghij"))
        assert executor.most == 3

    go(test())


# --- many runs --------------------------------------------------------------------------------------


def test_serve_carries_out_what_is_there_and_what_comes(store: Store) -> None:
    async def test() -> None:
        first = submit(store, "a")
        async with serving(store, Rehearsal()) as controller:
            await finished(store, first)
            second = submit(store, "b")
            controller.wake()
            await finished(store, second)
        assert verdicts(store, first) | verdicts(store, second) == {"a": Verdict.PASSED, "b": Verdict.PASSED}

    go(test())


def test_a_run_that_is_not_for_the_server_is_left_alone(store: Store) -> None:
    async def test() -> None:
        other = store.create_run(submission("x"), now=now()).id
        mine = submit(store, "a")
        async with serving(store, Rehearsal()):
            await finished(store, mine)
        assert store.state(other).state is State.QUEUED

    go(test())


def test_the_run_with_the_highest_priority_comes_first_and_of_equals_the_oldest(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=1)
        wanted = {"low": 10, "old": 50, "new": 50, "high": 90}
        runs = [submit(store, name, name=name, priority=priority) for name, priority in wanted.items()]
        async with serving(store, executor):
            await finished(store, *runs)
        assert [order.key.cell for order in executor.orders] == ["high", "old", "new", "low"]

    go(test())


def test_runs_share_the_room_and_a_large_guest_takes_more_of_it(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=4)
        executor.parts = {"large": [waits], **{cell: [waits] for cell in "abcd"}}
        large = submit(store, "large", name="large", priority=90, guest={"vcpus": 2})
        small = submit(store, *"abcd", name="small")
        async with serving(store, executor):
            await executor.until_started(3)
            await asyncio.sleep(0.1)  # time in which a fourth would start
            assert sorted(key.run for key in executor.under_way) == [large, small, small]

    go(test())


def test_a_drained_host_is_named_to_attempts(store: Store) -> None:
    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        store.hosts.drain("h1", "its disk fails", now=now())
        async with serving(store, executor):
            await finished(store, run)
        assert executor.orders[0].avoid == ("h1",)

    go(test())


def test_a_source_is_kept_for_as_long_as_a_run_needs_it(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal()
        executor.parts["b"] = [waits]
        first, second = submit(store, "a"), submit(store, "b")  # of the same source
        async with serving(store, executor) as controller:
            await finished(store, first)
            assert executor.sources
            store.request_cancel(second, now=now())
            controller.wake()
            await finished(store, second)
            await executor.cancel(AttemptKey(run=second, cell="b", number=1))
        assert executor.sources == set()

    go(test())


def test_the_source_of_a_run_that_waits_for_room_is_not_offered_yet(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=1)
        executor.parts["a"] = [waits]
        submit(store, "a", priority=90)
        other = submission("b", name="other")
        source = other.source.model_copy(update={"digest": "e"})
        run = store.create_run(other.model_copy(update={"source": source, "served": True}), now=now()).id
        async with serving(store, executor) as controller:
            await until(lambda: run in controller._idle)
            assert executor.sources == {"d"}

    go(test())


def test_a_run_that_waits_for_room_can_be_cancelled(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=1)
        executor.parts["a"] = [waits]
        submit(store, "a", priority=90)
        run = submit(store, "b", name="other")
        async with serving(store, executor) as controller:
            await until(lambda: run in controller._idle)
            store.request_cancel(run, now=now())
            controller.wake()
            await finished(store, run)
        assert verdicts(store, run) == {"b": Verdict.CANCELLED}
        assert [order.key.cell for order in executor.orders] == ["a"]

    go(test())


def test_a_run_that_waits_begins_when_there_is_room(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal(slots=1)
        executor.parts["a"] = [waits]
        first, second = submit(store, "a", priority=90), submit(store, "b", name="other")
        async with serving(store, executor) as controller:
            await until(lambda: second in controller._idle)
            store.request_cancel(first, now=now())
            controller.wake()
            await finished(store, first, second)
        assert verdicts(store, second) == {"b": Verdict.PASSED}

    go(test())


def test_nothing_is_remembered_of_runs_that_have_ended(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal()
        executor.parts = {"lost": [is_lost], "broken": [is_a_defect], "moved": [is_elsewhere], "cancelled": [waits]}
        runs = [submit(store, cell, name=cell) for cell in ("fine", "lost", "broken", "moved", "cancelled")]
        async with serving(store, executor) as controller:
            await finished(store, *runs[:-1])
            store.request_cancel(runs[-1], now=now())
            controller.wake()
            await finished(store, *runs)
        left = {name: value for name, value in vars(controller).items() if isinstance(value, dict | set) and value}
        assert left == {}
        capacity = vars(controller)["_attempts"].capacity
        assert (capacity.guests, capacity.of_run) == ({}, {})
        assert capacity.left == capacity.hosts != {}

    go(test())


# --- restarts ---------------------------------------------------------------------------------------


def test_stopping_ends_the_guests_and_the_next_one_takes_the_run_up_where_it_was(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal()
        executor.parts["b"] = [waits]
        run = submit(store, "a", "b")
        async with serving(store, executor):
            await executor.until_started(2)
            await until(lambda: verdicts(store, run)["a"])
        assert executor.under_way == {}
        assert store.state(run).state is State.RUNNING
        async with serving(store, executor):
            await finished(store, run)
        assert verdicts(store, run) == {"a": Verdict.PASSED, "b": Verdict.PASSED}
        assert (rules(store, run, "a"), rules(store, run, "b")) == (["passed"], ["interrupted", "passed"])

    go(test())


def test_an_attempt_of_a_process_that_was_killed_is_interrupted_and_repeated(store: Store) -> None:
    async def test() -> None:
        run = submit(store, "a", retries={"infra": 0})
        store.start_attempt(AttemptKey(run=run, cell="a", number=1), now=now())
        async with serving(store, Rehearsal()):
            await finished(store, run)
        assert rules(store, run) == ["interrupted", "passed"]

    go(test())


# --- what goes wrong --------------------------------------------------------------------------------


async def given_up_alone(store: Store, broken: str, fine: str) -> None:
    """Of two runs one cannot be dealt with, and says why; the other passes, and the loop has not noticed."""
    async with serving(store, Rehearsal()) as controller:
        await finished(store, broken, fine)
        assert controller.pulse.failures == 0
    assert verdicts(store, fine) == {"fine": Verdict.PASSED}
    is_a_defect_of_the_farm(store, broken, "ZeroDivisionError: no such size")


def test_a_run_that_cannot_be_queued_is_given_up_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(run: str, *args: Any, **more: Any) -> Queue:
        if run == broken:
            raise ZeroDivisionError("no such size")
        return queue_of(run, *args, **more)

    monkeypatch.setattr("farm.dispatch.queue_of", breaks)
    broken, fine = submit(store, "broken", name="broken", priority=90), submit(store, "fine", name="fine")

    go(given_up_alone(store, broken, fine))


@pytest.mark.parametrize("where", ["choose", "Dispatch._beginning"])
def test_a_run_among_which_nothing_can_be_chosen_is_given_up_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whether the choice itself fails with it, or what is made of the choice."""
    broken, fine = submit(store, "broken", name="broken", priority=90), submit(store, "fine", name="fine")
    beginning = Dispatch._beginning

    def chooses(queues: Sequence[Queue], *rest: Any) -> tuple[Pick, ...]:
        if broken in {queue.run for queue in queues}:
            raise ZeroDivisionError("no such size")
        return choose(queues, *rest)

    def begins(dispatch: Dispatch, run: Any, *rest: Any) -> Beginning:
        if run.id == broken:
            raise ZeroDivisionError("no such size")
        return beginning(dispatch, run, *rest)

    monkeypatch.setattr(f"farm.dispatch.{where}", chooses if where == "choose" else begins)

    go(given_up_alone(store, broken, fine))


def test_a_run_that_is_broken_does_not_hold_up_the_others(store: Store) -> None:
    async def test() -> None:
        executor = Rehearsal()
        executor.parts["broken"] = [is_a_defect]
        broken, fine = submit(store, "broken", name="broken", priority=90), submit(store, "fine", name="fine")
        async with serving(store, executor):
            await finished(store, broken, fine)
        assert verdicts(store, fine) == {"fine": Verdict.PASSED}
        is_a_defect_of_the_farm(store, broken, "ZeroDivisionError")

    go(test())


def test_trouble_of_the_executor_ends_no_run_and_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.controller._AGAIN_S", (0.01,))

    async def test() -> None:
        executor = Rehearsal()
        first, second, fine = (
            _of_source(store, name, digest) for name, digest in (("first", "1"), ("second", "2"), ("fine", "3"))
        )
        executor.refused = {"1" * 64, "2" * 64}
        async with serving(store, executor) as controller:
            await finished(store, fine)
            executor.refused = {"1" * 64}  # the one that was in trouble first stays so
            await finished(store, second)
            assert controller.pulse.failures
            executor.refused = set()
            await finished(store, first)
        assert [verdicts(store, run) for run in (first, second)] == [{"a": Verdict.PASSED}] * 2

    go(test())


def _of_source(store: Store, name: str, digit: str) -> str:
    made = submission("a", name=name)
    source = made.source.model_copy(update={"digest": digit * 64})
    return store.create_run(made.model_copy(update={"served": True, "source": source}), now=now()).id


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Callable[[], sqlite3.Connection]]:
    """Lock the store, as another program would that does not let go of it; gives what to roll back."""
    other = sqlite3.connect(tmp_path / "farm.db", isolation_level=None, timeout=LONG_S)

    def lock() -> sqlite3.Connection:
        other.execute("BEGIN IMMEDIATE")
        return other

    yield lock
    other.close()


def test_a_store_that_takes_nothing_for_a_while_ends_neither_the_controller_nor_the_run(
    store: Store, locked: Callable[[], sqlite3.Connection]
) -> None:
    async def test() -> None:
        run = submit(store, "a")
        lock = locked()
        async with serving(store, Rehearsal()) as controller:
            await until(lambda: controller.pulse.failures)
            lock.rollback()
            await finished(store, run)
        assert verdicts(store, run) == {"a": Verdict.PASSED}

    go(test())


def test_an_attempt_whose_words_cannot_be_stored_is_lost_and_repeated(
    store: Store, locked: Callable[[], sqlite3.Connection]
) -> None:
    async def speaks_to_the_wall(order: Order) -> AsyncGenerator[Event, None]:
        locked()
        async for event in passes(order):
            yield event

    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [speaks_to_the_wall]
        async with serving(store, executor) as controller:
            await until(lambda: controller.pulse.failures)
            unlock()
            await finished(store, run)
        assert verdicts(store, run) == {"a": Verdict.PASSED}
        assert rules(store, run) == ["attempt-lost", "passed"]

    def unlock() -> None:
        connection.rollback()

    connection = locked()
    connection.rollback()
    go(test())


def test_what_an_attempt_came_to_is_kept_until_the_store_takes_it(
    store: Store, locked: Callable[[], sqlite3.Connection]
) -> None:
    async def locks_before_its_end(order: Order) -> AsyncGenerator[Event, None]:
        async for event in passes(order):
            yield event
        await until(lambda: store.events(0)[-1].kind == "ended")
        locked()

    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [locks_before_its_end]
        async with serving(store, executor) as controller:
            await until(lambda: controller.pulse.failures)
            connection.rollback()
            await finished(store, run)
        assert (rules(store, run), len(executor.orders)) == (["passed"], 1)

    connection = locked()
    connection.rollback()
    go(test())


def test_an_attempt_that_waits_for_its_place_is_ended_where_that_cannot_be_stored(
    store: Store, locked: Callable[[], sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_nothing(order: Order) -> AsyncGenerator[Event, None]:
        locked()
        await asyncio.Event().wait()
        yield Heartbeat(at=now())

    async def test() -> None:
        executor, run = Rehearsal(), submit(store, "a")
        executor.parts["a"] = [says_nothing]
        async with serving(store, executor) as controller:
            await until(lambda: controller.pulse.failures)
            assert executor.under_way == {}
            connection.rollback()
            await finished(store, run)
        assert rules(store, run) == ["attempt-lost", "passed"]

    monkeypatch.setattr("farm.attempts._FIRST_EVENT_S", 0.01)
    connection = locked()
    connection.rollback()
    go(test())


def test_execute_tells_that_the_store_takes_nothing(store: Store, locked: Callable[[], sqlite3.Connection]) -> None:
    async def test() -> None:
        run = submit(store, "a")
        locked()
        with pytest.raises(HostError, match="locked"):
            await Controller(store, Rehearsal(), Silent()).execute(run)

    go(test())


def test_the_pulse_tells_of_rounds(store: Store) -> None:
    async def test() -> None:
        run = submit(store, "a")
        async with serving(store, Rehearsal()) as controller:
            await finished(store, run)
        assert dict(controller.pulse.durations.buckets)["+Inf"] > 0
        assert controller.pulse.age_s < LONG_S

    go(test())
