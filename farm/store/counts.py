"""Numbers over all that the store has, for the metrics. What is asked at each scrape reads unfinished runs only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, func, select

from farm.meter import Attempt, Baseline
from farm.model import State
from farm.store import tables as t
from farm.store.database import reading
from farm.store.hooks import FAILED
from farm.store.records import when

_OPEN = t.runs.c.state.in_((State.QUEUED, State.RUNNING))
_LIVE = and_(_OPEN, t.attempts.c.run == t.runs.c.id, t.attempts.c.state == State.RUNNING)


@dataclass(frozen=True)
class HostUse:
    """What the guests of a host take of it."""

    guests: int
    vcpus: int
    memory_mib: int


@dataclass(frozen=True)
class Counts:
    """How things are now."""

    runs: dict[str, int]
    """By state."""
    cells: dict[str, int] = field(default_factory=dict)
    """Of unfinished runs, by state."""
    waiting: dict[int, int] = field(default_factory=dict)
    """Cells that nothing has been tried for, by priority."""
    oldest: dict[int, datetime] = field(default_factory=dict)
    """When the oldest run with such cells was submitted, by priority."""
    hosts: dict[str, HostUse] = field(default_factory=dict)
    held: int = 0
    deliveries: dict[str, int] = field(default_factory=dict)
    """By what became of them."""
    pushes: dict[str, int] = field(default_factory=dict)
    """That triggers have taken and that are no run: `waiting`, `failed`."""


def read_counts(engine: Engine) -> Counts:
    """How things are now. Raises HostError."""
    with reading(engine, "count what there is") as db:
        counts = Counts(
            runs=_by(db, t.runs.c.state),
            hosts=_hosts(db),
            held=db.scalar(select(func.count()).select_from(t.holds).where(t.holds.c.ended.is_(None))) or 0,
            deliveries=_by(db, _FATE),
            pushes={name: db.scalar(query) or 0 for name, query in _PUSHES.items()},
        )
        _add_cells(db, counts)
    return counts


def read_baseline(engine: Engine) -> Baseline:
    """What has happened until now, as one state of the store. Raises HostError."""
    attempts, outcome = t.attempts.c, t.attempts.c.outcome
    again = attempts.number > 1
    labels = (*(_text(outcome[name]) for name in ("verdict", "blame", "rule")), _text(attempts.facts["host"]))
    ended: Any = select(*labels, func.count()).where(attempts.state == State.FINISHED).group_by(*labels)
    ends = select(t.runs.c.exit_code, func.count()).where(t.runs.c.state == State.FINISHED).group_by(t.runs.c.exit_code)
    with reading(engine, "count what has happened") as db:
        exits = {"" if row[0] is None else str(row[0]): int(row[1]) for row in db.execute(ends)}
        return Baseline(
            last=db.scalar(select(func.max(t.events.c.id))) or 0,
            started={bool(row[0]): row[1] for row in db.execute(select(again, func.count()).group_by(again))},
            finished={(row[0], row[1], row[2], row[3]): row[4] for row in db.execute(ended)},
            runs=exits,
            facts=_live_facts(db),
        )


_FATE = case((t.deliveries.c.done.is_not(None), "done"), (t.deliveries.c.due.is_not(None), "waiting"), else_="failed")


_PUSHES = {
    "waiting": select(func.count()).where(t.hooks.c.push.is_not(None), t.hooks.c.run.is_(None)),
    "failed": select(func.count()).where(t.audit.c.action == FAILED),
}


def _text(value: Any) -> ColumnElement[str]:
    return func.coalesce(value.as_string(), "")


def _by(db: Connection, column: ColumnElement[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in db.execute(select(column, func.count()).group_by(column))}


def _add_cells(db: Connection, counts: Counts) -> None:
    columns = (t.cells.c.state, t.runs.c.priority)
    query = (
        select(*columns, func.count(), func.min(t.runs.c.created))
        .join(t.runs, t.cells.c.run == t.runs.c.id)
        .where(_OPEN)
        .group_by(*columns)
    )
    for state, priority, count, oldest in db.execute(query):
        counts.cells[state] = counts.cells.get(state, 0) + count
        if state == State.QUEUED:
            counts.waiting[priority], counts.oldest[priority] = count, when(oldest)


def _hosts(db: Connection) -> dict[str, HostUse]:
    facts = t.attempts.c.facts
    host = facts["host"].as_string()
    sums = (func.count(), func.sum(facts["vcpus"].as_integer()), func.sum(facts["memory_mib"].as_integer()))
    query = select(host, *sums).where(_LIVE, host.is_not(None)).group_by(host)
    return {row[0]: HostUse(guests=row[1], vcpus=row[2], memory_mib=row[3]) for row in db.execute(query)}


def _live_facts(db: Connection) -> dict[Attempt, dict[str, Any]]:
    a = t.attempts.c
    query = select(a.run, a.cell, a.number, a.facts).where(_LIVE)
    return {(run, cell, number): facts or {} for run, cell, number, facts in db.execute(query)}
