"""What many runs of a project say together.

Results of one test are read from the table of tests, by its name; what is asked of all tests, from the tallies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, and_, case, exists, func, or_, select

from farm.errors import NotFoundError
from farm.model import RESERVATION, State, Verdict
from farm.model.history import (
    CellPoint,
    CellTrend,
    CellTrends,
    ProjectSummary,
    Rank,
    RunPoint,
    TestHit,
    TestQuery,
    TestTrend,
    TestTrends,
)
from farm.select import matches
from farm.store import tables as t
from farm.store.database import reading
from farm.store.hits import read_hits
from farm.store.records import when
from farm.store.tally import counting, gave_data

_FEWEST_RUNS = 4
"""With less than that, a trend of durations says nothing."""
_POINT = (t.runs.c.id, t.runs.c.version, t.runs.c.created, t.runs.c.state, t.runs.c.exit_code)
_RESERVED = exists().where(t.labels.c.run == t.runs.c.id, t.labels.c.key == RESERVATION)
"""A guest for a person is a run, and no project's."""
_TEST = (t.tallies.c.suite, t.tallies.c.classname, t.tallies.c.name)


class History:
    """The runs of projects. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def projects(self) -> tuple[ProjectSummary, ...]:
        """All of them by name, each with its newest run."""
        counts = (
            select(
                t.runs.c.name,
                func.max(t.runs.c.number).label("number"),
                func.count().label("count"),
                func.sum(case((t.runs.c.exit_code == 0, 1), else_=0)).label("passed"),
            )
            .where(~_RESERVED)
            .group_by(t.runs.c.name)
            .subquery()
        )
        newest = and_(t.runs.c.name == counts.c.name, t.runs.c.number == counts.c.number)
        query = select(*_POINT, counts.c.name, counts.c.count, counts.c.passed).join(counts, newest)
        with reading(self._engine, "read the projects") as db:
            return tuple(_project(row) for row in db.execute(query.order_by(counts.c.name)).mappings())

    def check(self, project: str) -> None:
        """Raises NotFoundError where there has been no run of a project."""
        with reading(self._engine, f"find the project {project}") as db:
            _check(db, project)

    def results(self, query: TestQuery) -> tuple[TestHit, ...]:
        """What a test came to, the newest run first, and in a run by the order of its cells. Raises NotFoundError."""
        with reading(self._engine, f"read the results of {query.name}") as db:
            _check(db, query.project)
            return tuple(islice(read_hits(db, query), query.limit))

    def cells(self, project: str, *, last: int, cell: str | None = None) -> CellTrends:
        """The cells of the last runs, those that the glob `cell` names; by their order in the newest that has them.

        Raises NotFoundError.
        """
        with reading(self._engine, f"read the runs of {project}") as db:
            _check(db, project)
            runs = _runs(db, and_(t.runs.c.name == project, ~_RESERVED), last)
            rows = db.execute(_cells([run.id for run in runs])).mappings().all()
        points: dict[str, dict[str, CellPoint]] = {}
        for row in rows:
            if cell is None or matches(row["cell"], cell):
                points.setdefault(row["cell"], {})[row["run"]] = _cell_point(row)
        trends = (CellTrend(cell=one, points=tuple(at.get(run.id) for run in runs)) for one, at in points.items())
        return CellTrends(project=project, runs=runs, cells=tuple(trends))

    def tests(
        self, project: str, *, last: int, rank: Rank = Rank.NAME, name: str | None = None, limit: int = 50
    ) -> TestTrends:
        """Tests over the last finished runs; `name`: only those that are called so. Raises NotFoundError."""
        with reading(self._engine, f"read the tests of {project}") as db:
            _check(db, project)
            runs = _runs(db, and_(t.runs.c.name == project, t.runs.c.state == State.FINISHED, ~_RESERVED), last)
            here = t.tallies.c.run.in_([run.id for run in runs])
            which = here if name is None else and_(here, t.tallies.c.name == name)
            rows = db.execute(_tests(which, rank).limit(limit)).mappings().all()
            means = _means(db, which, {row["name"] for row in rows})
        tests = tuple(_trend(row, [means.get((run.id, *_names(row))) for run in runs]) for row in rows)
        return TestTrends(project=project, runs=runs, tests=tests)

    def last_with_data(self, project: str, cells: Collection[str], *, before: str) -> dict[str, str]:
        """For each of some cells the newest run of a project, older than another one, in which it gave data.

        `before` is the id of that one. Cells that no run speaks for are left out.
        """
        older = _older_than(before)
        query = (
            select(t.cells.c.cell, func.max(t.runs.c.number))
            .join(t.runs, t.runs.c.id == t.cells.c.run)
            .where(t.runs.c.name == project, t.runs.c.state == State.FINISHED, older)
            .where(t.cells.c.cell.in_(cells), gave_data())
            .group_by(t.cells.c.cell)
        )
        with reading(self._engine, f"read the runs of {project}") as db:
            return {cell: f"{project}-{number}" for cell, number in db.execute(query)}

    def last_release(self, project: str, *, before: str | None = None) -> str | None:
        """The newest finished run with a label `release` and the exit code 0; `before`: older than that run."""
        labelled = exists().where(t.labels.c.run == t.runs.c.id, t.labels.c.key == "release")
        query = select(t.runs.c.id).where(
            t.runs.c.name == project, t.runs.c.state == State.FINISHED, t.runs.c.exit_code == 0, labelled
        )
        if before is not None:
            query = query.where(_older_than(before))
        with reading(self._engine, f"read the releases of {project}") as db:
            return db.scalar(query.order_by(t.runs.c.number.desc()).limit(1))

    def last_with_image(self, project: str, digest: str) -> str | None:
        """The newest finished run in which a guest had the image whose digest begins so."""
        used = t.attempts.c.facts["image_digest"].as_string()
        mine = or_(*(used.startswith(f"{kind}{digest}", autoescape=True) for kind in ("", "sha256:")))
        query = select(t.runs.c.id).where(
            t.runs.c.name == project,
            t.runs.c.state == State.FINISHED,
            exists().where(t.attempts.c.run == t.runs.c.id, mine),
        )
        with reading(self._engine, f"read the images of {project}") as db:
            return db.scalar(query.order_by(t.runs.c.number.desc()).limit(1))


def _older_than(run_id: str) -> ColumnElement[bool]:
    other = t.runs.alias("other")
    return t.runs.c.number < select(other.c.number).where(other.c.id == run_id).scalar_subquery()


def _check(db: Connection, project: str) -> None:
    if db.scalar(select(t.runs.c.id).where(t.runs.c.name == project, ~_RESERVED).limit(1)) is None:
        names = list(db.scalars(select(t.runs.c.name).where(~_RESERVED).distinct().order_by(t.runs.c.name).limit(1000)))
        near = get_close_matches(project, names, n=3) or names[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "there has been no run yet"
        raise NotFoundError(f"cannot find the project {project!r}: no run has this name", hint=hint)


def _project(row: RowMapping) -> ProjectSummary:
    return ProjectSummary(
        project=row["name"],
        runs=row["count"],
        passed=row["passed"],
        newest=row["id"],
        version=row["version"],
        created=row["created"],
        state=row["state"],
        exit_code=row["exit_code"],
    )


def _runs(db: Connection, which: ColumnElement[bool], last: int) -> tuple[RunPoint, ...]:
    rows = db.execute(select(*_POINT).where(which).order_by(t.runs.c.number.desc()).limit(last)).mappings()
    return tuple(RunPoint.model_validate(dict(row)) for row in rows)[::-1]


# --- cells ------------------------------------------------------------------------------------------


def _cells(runs: Sequence[str]) -> Select[Any]:
    """The cells of the newest run first, so that its order is that of all."""
    last = and_(
        t.attempts.c.run == t.cells.c.run, t.attempts.c.cell == t.cells.c.cell, t.attempts.c.number == counting()
    )
    columns = (t.cells.c.run, t.cells.c.cell, t.cells.c.verdict, t.cells.c.outcome, t.attempts.c.number)
    return (
        select(*columns, t.attempts.c.created, t.attempts.c.finished)
        .select_from(t.cells.join(t.runs, t.runs.c.id == t.cells.c.run).outerjoin(t.attempts, last))
        .where(t.cells.c.run.in_(runs))
        .order_by(t.runs.c.number.desc(), t.cells.c.position)
    )


def _cell_point(row: RowMapping) -> CellPoint:
    took = _between(row["created"], row["finished"]) if row["finished"] else None
    return CellPoint(
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        duration_s=took,
        attempts=row["number"] or 0,
        flaky=bool(row["outcome"] and row["outcome"].get("flaky")),
    )


def _between(start: str, end: str) -> float:
    begun: datetime = when(start)
    return (when(end) - begun).total_seconds()


# --- all tests --------------------------------------------------------------------------------------


def _tests(which: ColumnElement[bool], rank: Rank) -> Select[Any]:
    """A row for each test, summed over runs."""
    summed = {name: func.sum(t.tallies.c[name]) for name in ("passed", "failed", "skipped", "flaked", "changed")}
    ran = summed["passed"] + summed["failed"]
    odd, each = summed["flaked"] + summed["changed"], case((ran > 0, ran), else_=1)
    mean_s = func.sum(t.tallies.c.duration_s) / each
    query = select(
        *_TEST,
        func.count().label("runs"),
        *(value.label(name) for name, value in summed.items()),
        mean_s.label("mean_s"),
        func.max(t.tallies.c.longest_s).label("longest_s"),
    )
    query = query.where(which).group_by(*_TEST)
    match rank:
        case Rank.FLAKY:
            return query.having(odd > 0).order_by((odd * 1.0 / each).desc(), *_TEST)
        case Rank.SLOW:
            return query.order_by(mean_s.desc(), *_TEST)
        case Rank.NAME:
            return query.order_by(*_TEST)


def _means(db: Connection, which: ColumnElement[bool], names: Collection[str]) -> dict[tuple[str, ...], float]:
    """Seconds by run, suite, classname and name; of what ran."""
    ran = t.tallies.c.passed + t.tallies.c.failed
    columns = (t.tallies.c.run, *_TEST)
    query = select(*columns, t.tallies.c.duration_s / ran).where(which, t.tallies.c.name.in_(names), ran > 0)
    return {tuple(place): mean_s for *place, mean_s in db.execute(query)}


def _names(row: RowMapping) -> tuple[str, str, str]:
    return row["suite"], row["classname"], row["name"]


def _trend(row: RowMapping, means_s: Sequence[float | None]) -> TestTrend:
    ran = max(1, row["passed"] + row["failed"])
    return TestTrend(
        **row,
        flakiness=min(1.0, (row["flaked"] + row["changed"]) / ran),
        means_s=tuple(means_s),
        slower=_slower(list(_known(means_s))),
    )


def _known(means_s: Sequence[float | None]) -> Iterator[float]:
    return (mean_s for mean_s in means_s if mean_s is not None)


def _slower(means_s: Sequence[float]) -> float | None:
    """The newer half by the older half."""
    half = len(means_s) // 2
    older, newer = sum(means_s[:half]), sum(means_s[-half:])
    return newer / older if len(means_s) >= _FEWEST_RUNS and older > 0 else None
