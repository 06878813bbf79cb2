"""A run put together from its events alone: what the store's rows of it have to agree with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from farm.model import Ending, EventRecord, Evidence, Outcome, Phase, RunRecord, State
from farm.rules import ATTEMPT_LOST, CANCELLED, DEFECT, INTERRUPTED
from farm.verdict import classify, exit_code

_CUT_OFF = frozenset(row.rule for row in (ATTEMPT_LOST, CANCELLED, DEFECT, INTERRUPTED)) | {"unacceptable"}
"""Rules of attempts whose own last word did not count, or never came."""


@dataclass
class Attempt:
    """What its events say of an attempt."""

    host: str = ""
    phases: dict[Phase, Ending | None] = field(default_factory=dict)
    evidence: Evidence | None = None
    outcome: Outcome | None = None


@dataclass
class Cell:
    """What its events say of a cell."""

    attempts: list[Attempt] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def under_way(self) -> bool:
        """Whether an attempt has begun and not ended."""
        return bool(self.attempts) and self.attempts[-1].outcome is None


class Rebuilt:
    """A run, event by event."""

    def __init__(self, cells: Iterable[str]) -> None:
        self.cells = {cell: Cell() for cell in cells}
        self.state = State.QUEUED
        self.cancel_requested = self.cancelled = False
        self.exit_code: int | None = None
        self.wrong: list[str] = []
        """What may not happen, and did."""

    def hear(self, event: EventRecord) -> None:
        """The next event."""
        if self.state is State.FINISHED:
            self.wrong.append(f"after the end of the run came {event.kind}")
        if event.cell is None:
            self._of_run(event)
        elif event.number is None:
            self._of_cell(event, self.cells[event.cell])
        else:
            self._of_attempt(event, self.cells[event.cell], event.number)

    def _of_run(self, event: EventRecord) -> None:
        if event.kind == "run-cancelling":
            self.cancel_requested = True
        elif event.kind == "run-finished":
            self.wrong += [f"the run ended before {name}" for name, cell in self.cells.items() if cell.outcome is None]
            self.state = State.FINISHED
            self.cancelled, self.exit_code = event.payload["cancelled"], event.payload["exit_code"]
            if self.cancelled and not self.cancel_requested:
                self.wrong.append("the run was cancelled, and nobody has asked for that")

    def _of_cell(self, event: EventRecord, cell: Cell) -> None:
        if event.kind == "cell-finished":
            if cell.outcome or cell.under_way:
                self.wrong.append(f"{event.cell} was concluded again, or while an attempt was under way")
            cell.outcome = Outcome.model_validate(event.payload)

    def _of_attempt(self, event: EventRecord, cell: Cell, number: int) -> None:
        name = f"attempt {number} at {event.cell}"
        if event.kind == "attempt-started":
            if cell.outcome or cell.under_way or number != len(cell.attempts) + 1:
                self.wrong.append(f"{name} began after {len(cell.attempts)}, or after the end of its cell")
            cell.attempts.append(Attempt())
            self.state = State.RUNNING
        elif number != len(cell.attempts) or not cell.under_way:
            self.wrong.append(f"{name} was not under way and said {event.kind}")
        else:
            self.wrong += (f"{name} {line}" for line in _said(event, cell.attempts[-1]))


def _said(event: EventRecord, attempt: Attempt) -> Iterator[str]:
    """Take what an attempt that is under way said; gives what is wrong with that."""
    payload = event.payload
    if event.kind == "placed":
        attempt.host = payload["host"]
    elif event.kind == "phase-started":
        attempt.phases[Phase(payload["phase"])] = None
    elif event.kind == "phase-ended":
        attempt.phases[Phase(payload["phase"])] = Ending(payload["ending"])
    elif event.kind == "ended":
        attempt.evidence = Evidence.model_validate(payload["evidence"])
    elif event.kind == "attempt-finished":
        outcome = attempt.outcome = Outcome.model_validate(payload)
        known = classify(attempt.evidence) if attempt.evidence else None
        if outcome != known and outcome.rule not in _CUT_OFF:
            yield f"came to {outcome.rule}, and its evidence to {known and known.rule}"


def differences(run: RunRecord, events: Iterable[EventRecord]) -> Iterator[str]:
    """What of a run's rows is not what its events say, and what of these may not have happened."""
    rebuilt = Rebuilt(cell.id for cell in run.cells)
    for event in events:
        rebuilt.hear(event)
    yield from rebuilt.wrong
    said = (rebuilt.state, rebuilt.cancelled, rebuilt.exit_code)
    outcomes = {name: cell.outcome for name, cell in rebuilt.cells.items()}
    retold = [cell.model_copy(update={"outcome": outcomes[cell.id]}) for cell in run.cells]
    code = exit_code(run.model_copy(update={"cells": tuple(retold), "cancelled": rebuilt.cancelled}))
    stored = (run.state, run.cancelled, code)
    if said != stored:
        yield f"the run is {stored}, and its events say {said}"
    for cell in run.cells:
        told = rebuilt.cells[cell.id]
        if told.outcome != cell.outcome:
            yield f"{cell.id} is {cell.outcome}, and its events say {told.outcome}"
        there = [Attempt(one.host, {p.phase: p.ending for p in one.phases}, None, one.outcome) for one in cell.attempts]
        heard = [Attempt(one.host, one.phases, None, one.outcome) for one in told.attempts]
        if there != heard:
            yield f"the attempts at {cell.id} are {there}, and their events say {heard}"
