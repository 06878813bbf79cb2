"""Keeps the meter: begins with what the store says has happened, goes on with the feed."""

from __future__ import annotations

import asyncio

import structlog

from farm.errors import FarmError
from farm.feed import Feed
from farm.meter import Meter
from farm.store import Store
from farm.store.counts import read_baseline

_AGAIN_S = 10.0

log = structlog.get_logger(__name__)


async def keep(meter: Meter, store: Store, feed: Feed) -> None:
    """Count what happens, in the feed's own loop, until the feed is closed."""
    last = 0
    while not feed.closed:
        try:
            if not meter.ready:
                past = await asyncio.to_thread(read_baseline, store.engine)
                meter.begin(past)
                last = past.last
            async for events in feed.batches(last):
                meter.take(events)
                last = events[-1].id if events else last
        except FarmError as error:
            log.warning("cannot count what happens; trying again", error=error.message)
            await feed.pause(_AGAIN_S)
