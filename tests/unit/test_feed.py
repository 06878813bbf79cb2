"""The feed: every event once, in its order, however late or slow somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from farm.errors import ConfigError
from farm.feed import Feed
from farm.model import EventRecord
from farm.store import Store
from tests.unit.test_store import submission

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@asynccontextmanager
async def running(store: Store, kept: int = 5_000) -> AsyncIterator[Feed]:
    feed = Feed(store, kept=kept)
    store.listen(feed.tell)
    task = asyncio.create_task(feed.run())
    yield feed
    task.cancel()


def submitted(store: Store, count: int) -> list[str]:
    """So many runs, which are an event each."""
    return [store.create_run(submission(), now=NOW).id for _ in range(count)]


async def taken(events: AsyncIterator[EventRecord], count: int) -> list[int]:
    return [(await anext(events)).id for _ in range(count)]


def test_what_was_before_comes_from_the_store_and_what_comes_from_memory(store: Store) -> None:
    async def test() -> None:
        submitted(store, 3)
        async with running(store) as feed:
            events = feed.since(0)
            assert await taken(events, 3) == [1, 2, 3]
            await asyncio.to_thread(submitted, store, 3)
            assert await taken(events, 3) == [4, 5, 6]

    asyncio.run(test())


@pytest.mark.parametrize("kept", [1, 3, 100])
def test_who_is_slower_than_memory_lasts_misses_nothing(store: Store, kept: int) -> None:
    async def test() -> None:
        async with running(store, kept=kept) as feed:
            events = feed.since(0)
            found = []
            for _ in range(4):
                await asyncio.to_thread(submitted, store, 5)
                found += await taken(events, 2)
            found += await taken(events, 12)
            assert found == list(range(1, 21))

    asyncio.run(test())


def test_who_listens_to_one_run_hears_nothing_of_others(store: Store) -> None:
    async def test() -> None:
        runs = submitted(store, 2)
        async with running(store) as feed:
            events = feed.since(0, runs[1])
            assert (await anext(events)).run == runs[1]
            await asyncio.to_thread(submitted, store, 2)
            await asyncio.to_thread(store.request_cancel, runs[1], now=NOW)
            assert (await anext(events)).kind == "run-cancelling"

    asyncio.run(test())


def test_somebody_for_whom_there_is_nothing_is_told_so_also_where_others_hear_much(store: Store) -> None:
    async def test() -> None:
        (run,) = submitted(store, 1)
        async with running(store) as feed:
            batches = feed.batches(1, run, idle_s=0.3)
            noise = asyncio.create_task(asyncio.to_thread(submitted, store, 30))
            assert await anext(batches) == ()
            await noise

    asyncio.run(test())


@pytest.mark.parametrize("wait", [lambda feed: anext(feed.since(0), None), lambda feed: feed.pause(1000)])
def test_a_feed_that_is_closed_lets_all_go(store: Store, wait: Callable[[Feed], Coroutine[Any, Any, object]]) -> None:
    async def test() -> None:
        async with running(store) as feed:
            waiting = asyncio.ensure_future(wait(feed))
            await asyncio.sleep(0)
            feed.close()
            assert await waiting is None

    asyncio.run(test())


def test_a_store_that_cannot_be_opened_for_a_while_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read, refusals = store.events, iter([ConfigError("cannot read the events: no more files can be opened")])

    def refuses_once(*arguments: Any, **names: Any) -> tuple[EventRecord, ...]:
        for refusal in refusals:
            raise refusal
        return read(*arguments, **names)

    async def test() -> None:
        async with running(store) as feed:
            monkeypatch.setattr(store, "events", refuses_once)
            await asyncio.to_thread(submitted, store, 2)
            assert await taken(feed.since(0), 2) == [1, 2]

    asyncio.run(asyncio.wait_for(test(), 30))
