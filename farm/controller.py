"""The loop: store -> reconcile -> executor -> store. The only writer of the store while a run goes on.

It decides nothing: `farm.lifecycle` says what to do next, `farm.verdict` what an attempt came to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from farm.errors import AttemptCancelledError, AttemptLostError, HostError, UntrustedError
from farm.lifecycle import Cancel, Command, Conclude, Expire, Finish, Start, reconcile
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    Evidence,
    Failure,
    GuestSpec,
    Heartbeat,
    Order,
    Outcome,
    Phase,
    RunRecord,
    State,
)
from farm.planner import order_for
from farm.store import Store
from farm.verdict import cancelled, classify, lost_attempt

_TICK_S = 1.0
_FIRST_EVENT_S = 10.0


class Watcher(Protocol):
    """Somebody who looks on."""

    def event(self, key: AttemptKey, event: Event) -> None:
        """An attempt said something."""

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """A cell has its verdict."""


class Executor(Protocol):
    """Where attempts run: `farm.executor`."""

    def offer_source(self, digest: str, archive: Path) -> None:
        """Put a source where every worker can have it."""

    def capacity(self, guest: GuestSpec) -> int:
        """How many guests of this size run at a time."""

    def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Submit an order and yield its events; closing it ends the attempt.

        Raises AttemptCancelledError after `cancel`, AttemptLostError where the worker or its node died.
        """

    async def cancel(self, key: AttemptKey) -> None:
        """End an attempt; nothing happens where it has ended."""


class Controller:
    """Takes runs to their end."""

    def __init__(self, store: Store, executor: Executor, watcher: Watcher) -> None:
        self._store = store
        self._executor = executor
        self._watcher = watcher
        self._attempts: dict[AttemptKey, asyncio.Task[None]] = {}
        self._cancels: set[asyncio.Task[None]] = set()
        self._reasons: dict[AttemptKey, str] = {}
        self._wake = asyncio.Event()
        self._broken: BaseException | None = None
        """What a defect, or a store that fails, has raised while an attempt was followed."""

    async def execute(self, run_id: str) -> RunRecord:
        """Take a run to its end; returns it as the store has it then."""
        try:
            return await self._execute(self._store.run(run_id))
        except BaseException:
            self._abandon(run_id)
            raise

    async def _execute(self, run: RunRecord) -> RunRecord:
        source = run.submission.source
        await asyncio.to_thread(self._executor.offer_source, source.digest, Path(source.archive))
        capacity = self._executor.capacity(run.submission.plan.matrix.guest)
        while (state := self._store.state(run.id)).state is not State.FINISHED:
            commands = reconcile(state, capacity=capacity, now=_now())
            for command in commands:
                self._obey(run, command, was_cancelled=state.cancel_requested)
            await (asyncio.sleep(0) if commands else self._next_change())
            if self._broken:
                raise self._broken
        await asyncio.gather(*self._attempts.values(), *self._cancels)
        return self._store.run(run.id)

    def _abandon(self, run_id: str) -> None:
        """Say in the store that nobody looks after the run any more, if the store still takes it."""
        with suppress(HostError):
            for cell in self._store.run(run_id).cells:
                if cell.last and cell.last.state is not State.FINISHED:
                    self._store.finish_attempt(cell.last.key, cancelled("the farm was ended"), now=_now())
                if cell.state is not State.FINISHED:
                    self._store.finish_cell(run_id, cell.id, cancelled("the farm was ended"), now=_now())
            self._store.finish_run(run_id, now=_now(), cancelled=True)

    def cancel(self, run_id: str) -> None:
        """Ask for the end of a run; `execute` returns when all its guests are gone."""
        self._store.request_cancel(run_id)
        self._wake.set()

    def _obey(self, run: RunRecord, command: Command, *, was_cancelled: bool) -> None:
        match command:
            case Start(cell=cell, number=number):
                self._start(run, AttemptKey(run=run.id, cell=cell, number=number))
            case Cancel(cell=cell, number=number, reason=reason):
                self._cancel(AttemptKey(run=run.id, cell=cell, number=number), reason)
            case Expire(cell=cell, number=number):
                key = AttemptKey(run=run.id, cell=cell, number=number)
                self._store.finish_attempt(key, lost_attempt("nothing was heard of it for too long"), now=_now())
                self._end(key)
            case Conclude(cell=cell, outcome=outcome):
                self._store.finish_cell(run.id, cell, outcome, now=_now())
                self._watcher.concluded(cell, outcome)
            case Finish():
                self._store.finish_run(run.id, now=_now(), cancelled=was_cancelled)

    def _start(self, run: RunRecord, key: AttemptKey) -> None:
        # Stored before its task is submitted: what is not in the store does not run.
        self._store.start_attempt(key, now=_now())
        task = asyncio.create_task(self._attempt(run, key), name=str(key))
        self._attempts[key] = task
        task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: AttemptKey) -> None:
        task = self._attempts.pop(key)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            self._broken = self._broken or error

    def _cancel(self, key: AttemptKey, reason: str) -> None:
        self._reasons[key] = reason
        self._store.cancel_asked(key)
        self._end(key)

    def _end(self, key: AttemptKey) -> None:
        task = asyncio.create_task(self._executor.cancel(key))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _attempt(self, run: RunRecord, key: AttemptKey) -> None:
        placement = next(cell.placement for cell in run.cells if cell.id == key.cell)
        order = order_for(run.submission, placement, key)
        outcome = lost_attempt("its worker ended without a word")
        cpu_s = 0.0
        try:
            async with aclosing(self._with_first_event(key, self._executor.run(order))) as events:
                async for event in events:
                    if not self._store.record(key, (event,), now=_now()):
                        return  # fenced: somebody has already said what became of it
                    self._watcher.event(key, event)
                    if isinstance(event, AttemptEnded):
                        outcome, cpu_s = classify(event.evidence), event.cpu_s
        except AttemptCancelledError:
            outcome = cancelled(self._reasons.get(key, "the attempt was cancelled from outside"))
        except AttemptLostError as error:
            outcome = lost_attempt(error.message)
        except UntrustedError as error:
            outcome = classify(Evidence(failure=_refused(error)))
        self._store.finish_attempt(key, outcome, now=_now(), cpu_s=cpu_s)

    async def _with_first_event(
        self, key: AttemptKey, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        """The events; until the first one the attempt waits for its place in Ray, and is not lost."""
        first = asyncio.ensure_future(anext(events, None))
        while not (await asyncio.wait({first}, timeout=_FIRST_EVENT_S))[0]:
            self._store.record(key, (Heartbeat(at=_now()),), now=_now())
        async with aclosing(events):
            if (event := first.result()) is not None:
                yield event
                async for event in events:
                    yield event

    async def _next_change(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _TICK_S)
        except TimeoutError:
            return
        self._wake.clear()


def _refused(error: UntrustedError) -> Failure:
    return Failure(phase=Phase.COLLECT, ending=Ending.FAILED, error=type(error).__name__, message=error.message)


def _now() -> datetime:
    return datetime.now(UTC)
