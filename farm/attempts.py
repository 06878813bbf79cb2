"""The attempts that are under way: each is followed to its end, and what it came to is stored.

What is told to end is ended by the executor; what it came to then is what is known of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from farm.abandoning import lose
from farm.capacity import Capacity, UnderWay
from farm.dispatch import Beginning
from farm.errors import (
    AttemptCancelledError,
    AttemptLostError,
    ConfigError,
    FarmError,
    FencedError,
    HostError,
    UntrustedError,
)
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    Evidence,
    Failure,
    Heartbeat,
    Held,
    Host,
    Order,
    Outcome,
    Phase,
    Placed,
    Placement,
    Submission,
)
from farm.orders import order_for
from farm.places import size_of
from farm.recorder import Recorder
from farm.store import Store
from farm.verdict import after_hold, cancelled, classify, interrupted, lost_attempt

LEASE_S = 60.0
"""How long an attempt may be silent before it counts as lost; workers beat far more often."""
_LOOK_S = 1.0
_FIRST_EVENT_S = 10.0
_LONGEST_S = 900.0
"""For its first event, that is for its place in Ray: no more is submitted than there is room for."""

log = structlog.get_logger(__name__)


class Watcher(Protocol):
    """Somebody who looks on."""

    def event(self, key: AttemptKey, event: Event) -> None:
        """An attempt said something."""

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """A cell has its verdict."""


class Executor(Protocol):
    """Where attempts run: `farm.executor`. Its methods raise HostError where it does not do its part."""

    def offer_source(self, digest: str, archive: Path | None) -> None:
        """Put a source where every worker can have it; None: one with nothing in it."""

    def withdraw_source(self, digest: str) -> None:
        """No further attempt needs a source; nothing happens where it was not offered."""

    def hosts(self) -> tuple[Host, ...]:
        """The hosts that there are now."""

    def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Submit an order and yield its events; closing it ends the attempt.

        Raises AttemptCancelledError after `cancel`, AttemptLostError where the worker or its node died.
        """

    async def cancel(self, key: AttemptKey) -> None:
        """End an attempt; nothing happens where it has ended."""


class Ended(NamedTuple):
    """An attempt that has ended on a host."""

    host: str
    key: AttemptKey
    outcome: Outcome


@dataclass
class _Live:
    """An attempt that is followed."""

    guest: UnderWay
    """What it takes, of which host."""
    placed: bool = False
    """Whether it has said that it is there."""
    reason: str = "the attempt was cancelled from outside"
    """Why it ends, where it is told to."""
    kept: Evidence | None = None
    """What is known of it, where its guest is kept for a person."""
    released: bool = False
    """It was ended because the time of its guest is over."""
    heard: float = field(default_factory=time.monotonic)
    """When it last said something, by a clock that does not jump."""


class Attempts:
    """Those of all runs that this process takes to their end."""

    def __init__(
        self,
        store: Store,
        executor: Executor,
        watcher: Watcher,
        ended: Callable[[AttemptKey, BaseException | None], None],
    ) -> None:
        """`ended` is told of each, with the defect that ended it, if any."""
        self._store = store
        self._executor = executor
        self._recorder = Recorder(store, watcher.event)
        self._on_end = ended
        self._live: dict[AttemptKey, _Live] = {}
        self.capacity = Capacity()
        """What they leave of the hosts, as far as those are known."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._quiet: tuple[AttemptKey, ...] = ()
        """Those of which nothing had been heard for too long, when that was looked at last."""
        self._looked = 0.0
        self._ended_there: list[Ended] = []
        self._untold: dict[AttemptKey, tuple[Outcome, float]] = {}
        """What attempts came to, and their CPU seconds, where the store did not take it: it is asked again."""

    def start(self, submission: Submission, placement: Placement, beginning: Beginning) -> None:
        """Begin an attempt. Raises HostError."""
        key = beginning.key
        # Stored before its task is submitted: what is not in the store does not run.
        self._store.start_attempt(key, now=_now())
        size = size_of(submission.plan.matrix.guest)
        live = self._live[key] = _Live(UnderWay(submission.owner, size, beginning.host, key.run))
        self.capacity.add(live.guest)
        task = self._spawn(self._attempt(submission, placement, beginning))
        task.add_done_callback(lambda _: self._ended(key, task))

    def cancel(self, key: AttemptKey, reason: str) -> None:
        """Tell an attempt to stop."""
        self._store.cancel_asked(key)
        if live := self._live.get(key):
            live.reason = reason
        self.end(key)

    def release(self, key: AttemptKey) -> None:
        """The time of a guest that was kept is over."""
        if live := self._live.get(key):
            live.released = True
        self._store.holds.end(key, now=_now())
        self.end(key)

    def lose(self, key: AttemptKey, outcome: Outcome) -> None:
        """An attempt is not waited for any more, also one of a process that is no more."""
        if known := lose(self._store, key, outcome):
            self._note_end(key, known)
        self.end(key)

    def end(self, key: AttemptKey) -> None:
        """Have the executor end an attempt; nothing happens where it has ended."""
        if key in self._live:
            self._spawn(self._executor.cancel(key))

    def stop(self) -> None:
        """End all of them; whoever goes on with their runs tries them again."""
        self._stopping = True
        for key in tuple(self._live):
            self.end(key)

    async def settle(self, within_s: float | None = None) -> None:
        """Wait until all have ended; what went wrong with them was told when they did.

        After `within_s` nobody waits any more: where Ray's head is gone, nobody hears that a worker has ended.
        """
        tasks = tuple(self._tasks)
        if tasks:
            _, open_ = await asyncio.wait(tasks, timeout=within_s)
            for task in open_:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def of(self, run_id: str) -> tuple[AttemptKey, ...]:
        """Those of a run."""
        return tuple(key for key in self._live if key.run == run_id)

    def silent(self, run_id: str) -> frozenset[str]:
        """The cells of a run of whose attempts nothing has been heard for too long."""
        now = time.monotonic()
        if now - self._looked > _LOOK_S:  # once for all runs
            self._looked = now
            self._quiet = tuple(key for key, live in self._live.items() if live.heard < now - LEASE_S)
        mine = ((key, self._live.get(key)) for key in self._quiet if key.run == run_id)
        return frozenset(key.cell for key, live in mine if live and live.heard < now - LEASE_S)

    def ended_on_hosts(self) -> tuple[Ended, ...]:
        """What has ended since this was asked last, as far as it is known where."""
        found, self._ended_there = tuple(self._ended_there), []
        return found

    def tell(self) -> None:
        """Store what could not be stored before. Raises HostError, ConfigError."""
        for key in tuple(self._untold):
            self._tell(key)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ended(self, key: AttemptKey, task: asyncio.Task[None]) -> None:
        self.capacity.remove(self._live.pop(key).guest)
        self._recorder.forget(key)
        self._on_end(key, None if task.cancelled() else task.exception())

    async def _attempt(self, submission: Submission, placement: Placement, beginning: Beginning) -> None:
        key = beginning.key
        try:
            told = await self._follow(submission, placement, beginning)
        except FencedError:
            return  # somebody has said already what it came to
        except AttemptCancelledError:
            told = self._told_to_end(key), 0.0
        except AttemptLostError as error:
            told = self._cut_off(key, lost_attempt(error.message)), 0.0
        except UntrustedError as error:
            told = classify(Evidence(failure=_refused(error))), 0.0
        except (HostError, ConfigError) as error:
            log.error("an attempt is lost to the store", attempt=key, error=error.message)  # noqa: TRY400
            self._live[key].placed = False  # its host has done nothing wrong
            told = lost_attempt(f"what it said could not be stored: {error.message}"), 0.0
        with suppress(FarmError):  # its last words, while they are still taken
            await self._recorder.settled(key)
        self._note_end(key, told[0])
        self._untold[key] = told
        with suppress(HostError, ConfigError):  # it stays untold, and the loop tries again
            self._tell(key)

    async def _follow(
        self, submission: Submission, placement: Placement, beginning: Beginning
    ) -> tuple[Outcome, float]:
        """What an attempt came to, and its CPU seconds, when all that it said is stored.

        Raises AttemptCancelledError, AttemptLostError, FencedError, UntrustedError, HostError.
        """
        key = beginning.key
        order = order_for(submission, placement, key)
        where = {"only": beginning.going if order.only else (), "avoid": beginning.avoid}
        order = order.model_copy(update={**where, "secrets": self._store.secrets(key.run)})
        told = lost_attempt("its worker ended without a word"), 0.0
        async with aclosing(self._with_first_event(key, self._executor.run(order))) as events:
            async for event in events:
                self._live[key].heard = time.monotonic()
                if isinstance(event, Held):
                    event = _by_our_clock(event)  # noqa: PLW2901 - it is the same event
                    self._live[key].kept = event.evidence
                elif isinstance(event, Placed):
                    self._is_there(self._live[key], event.host)
                await self._recorder.take(key, event)
                if isinstance(event, AttemptEnded):
                    told = classify(event.evidence), event.cpu_s
        await self._recorder.settled(key)
        return told

    def _is_there(self, live: _Live, host: str) -> None:
        self.capacity.remove(live.guest)
        live.guest, live.placed = live.guest._replace(host=host), True
        self.capacity.add(live.guest)

    def _note_end(self, key: AttemptKey, outcome: Outcome) -> None:
        live = self._live.get(key)
        if live and live.placed:
            self._ended_there.append(Ended(live.guest.host, key, outcome))

    def _tell(self, key: AttemptKey) -> None:
        outcome, cpu_s = self._untold[key]
        self._store.finish_attempt(key, outcome, now=_now(), cpu_s=cpu_s)
        del self._untold[key]

    def _told_to_end(self, key: AttemptKey) -> Outcome:
        live = self._live[key]
        if live.released and live.kept:
            return classify(live.kept)
        if self._stopping:
            return self._cut_off(key, interrupted("the farm was stopped"))
        return self._cut_off(key, cancelled(live.reason))

    def _cut_off(self, key: AttemptKey, otherwise: Outcome) -> Outcome:
        kept = self._live[key].kept
        return after_hold(kept, otherwise) if kept else otherwise

    async def _with_first_event(
        self, key: AttemptKey, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        """The events; until the first one the attempt waits for its place in Ray, and is not lost.

        Raises AttemptLostError where that takes too long.
        """
        first = asyncio.ensure_future(anext(events, None))
        until = asyncio.get_running_loop().time() + _LONGEST_S
        async with aclosing(events):
            try:
                while not (await asyncio.wait({first}, timeout=_FIRST_EVENT_S))[0]:
                    if asyncio.get_running_loop().time() > until:
                        raise AttemptLostError(f"no worker began with it within {_LONGEST_S:g} s")
                    self._live[key].heard = time.monotonic()
                    await self._recorder.take(key, Heartbeat(at=_now()))
            except BaseException:
                first.cancel()
                await asyncio.wait({first})
                raise
            if (event := first.result()) is not None:
                yield event
                async for event in events:
                    yield event


def _refused(error: UntrustedError) -> Failure:
    return Failure(phase=Phase.COLLECT, ending=Ending.FAILED, error=type(error).__name__, message=error.message)


def _by_our_clock(event: Held) -> Held:
    now = _now()
    return event.model_copy(update={"at": now, "until": now + (event.until - event.at)})


def _now() -> datetime:
    return datetime.now(UTC)
