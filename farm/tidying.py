"""Keeps the state of a server from growing for ever: now and then, what is older than the settings say is forgotten.

Runs, their logs and their artifacts are no part of it: they are what the farm is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import structlog

from farm.errors import FarmError
from farm.feed import Feed
from farm.serverconfig import Keep
from farm.sources.kept import KeptSources
from farm.store import Store
from farm.store.leftovers import Leftovers

EVERY_S = 3600.0
_BROKEN_OFF = timedelta(hours=1)
"""Nothing has come of an upload for so long: another server on the same folder may have one under way."""

log = structlog.get_logger(__name__)


async def keep_tidy(store: Store, sources: KeptSources, ages: Keep, feed: Feed) -> None:
    """Tidy up, every hour, until the feed is closed."""
    while not feed.closed:
        try:
            gone = await asyncio.to_thread(tidy, store, sources, ages, now=datetime.now(UTC))
            if any(gone.values()):
                log.info("what is old was forgotten", **gone)
        except FarmError as error:
            log.warning("cannot forget what is old; trying again in an hour", error=error.message)
        await feed.pause(EVERY_S)


def tidy(store: Store, sources: KeptSources, ages: Keep, *, now: datetime) -> dict[str, int]:
    """Forget what is older than it is kept; gives how many of each kind. Raises HostError."""
    rows = Leftovers(store.engine)
    return {
        "pushes": rows.forget_pushes(now - timedelta(seconds=ages.pushes)),
        "deliveries": rows.forget_deliveries(now - timedelta(seconds=ages.deliveries)),
        "sessions": rows.forget_sessions(now),
        "uploads": sources.sweep(now - _BROKEN_OFF),
        "sources": len(list(_old_sources(rows, sources, now - timedelta(seconds=ages.sources)))),
    }


def _old_sources(rows: Leftovers, sources: KeptSources, before: datetime) -> Iterator[str]:
    """Remove the sources that were used last before, and that no unfinished run needs; gives their digests."""
    old = sources.unused_since(before)
    needed = rows.needed_sources() if old else frozenset()  # asked afterwards: who takes one up meanwhile has used it
    for digest in old:
        if digest not in needed and sources.remove(digest, unused_since=before):
            yield digest
