"""Rows into records and states."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, exists, false, func, select, tuple_

from farm.model import (
    ArtifactRecord,
    AttemptKey,
    AttemptRecord,
    CellRecord,
    EventRecord,
    GuestFacts,
    Outcome,
    PhaseRecord,
    Placement,
    RunQuery,
    RunRecord,
    RunSummary,
    Submission,
    TestResult,
    TestStatus,
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


_SECOND = 2
NEWEST = (t.runs.c.created.desc(), t.runs.c.number.desc(), t.runs.c.id.desc())
"""The order of runs, the newest first."""


FULL = (t.phases, t.tests, t.artifacts)
"""All that an attempt has."""
OUTLINE = (t.phases,)
"""Without what may be hundreds of thousands of rows."""
WITHOUT_TESTS = (t.phases, t.artifacts)
"""What one cell has besides, few enough to be read at once."""


class News(NamedTuple):
    """What is new of a run."""

    last: int
    """The newest event of it."""
    run: RunRecord
    """Without its cells."""
    cells: dict[str, CellRecord]
    """Those that have changed, by their ids."""
    counts: dict[tuple[str, int], dict[TestStatus, int]]
    """How many of their tests had which result, by cell and number of the attempt."""


def read_bare(run: RowMapping, submission: Submission) -> RunRecord:
    """A run without its cells."""
    return RunRecord(
        id=run["id"],
        submission=submission,
        state=run["state"],
        created=when(run["created"]),
        finished=when(run["finished"]) if run["finished"] else None,
        cancelled=run["cancelled"],
        cells=(),
    )


def read_run(db: Connection, run: RowMapping, submission: Submission, parts: Sequence[Table] = FULL) -> RunRecord:
    """A run with its cells and attempts, and of those the parts that are asked for."""
    placements = {placement.cell.id: placement for placement in submission.plan.placements}
    attempts = _attempts(db, t.attempts.c.run == run["id"], parts)
    rows = db.execute(select(t.cells).where(t.cells.c.run == run["id"]).order_by(t.cells.c.position)).mappings()
    cells = tuple(_cell(row, placements[row["cell"]], attempts.get(row["cell"], [])) for row in rows)
    return read_bare(run, submission).model_copy(update={"cells": cells})


def read_cell(db: Connection, cell: RowMapping, submission: Submission, parts: Sequence[Table] = FULL) -> CellRecord:
    """One cell with its attempts, and of those the parts that are asked for."""
    placement = next(one for one in submission.plan.placements if one.cell.id == cell["cell"])
    mine = and_(t.attempts.c.run == cell["run"], t.attempts.c.cell == cell["cell"])
    return _cell(cell, placement, _attempts(db, mine, parts).get(cell["cell"], []))


def read_cells(
    db: Connection, run_id: str, submission: Submission, cells: Collection[str], parts: Sequence[Table]
) -> dict[str, CellRecord]:
    """Some cells of a run by their ids."""
    placements = {placement.cell.id: placement for placement in submission.plan.placements}
    attempts = _attempts(db, and_(t.attempts.c.run == run_id, t.attempts.c.cell.in_(cells)), parts)
    rows = db.execute(select(t.cells).where(t.cells.c.run == run_id, t.cells.c.cell.in_(cells))).mappings()
    return {row["cell"]: _cell(row, placements[row["cell"]], attempts.get(row["cell"], [])) for row in rows}


def read_test_counts(
    db: Connection, run_id: str, cells: Collection[str] | None = None
) -> dict[tuple[str, int], dict[TestStatus, int]]:
    """How many tests had which result, by cell and number of the attempt; of all cells of a run, or of some."""
    columns = (t.tests.c.cell, t.tests.c.number, t.tests.c.status)
    which = t.tests.c.run == run_id if cells is None else and_(t.tests.c.run == run_id, t.tests.c.cell.in_(cells))
    counts: dict[tuple[str, int], dict[TestStatus, int]] = {}
    for cell, number, status, count in db.execute(select(*columns, func.count()).where(which).group_by(*columns)):
        counts.setdefault((cell, number), {})[TestStatus(status)] = count
    return counts


def read_events(
    db: Connection, after: int, run_id: str | None, cell: str | None, limit: int
) -> tuple[EventRecord, ...]:
    """The events that come after one, in their order."""
    query = select(t.events).where(t.events.c.id > after).order_by(t.events.c.id).limit(limit)
    if run_id is not None:
        query = query.where(t.events.c.run == run_id)
    if cell is not None:
        query = query.where(t.events.c.cell == cell)
    return tuple(EventRecord.model_validate(dict(row)) for row in db.execute(query).mappings())


def _cell(row: RowMapping, placement: Placement, attempts: Sequence[AttemptRecord]) -> CellRecord:
    return CellRecord(placement=placement, state=row["state"], outcome=outcome_of(row), attempts=tuple(attempts))


def read_summaries(db: Connection, query: RunQuery) -> tuple[RunSummary, ...]:
    """The runs that are asked for, the newest first."""
    rows = (
        db.execute(select(t.runs).where(*_conditions(db, query)).order_by(*NEWEST).limit(query.limit)).mappings().all()
    )
    found = {row["id"]: row for row in rows}
    marks: dict[str, dict[str, str]] = {run: {} for run in found}
    for run, key, value in db.execute(select(t.labels).where(t.labels.c.run.in_(found)).order_by(t.labels.c.key)):
        marks[run][key] = value
    counts: dict[str, dict[Verdict | None, int]] = {row["id"]: {} for row in rows}
    grouped = select(t.cells.c.run, t.cells.c.verdict, func.count()).where(t.cells.c.run.in_(counts))
    for run, verdict, count in db.execute(grouped.group_by(t.cells.c.run, t.cells.c.verdict)):
        counts[run][Verdict(verdict) if verdict else None] = count
    flaky = Counter(run for run, outcome in db.execute(_tried_again(found)) if outcome.get("flaky"))
    return tuple(
        RunSummary(
            id=row["id"],
            project=row["name"],
            version=row["version"],
            owner=row["owner"],
            priority=row["priority"],
            labels=marks[row["id"]],
            state=row["state"],
            created=row["created"],
            finished=row["finished"],
            cancelled=row["cancelled"],
            exit_code=row["exit_code"],
            rerun_of=row["rerun_of"],
            cells=sum(counts[row["id"]].values()),
            verdicts={verdict: count for verdict, count in counts[row["id"]].items() if verdict},
            flaky=flaky[row["id"]],
        )
        for row in rows
    )


def _tried_again(runs: Collection[str]) -> Select[tuple[str, Any]]:
    """The outcomes of cells that passed and were tried more than once; only among those is one flaky."""
    second = and_(
        t.attempts.c.run == t.cells.c.run, t.attempts.c.cell == t.cells.c.cell, t.attempts.c.number == _SECOND
    )
    return (
        select(t.cells.c.run, t.cells.c.outcome)
        .join(t.attempts, second)
        .where(t.cells.c.run.in_(runs), t.cells.c.verdict == Verdict.PASSED)
    )


def _conditions(db: Connection, query: RunQuery) -> Iterator[ColumnElement[bool]]:
    wanted = {
        t.runs.c.name: query.project,
        t.runs.c.version: query.version,
        t.runs.c.owner: query.owner,
        t.runs.c.state: query.state,
        t.runs.c.exit_code: query.exit_code,
    }
    yield from (column == value for column, value in wanted.items() if value is not None)
    for key, value in query.labels.items():
        yield exists().where(t.labels.c.run == t.runs.c.id, t.labels.c.key == key, t.labels.c.value == value)
    if query.before is not None:
        place = (t.runs.c.created, t.runs.c.number, t.runs.c.id)
        last = db.execute(select(*place).where(t.runs.c.id == query.before)).one_or_none()
        yield tuple_(*place) < tuple_(*last) if last else false()


def _attempts(db: Connection, which: ColumnElement[bool], tables: Sequence[Table]) -> dict[str, list[AttemptRecord]]:
    """Attempts by their cell, with their rows in some tables."""
    parts: dict[str, Grouped] = defaultdict(dict) | {table.name: _grouped(db, table, which) for table in tables}
    found: dict[str, list[AttemptRecord]] = {}
    for row in db.execute(select(t.attempts).where(which).order_by(t.attempts.c.number)).mappings():
        place = (row["cell"], row["number"])
        found.setdefault(row["cell"], []).append(
            AttemptRecord(
                key=AttemptKey(run=row["run"], cell=row["cell"], number=row["number"]),
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
                host=row["host"],
                usage=Usage.model_validate(row["usage"]) if row["usage"] else None,
            )
        )
    return found


def _grouped(db: Connection, table: Table, which: ColumnElement[bool]) -> Grouped:
    names = {"id", "run", "cell", "number"}
    same = and_(*(table.c[name] == t.attempts.c[name] for name in ("run", "cell", "number")))
    grouped: Grouped = {}
    for row in db.execute(select(table).join(t.attempts, same).where(which).order_by(table.c.id)).mappings():
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
