"""The loop: store -> reconcile -> executor -> store. The only writer of what becomes of runs while they go on.

It decides nothing: `farm.lifecycle` says what to do next, `farm.schedule` which of all waiting cells start,
`farm.verdict` what an attempt came to, `farm.health` which hosts take no more work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from structlog.contextvars import bound_contextvars

from farm.abandoning import abandon
from farm.agenda import Agenda
from farm.attempts import Attempts, Executor, Watcher
from farm.dispatch import Beginning, Dispatch
from farm.errors import ConfigError, FarmError, HostError
from farm.health import Health, next_test
from farm.lifecycle import Cancel, Command, Conclude, Expire, Finish, Release, RunState
from farm.model import AttemptKey, HostMark, Outcome, RunRecord, State, Submission
from farm.pace import Pace
from farm.pulse import Pulse
from farm.schedule import NO_LIMITS, Limits
from farm.selftests import SelfTests
from farm.store import Store
from farm.store.states import KnownState
from farm.verdict import cancelled, defect, interrupted, lost_attempt

_TICK_S = 1.0
_AGAIN_S = (1.0, 2.0, 5.0, 10.0)
"""How long the loop waits after its first, second … failure in a row; the last holds for all that follow."""
_END_S = 20.0
"""For so long whoever stops waits for attempts to end; one that does not do so gently is killed before that."""
_PAUSE = 4.0
_LONGEST_S = 0.25
"""Between two rounds: what wakes the loop meanwhile is looked at together, and a cancel waits no longer than that."""

log = structlog.get_logger(__name__)


class _Run:
    """A run that is being taken to its end."""

    def __init__(self, run_id: str, submission: Submission) -> None:
        self.id = run_id
        self.submission = submission
        self.guest = submission.plan.matrix.guest
        self.placements = {placement.cell.id: placement for placement in submission.plan.placements}
        self.known = KnownState()
        self.agenda = Agenda()


class Controller:
    """Takes runs to their end."""

    def __init__(self, store: Store, executor: Executor, watcher: Watcher, limits: Limits = NO_LIMITS) -> None:
        self._store = store
        self._executor = executor
        self._watcher = watcher
        self._runs: dict[str, _Run] = {}
        """The runs that are being taken to their end."""
        self._attempts = Attempts(store, executor, watcher, self._ended)
        self._dispatch = Dispatch(executor.hosts, limits, self._defect)
        self._health = Health()
        self._wake = asyncio.Event()
        self._tests = SelfTests(store, executor, self._wake.set)
        self._broken: dict[str, BaseException] = {}
        """What a defect has raised while a run was queued, or an attempt of it followed."""
        self._offered: dict[str, str] = {}
        """Runs whose sources workers can have -> the digests of those."""
        self._idle: dict[str, datetime] = {}
        """Runs in which nothing is due until this time, unless the store hears something of them."""
        self._served: tuple[str, ...] = ()
        """The runs that are to be carried out, as of the newest event that was looked at."""
        self._heard: int | None = None
        """That event; None: none was yet."""
        self._troubled: dict[str, None] = {}
        """Runs at which a look at all has failed since they last went well, the latest last."""
        self._refused: dict[str, None] = {}
        """Runs whose source the executor has not taken, the latest last."""
        self._pace = Pace(pause=_PAUSE, longest_s=_LONGEST_S)
        self.pulse = Pulse()
        """Of the loop; may be read from any thread."""

    async def execute(self, run_id: str, lost: asyncio.Event | None = None) -> RunRecord:
        """Take a run to its end, even if that is a defect of the farm; returns it as the store has it then.

        Where `lost` is set, or the run has been ended by somebody else, only its guests end here.
        """
        try:
            run = await self._take_up(run_id)
            await self._offer(run)
            while not (lost and lost.is_set()) and await self._advance(run) is not State.FINISHED:
                if run_id in self._broken:
                    raise self._broken[run_id]
            self._attempts.stop()
            await self._attempts.settle()
            if run_id in self._broken:
                raise self._broken[run_id]
            return self._store.run(run_id)
        except (HostError, ConfigError) as error:
            self._abandon(run_id, lost_attempt(error.message))
            raise
        except Exception as error:  # noqa: BLE001 - a defect; it is told, and the run says what it was
            self._give_up(run_id, error)
            await self._attempts.settle(_END_S)
            return self._store.run(run_id)
        except BaseException:  # Ctrl-C, or whoever waits for this has been told to end
            self._abandon(run_id, cancelled("the farm was ended"))
            raise
        finally:
            await self._tests.stop()

    async def serve(self, stop: asyncio.Event) -> None:
        """Take all runs to their end that are there or come, by their priority, until it is to stop.

        Runs that have been begun by a process that is no more are taken up where they were. At the end all guests
        are gone, and the runs are left to whoever serves next.
        """
        stopped = asyncio.create_task(stop.wait())
        stopped.add_done_callback(lambda _: self._wake.set())
        failures = 0
        while not stop.is_set():
            with self.pulse.beat(), self._pace.working():
                outcome = await self._round()
            failures = failures + 1 if outcome is None else 0
            if failures:
                await self._wait(stop, _AGAIN_S[min(failures, len(_AGAIN_S)) - 1])
            else:
                await (self._pace.rest() if outcome else self._next_change())
        self._attempts.stop()
        await self._tests.stop()
        await self._attempts.settle(_END_S)
        with suppress(FarmError):
            self._attempts.tell()

    async def _round(self) -> bool | None:
        """One look at all runs; whether anything was due, None where the store or a host did not do its part."""
        busy, run_id = False, ""
        try:
            self._attempts.tell()
            marks = self._judged()
            served = self._served_now()
            for gone in self._runs.keys() - set(served):
                self._forget(gone)
            # Where the trouble is one run's, the others come before it the next time.
            late = {run: place for place, run in enumerate(self._troubled, 1)}
            for run_id in sorted(served, key=lambda run: late.get(run, 0)):
                if self._is_due(run_id):
                    busy |= await self._safely(run_id, self._look)
                self._troubled.pop(run_id, None)
            run_id = ""
            runs = [self._runs[run] for run in served if run in self._runs]
            # What could not be started takes no room from what can; of those, the latest to be tried comes last.
            again = [[self._runs[run]] for run in self._refused if run in self._runs]
            for group in ([run for run in runs if run.id not in self._refused], *again):
                for one, beginnings in self._begun(group, marks).items():
                    busy |= await self._safely(one, partial(self._start, beginnings))
            self._tests.look(marks, [host.name for host in self._executor.hosts()] if marks else ())
        except Exception as error:
            # The store is full, or somebody keeps it locked. Nothing is decided by that: the runs wait.
            self.pulse.failed()
            self._troubled.pop(run_id, None)
            self._troubled[run_id] = None
            trace = not isinstance(error, FarmError)
            log.exception("cannot look after the runs; trying again", run=run_id, error=str(error), exc_info=trace)
            return None
        return busy

    def _is_due(self, run_id: str) -> bool:
        """Whether to look at a run: its time has come, or an attempt of it has been silent for too long."""
        return self._idle.get(run_id, _now()) <= _now() or bool(self._attempts.silent(run_id))

    def _served_now(self) -> tuple[str, ...]:
        """The runs to be carried out; those of which there is something new, whoever wrote it, are looked at again."""
        if self._heard is None:
            self._heard = self._store.last_event()
            self._served = self._store.served()
        changes = self._store.changed(self._heard)
        for run_id in changes.runs:
            self._idle.pop(run_id, None)
        if changes.whole:  # no run comes or ends without an event of its own
            self._served = self._store.served()
        self._heard = changes.last
        return self._served

    @staticmethod
    async def _wait(stop: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)

    def cancel(self, run_id: str) -> None:
        """Ask for the end of a run; `execute` returns when all its guests are gone."""
        self._store.request_cancel(run_id, now=_now())
        self._wake.set()

    def wake(self) -> None:
        """Look at the store again: there may be a new run, or the wish that one ends."""
        self._wake.set()

    async def _take_up(self, run_id: str) -> _Run:
        """Begin with a run, which another process may have begun: nothing of what that one started is left."""
        run = self._store.run(run_id)
        for cell in run.cells:
            if cell.last and cell.last.state is not State.FINISHED:
                gone = interrupted("the farm was started again, and its guest is gone")
                self._attempts.lose(cell.last.key, gone)
        taken = self._runs[run_id] = _Run(run_id, run.submission)
        return taken

    async def _offer(self, run: _Run) -> None:
        """Put the source of a run where workers can have it; that of one that only waits would be in the way."""
        if run.id not in self._offered:
            source = run.submission.source
            archive = Path(source.archive) if source.archive else None
            await asyncio.to_thread(self._executor.offer_source, source.digest, archive)
            self._offered[run.id] = source.digest

    def _forget(self, run_id: str) -> None:
        """A run has come to its end, in whatever way."""
        self._runs.pop(run_id, None)
        self._broken.pop(run_id, None)
        self._idle.pop(run_id, None)
        self._dispatch.forget(run_id)
        self._refused.pop(run_id, None)
        self._troubled.pop(run_id, None)
        digest = self._offered.pop(run_id, None)
        if digest is not None and digest not in self._offered.values():
            self._executor.withdraw_source(digest)

    async def _advance(self, run: _Run) -> State:
        """One step of a run: what is due now, or else a wait for something to change."""
        with self._pace.working():
            state = self._store.state(run.id, run.known)
            self._attempts.tell()
            busy = self._step(run, state)
            hosts = [host.name for host in self._executor.hosts()]
            marks = self._judged(hosts)
            for beginnings in self._begun([run], marks).values():
                busy |= await self._start(beginnings, run)
            self._tests.look(marks, hosts)
        if busy:
            await self._pace.rest()
        elif state.state is not State.FINISHED:
            await self._next_change()
        return state.state

    async def _safely(self, run_id: str, do: Callable[[_Run], Awaitable[bool]]) -> bool:
        """Do something about one of many runs; whether anything was due.

        Raises HostError and ConfigError, of the store: those are no fault of the run.
        """
        try:
            with bound_contextvars(run=run_id):  # also for the tasks that begin in it
                run = self._runs.get(run_id) or await self._take_up(run_id)
                if run_id not in self._broken:
                    return await do(run)
        except (HostError, ConfigError):
            raise
        except Exception as error:  # noqa: BLE001 - a defect; it is told below
            self._broken[run_id] = error
        self._give_up(run_id, self._broken[run_id])
        return False

    async def _look(self, run: _Run) -> bool:
        return self._step(run, self._store.state(run.id, run.known))

    def _begun(self, runs: Sequence[_Run], marks: Collection[HostMark]) -> dict[str, list[Beginning]]:
        """What starts now; also where that fails, the next round looks at those runs again."""
        begun = self._dispatch.begin(runs, {mark.name for mark in marks}, self._attempts.capacity)
        for run_id in begun:
            self._idle.pop(run_id, None)
        return begun

    async def _start(self, beginnings: Sequence[Beginning], run: _Run) -> bool:
        self._refused.pop(run.id, None)
        self._refused[run.id] = None
        await self._offer(run)
        del self._refused[run.id]
        for beginning in beginnings:
            self._attempts.start(run.submission, run.placements[beginning.key.cell], beginning)
        return True

    def _judged(self, among: Collection[str] = ()) -> tuple[HostMark, ...]:
        """The hosts that take no new work, those included that just failed once too often.

        Of those of one run alone (`among`) the last stays: to wait for its test would help nobody.
        """
        marks = {mark.name: mark for mark in self._store.hosts.all()}
        for host, key, outcome in self._attempts.ended_on_hosts():
            judgement = self._health.take(host, key, outcome)
            if judgement and host not in marks and set(among) - marks.keys() != {host}:
                now = _now()
                marks[host] = HostMark(name=host, since=now, due=now + next_test(0), **judgement._asdict())
                self._store.hosts.put(marks[host])
                log.warning("a host takes no more work", host=host, mark=judgement.mark, reason=judgement.reason)
        return tuple(marks.values())

    def _give_up(self, run_id: str, error: BaseException) -> None:
        """One run that cannot go on must not hold up the others; what happened is told where runs are looked at."""
        log.error("cannot go on with the run", run=run_id, exc_info=error)
        self._abandon(run_id, defect(error))
        self._forget(run_id)

    def _step(self, run: _Run, state: RunState) -> bool:
        """Do what is due in a run; whether anything was. What waits then is left to the dispatch."""
        if state.state is State.FINISHED:
            return False
        commands, waiting = run.agenda.step(state, now=_now(), silent=self._attempts.silent(run.id))
        for command in commands:
            self._obey(run, command, was_cancelled=state.cancel_requested)
        if run.id in self._runs:
            self._dispatch.put(run.id, waiting)
            self._idle[run.id] = run.agenda.due
        return bool(commands)

    def _abandon(self, run_id: str, otherwise: Outcome) -> None:
        """Nobody looks after the run any more; the store says so, if it still takes it."""
        for key in self._attempts.of(run_id):
            self._attempts.end(key)
        with suppress(FarmError):
            abandon(self._store, run_id, otherwise)

    def _obey(self, run: _Run, command: Command, *, was_cancelled: bool) -> None:
        match command:
            case Cancel(cell=cell, number=number, reason=reason):
                self._attempts.cancel(AttemptKey(run=run.id, cell=cell, number=number), reason)
            case Expire(cell=cell, number=number):
                key = AttemptKey(run=run.id, cell=cell, number=number)
                self._attempts.lose(key, lost_attempt("nothing was heard of it for too long"))
            case Release(cell=cell, number=number):
                self._attempts.release(AttemptKey(run=run.id, cell=cell, number=number))
            case Conclude(cell=cell, outcome=outcome):
                self._store.finish_cell(run.id, cell, outcome, now=_now())
                self._watcher.concluded(cell, outcome)
            case Finish():
                self._store.finish_run(run.id, now=_now(), cancelled=was_cancelled)
                self._forget(run.id)

    def _ended(self, key: AttemptKey, defect: BaseException | None) -> None:
        self._idle.pop(key.run, None)
        self._wake.set()
        if defect:
            self._defect(key.run, defect)

    def _defect(self, run_id: str, defect: BaseException) -> None:
        """Something of one run is broken; the next look at it gives it up."""
        self._idle.pop(run_id, None)
        self._wake.set()
        if run_id in self._runs:
            self._broken.setdefault(run_id, defect)

    async def _next_change(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), _TICK_S)
            await self._pace.rest()
        except TimeoutError:
            return
        self._wake.clear()


def _now() -> datetime:
    return datetime.now(UTC)
