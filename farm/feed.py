"""What happens, to as many listeners as want to hear it: read from the store once, however many they are.

A listener names the last event that it knows. What came since is taken from the last few thousand in memory, or
from the store where it was away for longer; so nothing is lost, and nothing comes twice. Nothing is kept for a
listener: one that is slow falls behind, and is no burden to the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import cycle, takewhile

import structlog

from farm.errors import FarmError
from farm.model import EventRecord
from farm.store import Store

_PAGE = 250
_LOOK_S = 1.0
"""How often the store is asked although nobody said a word: others may write, too."""
_GATHER_S = 0.2
"""What comes within this time is passed on together: that costs as much as a single event."""
_GATHER_FOR_EACH_S = 0.0025
"""The same for each listener, where there are many: to wake one takes some 0.1 ms, and others want answers, too."""
_GATHER_LONGEST_S = 2.0
_GROUPS = 16
"""Listeners are woken a group at a time: whoever else wants something of the event loop comes in between."""

log = structlog.get_logger(__name__)


class Feed:
    """The events of a store. Lives in one event loop; `tell` may be called from any thread."""

    def __init__(self, store: Store, *, kept: int = 5_000) -> None:
        """`kept` is how many events stay in memory."""
        self._store = store
        self._recent: deque[EventRecord] = deque(maxlen=kept)
        self._last = store.last_event()
        self._floor = self._last
        """All events after this one are in memory."""
        self._cuts: dict[tuple[int, str | None], tuple[tuple[EventRecord, ...], int]] = {}
        """What is new for those who know the same: nearly all of them do."""
        self._news = [asyncio.Event() for _ in range(_GROUPS)]
        """Of each group of listeners; set, and replaced, when there are more."""
        self._groups = cycle(range(_GROUPS))
        self._told = asyncio.Event()
        self._pending = False
        """Somebody has said a word that was not looked at yet: another one says no more."""
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.listeners = 0
        """Clients that are being told; counted by `listening`."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """For as long as this lasts, there is one listener more."""
        self.listeners += 1
        try:
            yield
        finally:
            self.listeners -= 1

    @property
    def last(self) -> int:
        """The newest event that is known here."""
        return self._last

    @property
    def closed(self) -> bool:
        """Whether nothing comes any more, because the server ends."""
        return self._closed.is_set()

    def tell(self) -> None:
        """Something was stored."""
        if self._loop and not self._pending and not self._loop.is_closed():
            self._pending = True
            self._loop.call_soon_threadsafe(self._told.set)

    def close(self) -> None:
        """Let all listeners go; in the feed's own loop."""
        self._closed.set()
        for group in range(_GROUPS):
            self._wake(group)

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the feed is open."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    async def run(self) -> None:
        """Read what is new, for as long as this is not cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), _LOOK_S)
            try:
                await self._read()
            except Exception as error:
                log.warning("cannot read what is new", error=str(error), exc_info=not isinstance(error, FarmError))
            await asyncio.sleep(min(max(_GATHER_S, self.listeners * _GATHER_FOR_EACH_S), _GATHER_LONGEST_S))

    async def since(self, last: int, run_id: str | None = None) -> AsyncIterator[EventRecord]:
        """The events after one, of all runs or of one, until the feed is closed."""
        async for events in self.batches(last, run_id):
            for event in events:
                yield event

    async def batches(
        self, last: int, run_id: str | None = None, *, idle_s: float = _LOOK_S
    ) -> AsyncIterator[tuple[EventRecord, ...]]:
        """The same, as many at a time as there are; an empty tuple where there were none for `idle_s`."""
        due, group = time.monotonic() + idle_s, next(self._groups)
        while not self.closed:
            events: tuple[EventRecord, ...] = ()
            if last < self._floor:
                events, last = await self._stored(last, run_id)
            elif last < self._last:
                events, last = self._newer(last, run_id)
            else:
                await self._more(group, due - time.monotonic())
            if events or time.monotonic() >= due:
                yield events
                due = time.monotonic() + idle_s
                await asyncio.sleep(0)  # who is far behind has much to hear: others come in between

    async def _read(self) -> None:
        self._told.clear()
        self._pending = False  # before reading: what is stored from now on may be missed by that
        before = self._last
        try:
            while found := await asyncio.to_thread(self._store.events, self._last, limit=_PAGE):
                self._keep(found)
        finally:  # also where the store failed after a page
            for group in range(_GROUPS) if self._last > before else ():
                self._wake(group)
                await asyncio.sleep(0)

    def _keep(self, found: Iterable[EventRecord]) -> None:
        for event in found:
            if len(self._recent) == self._recent.maxlen:
                self._floor = self._recent[0].id
            self._recent.append(event)
            self._last = event.id
        self._cuts.clear()

    async def _stored(self, last: int, run_id: str | None) -> tuple[tuple[EventRecord, ...], int]:
        """A page of events after one, and up to where all are known after it."""
        known = self._last
        page = await asyncio.to_thread(self._store.events, last, run_id=run_id, limit=_PAGE)
        reached = page[-1].id if page else last
        return page, reached if len(page) == _PAGE else max(reached, known)

    def _newer(self, last: int, run_id: str | None) -> tuple[tuple[EventRecord, ...], int]:
        """A page of what is in memory after an event, and up to where all are known after it.

        It is looked for from the end, since that is where nearly all of those who ask are.
        """
        if (last, run_id) not in self._cuts:
            newest_first = takewhile(lambda event: event.id > last, reversed(self._recent))
            mine = tuple(event for event in newest_first if run_id is None or event.run == run_id)[::-1]
            page = mine[:_PAGE]
            self._cuts[last, run_id] = page, self._last if len(page) == len(mine) else page[-1].id
        return self._cuts[last, run_id]

    async def _more(self, group: int, wait_s: float) -> None:
        news = self._news[group]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):  # makes no task, as `wait_for` does: there are hundreds of listeners
                await news.wait()

    def _wake(self, group: int) -> None:
        news, self._news[group] = self._news[group], asyncio.Event()
        news.set()
