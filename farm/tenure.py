"""Having a lease for as long as something lasts, and what is left of runs whose owner is no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from farm.abandoning import abandon
from farm.errors import ConfigError, FarmError, HostError
from farm.store import Store
from farm.store.leases import PROLONGED_S, SERVING, new_owner, of_run
from farm.verdict import lost_attempt

_REASON = "the program that carried out the run was killed, or its machine was"

log = structlog.get_logger(__name__)


@asynccontextmanager
async def tenure(store: Store, name: str, owner: str) -> AsyncIterator[asyncio.Event]:
    """Keep a lease that one has; gives what is set when it is lost to somebody else."""
    lost, ends = asyncio.Event(), asyncio.Event()
    keeping = asyncio.create_task(_keep(store, name, owner, lost, ends))
    try:
        yield lost
    finally:
        ends.set()
        await keeping  # cancelling it would not end its thread, which might take what has been given back
        with suppress(FarmError):
            store.leases.give_back(name, owner)


async def _keep(store: Store, name: str, owner: str, lost: asyncio.Event, ends: asyncio.Event) -> None:
    while not lost.is_set():
        await _first(ends, within_s=PROLONGED_S)
        if ends.is_set():
            return
        try:
            if not await asyncio.to_thread(store.leases.prolong, name, owner, now=_now()):
                log.error("the lease is lost: somebody else has it by now, or has ended what it was of", lease=name)
                lost.set()
        except (HostError, ConfigError) as error:
            log.warning("cannot prolong a lease; trying again", lease=name, error=error.message)


async def in_turns(
    store: Store, stop: asyncio.Event, serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]
) -> None:
    """Serve a store whenever nobody else does, until `stop`; `serve` is given what ends its turn.

    Runs whose owner is no more are brought to their end at the beginning of each turn.
    """
    owner, waits = new_owner(), False
    while not stop.is_set():
        if _take(store, owner):
            log.info("carrying out the runs")
            async with tenure(store, SERVING, owner) as lost:
                finish_lost_runs(store)
                await _turn(serve, stop, lost)
            waits = False
        else:
            if not waits:
                log.info("another server carries out the runs; it is this one's turn when that ends")
            waits = True
            await _first(stop, within_s=PROLONGED_S)


def _take(store: Store, owner: str) -> bool:
    try:
        return store.leases.take(SERVING, owner, now=_now())
    except (HostError, ConfigError) as error:
        log.warning("cannot find out who carries out the runs; trying again", error=error.message)
        return False


async def _turn(
    serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]], stop: asyncio.Event, lost: asyncio.Event
) -> None:
    ends = asyncio.Event()
    serving = asyncio.create_task(serve(ends))
    serving.add_done_callback(lambda _: ends.set())
    await _first(stop, lost, ends)
    ends.set()
    await serving


async def _first(*events: asyncio.Event, within_s: float | None = None) -> None:
    """Return when one of them is set, or the time is over."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def finish_lost_runs(store: Store) -> tuple[str, ...]:
    """End the runs of `farm run` whose process was killed; gives them. Does nothing where nothing can be written."""
    ended, owner = list[str](), new_owner()
    with suppress(HostError, ConfigError):
        for run_id in store.leases.dead_runs(now=_now()):
            # Its owner may only have stood still: having lost the lease, that one ends its guests.
            if store.leases.take(of_run(run_id), owner, now=_now()):
                abandon(store, run_id, lost_attempt(_REASON))
                store.leases.drop(of_run(run_id))
                ended.append(run_id)
    return tuple(ended)


def _now() -> datetime:
    return datetime.now(UTC)
