"""What has to happen next in a run: a state in, commands out. Knows no clock, store, network or executor.

The controller calls `reconcile` again and again, carries out the commands in their order, and stores what
came of them, so that the next state shows it. A command is given until the state shows its effect. Which of the
cells that wait start is decided for all runs together, by `farm.schedule`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from farm import rules, verdict
from farm.model import Outcome, State, Verdict

FIRST_BACKOFF_S = 2.0
"""How long a cell waits before it is tried again for the first time; it doubles with each try."""
LONGEST_BACKOFF_S = 300.0
PATIENCE_WITH_FULL_HOSTS = 3
"""So many attempts that a full host has ended count as no try: they say nothing of the cell."""
PATIENCE_WITH_INTERRUPTIONS = 10
"""So many attempts that ended with the farm count as no try: more, and it may be the cell that ends the farm."""

_RUN_CANCELLED = "the run was cancelled"
_CELL_CANCELLED = "the cell was cancelled"
_INTERRUPTED_AGAIN = "the farm has ended in the middle of {number} attempts at this cell, which may be why it ends"


@dataclass(frozen=True, slots=True)
class AttemptState:
    """An attempt of a cell."""

    number: int
    state: State
    since: datetime
    """When it was started; of a finished one, when it was last heard of."""
    outcome: Outcome | None = None
    """Of a finished one."""
    cancel_asked: bool = False
    held_until: datetime | None = None
    """Its guest is kept for a person until then; None: it is not, or not any more."""
    host: str = ""
    """Where it is or was; empty: it was given to none, or nobody knows."""


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
    cancel_requested: bool = False
    """Somebody wants this cell alone to end."""

    @property
    def running(self) -> AttemptState | None:
        """The attempt that is under way."""
        last = self.attempts[-1] if self.attempts else None
        return last if last and last.state is not State.FINISHED else None

    @property
    def waits(self) -> bool:
        """It has not ended, and no attempt is under way."""
        return self.state is not State.FINISHED and not self.running


@dataclass(frozen=True, slots=True)
class RunState:
    """As much of a run as deciding needs."""

    cells: tuple[CellState, ...]
    """In the order of the plan."""
    state: State = State.QUEUED
    fail_fast: bool = False
    max_parallel: int | None = None
    retries_infra: int = 0
    retries_test: int = 0
    cancel_requested: bool = False
    created: datetime | None = None
    queue_s: float | None = None
    """How long a cell may wait to be started; None: for ever, as where it is not known since when it waits."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask this attempt to stop, and store that it was asked."""

    cell: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Store that the guest of this attempt is not kept any longer, and end the attempt."""

    cell: str
    number: int


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


Command = Cancel | Release | Expire | Conclude | Finish


class Step(NamedTuple):
    """What is due in a run."""

    commands: tuple[Command, ...] = ()
    """In the order in which they are carried out."""
    waiting: tuple[CellState, ...] = ()
    """The cells that start as soon as there is room, in the order of the plan; the run's own limit is not looked at."""


def reconcile(run: RunState, *, now: datetime, silent: Collection[str] = frozenset()) -> Step:
    """What brings a run forward; nothing where there is nothing to do but wait.

    `silent` are the cells whose running attempts have not been heard of for too long, by a clock that does not jump.
    """
    if run.state is State.FINISHED:
        return Step()
    open_cells = [cell for cell in run.cells if cell.state is not State.FINISHED]
    if not open_cells:
        return Step((Finish(),))
    conclusions = {
        cell.id: outcome for cell in open_cells if (outcome := _conclusion(cell, run) or _overdue(cell, run, now))
    }
    remaining = [cell for cell in open_cells if cell.id not in conclusions]
    stop = _reason_to_stop(run, conclusions)
    stopping = [(cell, reason) for cell in remaining if (reason := stop or _own_reason(cell))]
    commands = (
        *(Conclude(cell, outcome) for cell, outcome in conclusions.items()),
        *_expiries(remaining, silent),
        *_releases(remaining, run, silent, now),
        *_stops(stopping, silent),
    )
    waiting = (cell for cell in remaining if not (stop or cell.cancel_requested or cell.running) and is_due(cell, now))
    return Step(commands, tuple(waiting))


def due(cell: CellState) -> datetime:
    """When a cell that waits may start: a host, a hypervisor or a network gets time to recover before another try."""
    last = cell.attempts[-1] if cell.attempts else None
    if last is None or last.outcome is None or not _counts(last.outcome):
        return _AT_ONCE
    return last.since + timedelta(seconds=backoff_s(_infra_tries(cell)))


def is_due(cell: CellState, now: datetime) -> bool:
    """Whether a cell that waits may start. An end in the future was told by a wrong clock: nothing waits for it."""
    return due(cell) <= now or cell.attempts[-1].since > now


def backoff_s(tries: int) -> float:
    """How long to wait after so many attempts (1 or more) that infrastructure has spoilt."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (min(tries, 30) - 1))


def failed_hosts(cell: CellState) -> frozenset[str]:
    """Where infrastructure has spoilt attempts at a cell: the next goes elsewhere, if there is anywhere else."""
    return frozenset(one.host for one in cell.attempts if one.host and one.outcome and _counts(one.outcome))


_AT_ONCE = datetime.min.replace(tzinfo=UTC)
_FOR_EVER_S = 100 * 365 * 86400.0
NEVER = datetime.max.replace(tzinfo=UTC)


def _conclusion(cell: CellState, run: RunState) -> Outcome | None:
    """What a cell has come to, where nothing is left to be tried."""
    if not cell.attempts:
        return verdict.unplaceable(cell.problem) if cell.problem else None
    last = cell.attempts[-1]
    if cell.running or last.outcome is None or _retry_due(cell, last.outcome, run):
        return None
    outcome = last.outcome
    number = _interruptions(one.outcome for one in cell.attempts if one.outcome)
    if _is_interrupted(outcome) and number > PATIENCE_WITH_INTERRUPTIONS:
        outcome = verdict.interrupted(_INTERRUPTED_AGAIN.format(number=number))
    return _summed_up(cell, outcome)


def _overdue(cell: CellState, run: RunState, now: datetime) -> Outcome | None:
    """What a cell has come to that has waited for longer than it may."""
    since = waits_since(cell, run)
    if since is None or run.queue_s is None or cell.running or run.cancel_requested or cell.cancel_requested:
        return None
    waited_s = (now - since).total_seconds()
    return _summed_up(cell, verdict.waited_too_long(run.queue_s)) if waited_s > run.queue_s else None


def waits_since(cell: CellState, run: RunState) -> datetime | None:
    """Since when a cell that waits does so: the end of its last attempt, or the beginning of its run."""
    return cell.attempts[-1].since if cell.attempts else run.created


def next_change(cell: CellState, run: RunState, now: datetime) -> datetime:
    """When something may become due of an open cell that does not change: its guest was kept for long enough, …."""
    if attempt := cell.running:
        return attempt.held_until or NEVER
    since = waits_since(cell, run)
    begins = NEVER if is_due(cell, now) else due(cell)
    if since is None or run.queue_s is None or run.queue_s > _FOR_EVER_S:
        return begins
    return min(begins, since + timedelta(seconds=run.queue_s))


def given_up(cell: CellState, otherwise: Outcome) -> Outcome:
    """What an open cell comes to that is not tried any more: its attempts say so, or, without any, `otherwise`."""
    last = cell.attempts[-1].outcome if cell.attempts else None
    return _summed_up(cell, last or otherwise)


def _summed_up(cell: CellState, last: Outcome) -> Outcome:
    """What several attempts come to, the last of them or a reason to make no more included.

    A failure was seen: only a pass can stand beside it, and is flaky then. Whatever says less leaves it standing.
    """
    failures = [one.outcome for one in cell.attempts if one.outcome and one.outcome.verdict is Verdict.FAILED]
    if not failures or last.verdict is Verdict.FAILED:
        return last
    return verdict.flaky(failures, len(cell.attempts)) if last.verdict is Verdict.PASSED else failures[-1]


def _retry_due(cell: CellState, outcome: Outcome, run: RunState) -> bool:
    if cell.attempts[-1].cancel_asked:
        # One that was asked to stop may well end as "lost": that is the cancel, not the outcome.
        return outcome.retry
    outcomes = [one.outcome for one in cell.attempts if one.outcome]
    return may_retry(outcomes, infra=run.retries_infra, test=run.retries_test)


def may_retry(outcomes: Sequence[Outcome], *, infra: int, test: int) -> bool:
    """Whether so many retries allow another attempt after these, of which there is at least one."""
    last = outcomes[-1]
    if last.verdict is Verdict.FAILED:
        return sum(1 for one in outcomes if one.verdict is Verdict.FAILED) <= test
    if _is_interrupted(last):
        return last.retry and _interruptions(outcomes) <= PATIENCE_WITH_INTERRUPTIONS
    return last.retry and _tries(outcomes) <= infra


def _counts(outcome: Outcome) -> bool:
    """Whether infrastructure has spoilt an attempt; one that ended with the farm itself says nothing of anything."""
    return outcome.retry and not _is_interrupted(outcome)


def _is_interrupted(outcome: Outcome) -> bool:
    """Whether an attempt ended with the program that looked after it."""
    return outcome.rule == rules.INTERRUPTED.rule


def _interruptions(outcomes: Iterable[Outcome]) -> int:
    return sum(1 for one in outcomes if _is_interrupted(one))


def _infra_tries(cell: CellState) -> int:
    return sum(1 for one in cell.attempts if one.outcome and _counts(one.outcome))


def _tries(outcomes: Iterable[Outcome]) -> int:
    """Those that use up a retry."""
    counted = [one for one in outcomes if _counts(one)]
    full = sum(1 for one in counted if one.rule == rules.HOST_FULL)
    return len(counted) - min(full, PATIENCE_WITH_FULL_HOSTS)


def _reason_to_stop(run: RunState, conclusions: dict[str, Outcome]) -> str:
    """Why nothing more is to be started and what runs is to stop; empty where that is not so."""
    if run.cancel_requested:
        return _RUN_CANCELLED
    if not run.fail_fast:
        return ""
    for cell in run.cells:
        outcome = cell.outcome or conclusions.get(cell.id)
        if outcome and not cell.may_fail and outcome.verdict in {Verdict.FAILED, Verdict.ERROR}:
            return f"fail-fast: {cell.id} came to {outcome.verdict}"
    return ""


def _own_reason(cell: CellState) -> str:
    return _CELL_CANCELLED if cell.cancel_requested else ""


def _expiries(cells: Iterable[CellState], silent: Collection[str]) -> Iterator[Command]:
    for cell in cells:
        if cell.running and cell.id in silent:
            yield Expire(cell.id, cell.running.number)


def _releases(cells: Iterable[CellState], run: RunState, silent: Collection[str], now: datetime) -> Iterator[Command]:
    if run.cancel_requested:  # which ends everything
        return
    for cell in cells:
        attempt = None if cell.cancel_requested else cell.running
        if attempt and attempt.held_until and attempt.held_until <= now and cell.id not in silent:
            yield Release(cell.id, attempt.number)


def _stops(cells: Iterable[tuple[CellState, str]], silent: Collection[str]) -> Iterator[Command]:
    for cell, reason in cells:
        attempt = cell.running
        if not attempt:
            yield Conclude(cell.id, _summed_up(cell, verdict.cancelled(reason)))
        elif not attempt.cancel_asked and cell.id not in silent:
            yield Cancel(cell.id, attempt.number, reason)
