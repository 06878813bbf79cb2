"""As much of a run as deciding needs, kept up to date: only what has changed is read again.

What happens to a cell is a line of the table of events in the same transaction, so the events say which cells to
read. Two things change without a line, and of running attempts only: that they were asked to stop, and that a hold was
ended. Those are read each time: of few attempts, for most are neither asked to stop nor held.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, bindparam, case, func, or_, select

from farm.lifecycle import AttemptState, CellState, RunState
from farm.model import Placement, State, Submission
from farm.store import tables as t
from farm.store.records import outcome_of, when

_MOST_CHANGED = 1000
"""Cells that are asked for by their names; where more have changed, all are read."""

DECIDES_NOTHING = ("phase-started", "phase-ended", "guest", "tests", "artifact", "ended")
"""Kinds of event that change nothing of what deciding needs. They are nearly all that there are."""

_SAME = and_(*(t.holds.c[name] == t.attempts.c[name] for name in ("run", "cell", "number")))
_KEPT = t.attempts.outerjoin(t.holds, _SAME)
_UNTIL = case((t.holds.c.ended.is_(None), t.holds.c.until)).label("until")
_MINE = t.attempts.c.run == bindparam("run_id")
_TOLD = (
    select(t.attempts.c.cell, t.attempts.c.number, t.attempts.c.cancel_asked, _UNTIL)
    .select_from(_KEPT)
    .where(_MINE, t.attempts.c.state == State.RUNNING, or_(t.attempts.c.cancel_asked, t.holds.c.number.is_not(None)))
)
"""The running attempts that were asked to stop, or are held or were."""
_LAST = select(func.max(t.events.c.id)).where(t.events.c.run == bindparam("run_id"))
_CHANGED = (
    select(t.events.c.cell)
    .distinct()
    .where(
        t.events.c.run == bindparam("run_id"),
        t.events.c.id > bindparam("last"),
        t.events.c.cell.is_not(None),
        *(t.events.c.kind != kind for kind in DECIDES_NOTHING),  # not_in() is put together anew each time
    )
    .limit(_MOST_CHANGED + 1)
)


class _Query(NamedTuple):
    """Made once: to put a statement together costs more than to carry it out."""

    all: Select[tuple[Any, ...]]
    some: Select[tuple[Any, ...]]

    @classmethod
    def of(cls, whole: Select[tuple[Any, ...]], cell: ColumnElement[str]) -> _Query:
        """One for the cells of a run, and one for some of them."""
        return cls(whole, whole.where(cell.in_(bindparam("cells", expanding=True))))


_CELLS = _Query.of(
    select(*(t.cells.c[name] for name in ("cell", "state", "outcome", "cancel_requested")))
    .where(t.cells.c.run == bindparam("run_id"))
    .order_by(t.cells.c.position),
    t.cells.c.cell,
)
_OF_ATTEMPTS = ("cell", "number", "state", "created", "seen", "outcome", "cancel_asked", "host")
_ATTEMPTS = _Query.of(
    select(*(t.attempts.c[name] for name in _OF_ATTEMPTS), _UNTIL)
    .select_from(_KEPT)
    .where(_MINE)
    .order_by(t.attempts.c.number),
    t.attempts.c.cell,
)


class KnownState:
    """What is known of one run; belongs to whoever asks again and again, and to one thread."""

    def __init__(self) -> None:
        self._cells: dict[str, CellState] = {}
        """In the order of the plan."""
        self._last = -1
        """The newest event of the run that was seen; -1: nothing was read yet."""
        self._placements: dict[str, Placement] = {}

    def read(self, db: Connection, run: RowMapping, submission: Submission) -> RunState:
        """The run as it is, in one state of the database."""
        last = db.scalar(_LAST, {"run_id": run["id"]}) or 0
        if last != self._last:
            if not self._placements:
                self._placements = {placement.cell.id: placement for placement in submission.plan.placements}
            changed = self._changed(db, run["id"])
            if changed is None or changed:
                found = _cell_states(db, run["id"], self._placements, changed)
                # What is as it was stays the same object: by that others see that there is nothing to decide anew.
                self._cells |= {id_: cell for id_, cell in found.items() if cell != self._cells.get(id_)}
            self._last = last
        self._look_at_told(db, run["id"])
        matrix = submission.plan.matrix
        limits = [limit for limit in (matrix.max_parallel, submission.max_parallel) if limit]
        return RunState(
            cells=tuple(self._cells.values()),
            state=State(run["state"]),
            fail_fast=matrix.fail_fast,
            max_parallel=min(limits, default=None),
            retries_infra=matrix.retries.infra,
            retries_test=matrix.retries.test,
            cancel_requested=run["cancel_requested"],
            created=when(run["created"]),
            queue_s=matrix.timeouts.queue,
        )

    def _changed(self, db: Connection, run_id: str) -> list[str] | None:
        """The cells to be read; None: all."""
        if self._last < 0:
            return None
        found = db.scalars(_CHANGED, {"run_id": run_id, "last": self._last})
        cells = [cell for cell in found if cell is not None]
        return cells if len(cells) <= _MOST_CHANGED else None

    def _look_at_told(self, db: Connection, run_id: str) -> None:
        for cell, number, cancel_asked, until in db.execute(_TOLD, {"run_id": run_id}):
            known, held_until = self._cells[cell], when(until) if until else None
            attempts = known.attempts
            place = next(place for place, one in enumerate(attempts) if one.number == number)
            old = attempts[place]
            if (old.cancel_asked, old.held_until) != (cancel_asked, held_until):
                new = replace(old, cancel_asked=cancel_asked, held_until=held_until)
                self._cells[cell] = replace(known, attempts=(*attempts[:place], new, *attempts[place + 1 :]))


def _cell_states(
    db: Connection, run_id: str, placements: Mapping[str, Placement], cells: Collection[str] | None
) -> dict[str, CellState]:
    """Some cells of a run, or all, in the order of the plan."""
    attempts = _attempt_states(db, run_id, cells)
    return {
        row["cell"]: CellState(
            id=row["cell"],
            state=State(row["state"]),
            attempts=tuple(attempts.get(row["cell"], ())),
            outcome=outcome_of(row),
            may_fail=placements[row["cell"]].cell.may_fail,
            problem=placements[row["cell"]].problem,
            cancel_requested=row["cancel_requested"],
        )
        for row in db.execute(*_asking(_CELLS, run_id, cells)).mappings()
    }


def _attempt_states(db: Connection, run_id: str, cells: Collection[str] | None) -> dict[str, list[AttemptState]]:
    found: dict[str, list[AttemptState]] = {}
    for row in db.execute(*_asking(_ATTEMPTS, run_id, cells)).mappings():
        state = State(row["state"])
        attempt = AttemptState(
            number=row["number"],
            state=state,
            since=when(row["seen"] if state is State.FINISHED else row["created"]),
            outcome=outcome_of(row),
            cancel_asked=row["cancel_asked"],
            held_until=when(row["until"]) if row["until"] else None,
            host=row["host"],
        )
        found.setdefault(row["cell"], []).append(attempt)
    return found


def _asking(
    query: _Query, run_id: str, cells: Collection[str] | None
) -> tuple[Select[tuple[Any, ...]], dict[str, object]]:
    """The statement for some cells of a run, or for all of them, and what it is asked with."""
    if cells is None:
        return query.all, {"run_id": run_id}
    return query.some, {"run_id": run_id, "cells": list(cells)}
