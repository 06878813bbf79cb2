"""What has to happen next in a run: a state in, commands out. Knows no clock, store, network or executor.

The controller calls `reconcile` again and again, carries out the commands in their order, and stores what
came of them, so that the next state shows it. A command is given until the state shows its effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from farm import verdict
from farm.model import Outcome, State, Verdict

LEASE_S = 60.0
"""How long an attempt may be silent before it counts as lost; workers beat far more often."""


@dataclass(frozen=True, slots=True)
class AttemptState:
    """An attempt of a cell."""

    number: int
    state: State
    seen: datetime
    """When it was last heard of; at first, when it was started."""
    outcome: Outcome | None = None
    """Of a finished one."""
    cancel_asked: bool = False


@dataclass(frozen=True, slots=True)
class CellState:
    """A cell with its attempts, the oldest first."""

    id: str
    state: State = State.QUEUED
    attempts: tuple[AttemptState, ...] = ()
    outcome: Outcome | None = None
    """Of a finished one."""
    may_fail: bool = False
    problem: str = ""
    """Why it fits on no host; empty where it does."""

    @property
    def running(self) -> AttemptState | None:
        """The attempt that is under way."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.state is not State.FINISHED else None


@dataclass(frozen=True, slots=True)
class RunState:
    """As much of a run as deciding needs."""

    cells: tuple[CellState, ...]
    """In the order of the plan."""
    state: State = State.QUEUED
    fail_fast: bool = False
    max_parallel: int | None = None
    retries_infra: int = 0
    cancel_requested: bool = False
    lease_s: float = LEASE_S


@dataclass(frozen=True, slots=True)
class Start:
    """Store this attempt and submit it."""

    cell: str
    number: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask this attempt to stop, and store that it was asked."""

    cell: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Store `verdict.lost_attempt()` as the outcome of this attempt, and kill what may be left of it."""

    cell: str
    number: int


@dataclass(frozen=True, slots=True)
class Conclude:
    """Store this as the outcome of the cell."""

    cell: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Finish:
    """Store that the run is finished."""


Command = Start | Cancel | Expire | Conclude | Finish


def reconcile(run: RunState, *, capacity: int, now: datetime) -> tuple[Command, ...]:
    """The commands that bring a run forward; empty where there is nothing to do but wait.

    `capacity` is how many attempts may be under way together, as far as the hosts are concerned.
    """
    if run.state is State.FINISHED:
        return ()
    open_cells = [cell for cell in run.cells if cell.state is not State.FINISHED]
    if not open_cells:
        return (Finish(),)
    conclusions = {cell.id: outcome for cell in open_cells if (outcome := _conclusion(cell, run))}
    remaining = [cell for cell in open_cells if cell.id not in conclusions]
    stop = _reason_to_stop(run, conclusions)
    return (
        *(Conclude(cell, outcome) for cell, outcome in conclusions.items()),
        *_expiries(remaining, run, now),
        *(_stops(remaining, stop, run, now) if stop else _starts(remaining, run, capacity)),
    )


def _conclusion(cell: CellState, run: RunState) -> Outcome | None:
    """What a cell has come to, where nothing is left to be tried."""
    if not cell.attempts:
        return verdict.unplaceable(cell.problem) if cell.problem else None
    last = cell.attempts[-1]
    if cell.running or last.outcome is None or _retry_due(cell, last.outcome, run):
        return None
    return last.outcome


def _retry_due(cell: CellState, outcome: Outcome, run: RunState) -> bool:
    tried = sum(1 for attempt in cell.attempts if attempt.outcome and attempt.outcome.retry)
    # An attempt that was asked to stop may well end as "lost": that is the cancel, not the outcome.
    return outcome.retry and (tried <= run.retries_infra or cell.attempts[-1].cancel_asked)


def _reason_to_stop(run: RunState, conclusions: dict[str, Outcome]) -> str:
    """Why nothing more is to be started and what runs is to stop; empty where that is not so."""
    if run.cancel_requested:
        return "the run was cancelled"
    if not run.fail_fast:
        return ""
    for cell in run.cells:
        outcome = cell.outcome or conclusions.get(cell.id)
        if outcome and not cell.may_fail and outcome.verdict in {Verdict.FAILED, Verdict.ERROR}:
            return f"fail-fast: {cell.id} came to {outcome.verdict}"
    return ""


def _silent(attempt: AttemptState, run: RunState, now: datetime) -> bool:
    return now - attempt.seen > timedelta(seconds=run.lease_s)


def _expiries(cells: Iterable[CellState], run: RunState, now: datetime) -> Iterator[Command]:
    for cell in cells:
        if cell.running and _silent(cell.running, run, now):
            yield Expire(cell.id, cell.running.number)


def _stops(cells: Iterable[CellState], reason: str, run: RunState, now: datetime) -> Iterator[Command]:
    for cell in cells:
        attempt = cell.running
        if not attempt:
            yield Conclude(cell.id, verdict.cancelled(reason))
        elif not attempt.cancel_asked and not _silent(attempt, run, now):
            yield Cancel(cell.id, attempt.number, reason)


def _starts(cells: Iterable[CellState], run: RunState, capacity: int) -> Iterator[Command]:
    """Cells that wait for their first attempt or for another, as many as there is room for."""
    cells = list(cells)
    limit = capacity if run.max_parallel is None else min(capacity, run.max_parallel)
    room = max(0, limit - sum(1 for cell in cells if cell.running))
    waiting = [cell for cell in cells if not cell.running]
    for cell in waiting[:room]:
        yield Start(cell.id, len(cell.attempts) + 1)
