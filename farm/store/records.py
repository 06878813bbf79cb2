"""Rows into records and states."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, func, select

from farm.lifecycle import AttemptState, CellState, RunState
from farm.model import (
    ArtifactRecord,
    AttemptKey,
    AttemptRecord,
    CellRecord,
    GuestFacts,
    Outcome,
    PhaseRecord,
    RunRecord,
    RunSummary,
    State,
    Submission,
    TestResult,
    Usage,
    Verdict,
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


RUN = tuple(column for column in t.runs.c if column is not t.runs.c.submission)
"""The columns of a run without the one that is large."""

NEWEST = (t.runs.c.created.desc(), t.runs.c.number.desc())
"""The order of runs, the newest first."""


def read_run(db: Connection, run: RowMapping, submission: Submission) -> RunRecord:
    """A run with everything that belongs to it."""
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


def read_state(db: Connection, run: RowMapping, submission: Submission) -> RunState:
    """As much of a run as deciding needs."""
    matrix = submission.plan.matrix
    limits = [limit for limit in (matrix.max_parallel, submission.max_parallel) if limit]
    return RunState(
        cells=_cell_states(db, run["id"], submission),
        state=State(run["state"]),
        fail_fast=matrix.fail_fast,
        max_parallel=min(limits, default=None),
        retries_infra=matrix.retries.infra,
        cancel_requested=run["cancel_requested"],
    )


def read_summaries(db: Connection, limit: int) -> tuple[RunSummary, ...]:
    """The newest runs, the newest first."""
    rows = db.execute(select(*RUN).order_by(*NEWEST).limit(limit)).mappings().all()
    counts: dict[str, dict[Verdict | None, int]] = {row["id"]: {} for row in rows}
    grouped = select(t.cells.c.run, t.cells.c.verdict, func.count()).where(t.cells.c.run.in_(counts))
    for run, verdict, count in db.execute(grouped.group_by(t.cells.c.run, t.cells.c.verdict)):
        counts[run][Verdict(verdict) if verdict else None] = count
    return tuple(
        RunSummary(
            id=row["id"],
            state=row["state"],
            created=row["created"],
            finished=row["finished"],
            cancelled=row["cancelled"],
            cells=sum(counts[row["id"]].values()),
            verdicts={verdict: count for verdict, count in counts[row["id"]].items() if verdict},
        )
        for row in rows
    )


def _cell_states(db: Connection, run_id: str, submission: Submission) -> tuple[CellState, ...]:
    placements = {placement.cell.id: placement for placement in submission.plan.placements}
    attempts = _attempt_states(db, run_id)
    rows = db.execute(select(t.cells).where(t.cells.c.run == run_id).order_by(t.cells.c.position)).mappings()
    return tuple(
        CellState(
            id=row["cell"],
            state=State(row["state"]),
            attempts=tuple(attempts.get(row["cell"], ())),
            outcome=outcome_of(row),
            may_fail=placements[row["cell"]].cell.may_fail,
            problem=placements[row["cell"]].problem,
        )
        for row in rows
    )


def _attempt_states(db: Connection, run_id: str) -> dict[str, list[AttemptState]]:
    found: dict[str, list[AttemptState]] = {}
    query = select(t.attempts).where(t.attempts.c.run == run_id).order_by(t.attempts.c.number)
    for row in db.execute(query).mappings():
        attempt = AttemptState(
            number=row["number"],
            state=State(row["state"]),
            seen=when(row["seen"]),
            outcome=outcome_of(row),
            cancel_asked=row["cancel_asked"],
        )
        found.setdefault(row["cell"], []).append(attempt)
    return found


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
                usage=Usage.model_validate(row["usage"]) if row["usage"] else None,
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


def read_durations(db: Connection, name: str) -> dict[str, float]:
    """Seconds of the last finished attempt at each cell of the runs of a name."""
    finished = t.attempts.join(t.runs, t.attempts.c.run == t.runs.c.id)
    query = (
        select(t.attempts.c.cell, t.attempts.c.created, t.attempts.c.finished, t.attempts.c.outcome)
        .select_from(finished)
        .where(t.runs.c.name == name, t.attempts.c.finished.is_not(None))
        .order_by(t.attempts.c.created)
    )
    return {
        cell: (when(ended) - when(began)).total_seconds()
        for cell, began, ended, outcome in db.execute(query)
        if outcome["verdict"] in {Verdict.PASSED, Verdict.FAILED}
    }
