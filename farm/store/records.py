"""Rows into records."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from farm.model import (
    ArtifactRecord,
    AttemptKey,
    AttemptRecord,
    CellRecord,
    GuestFacts,
    Outcome,
    PhaseRecord,
    RunRecord,
    Submission,
    TestResult,
)
from farm.store import tables as t

Grouped = dict[tuple[str, int], list[dict[str, Any]]]
"""Rows of one table of a run, by cell and number of the attempt."""


def when(text: str) -> datetime:
    """A time of the tables."""
    return datetime.fromisoformat(text)


def outcome_of(row: RowMapping) -> Outcome | None:
    """The outcome in a row of a cell or an attempt."""
    return Outcome.model_validate(row["outcome"]) if row["outcome"] else None


def read_run(db: Connection, run: RowMapping) -> RunRecord:
    """A run with everything that belongs to it."""
    submission = Submission.model_validate(run["submission"])
    placements = {placement.cell.id: placement for placement in submission.plan.placements}
    attempts = _attempts(db, run["id"])
    rows = db.execute(select(t.cells).where(t.cells.c.run == run["id"]).order_by(t.cells.c.position)).mappings()
    return RunRecord(
        id=run["id"],
        submission=submission,
        state=run["state"],
        created=when(run["created"]),
        finished=when(run["finished"]) if run["finished"] else None,
        cancelled=run["cancelled"],
        cells=tuple(
            CellRecord(
                placement=placements[row["cell"]],
                state=row["state"],
                outcome=outcome_of(row),
                attempts=tuple(attempts.get(row["cell"], ())),
            )
            for row in rows
        ),
    )


def _attempts(db: Connection, run_id: str) -> dict[str, list[AttemptRecord]]:
    parts = {table.name: _grouped(db, table, run_id) for table in (t.phases, t.tests, t.artifacts)}
    found: dict[str, list[AttemptRecord]] = {}
    query = select(t.attempts).where(t.attempts.c.run == run_id).order_by(t.attempts.c.number)
    for row in db.execute(query).mappings():
        place = (row["cell"], row["number"])
        found.setdefault(row["cell"], []).append(
            AttemptRecord(
                key=AttemptKey(run=run_id, cell=row["cell"], number=row["number"]),
                state=row["state"],
                created=when(row["created"]),
                finished=when(row["finished"]) if row["finished"] else None,
                seen=when(row["seen"]),
                facts=GuestFacts.model_validate(row["facts"]) if row["facts"] else None,
                outcome=outcome_of(row),
                phases=tuple(PhaseRecord.model_validate(part) for part in parts["phases"].get(place, ())),
                tests=tuple(TestResult.model_validate(part) for part in parts["tests"].get(place, ())),
                artifacts=tuple(ArtifactRecord.model_validate(part) for part in parts["artifacts"].get(place, ())),
                cpu_s=row["cpu_s"],
            )
        )
    return found


def _grouped(db: Connection, table: Table, run_id: str) -> Grouped:
    names = {"id", "run", "cell", "number"}
    grouped: Grouped = {}
    for row in db.execute(select(table).where(table.c.run == run_id).order_by(table.c.id)).mappings():
        place = (row["cell"], row["number"])
        grouped.setdefault(place, []).append({name: value for name, value in row.items() if name not in names})
    return grouped
