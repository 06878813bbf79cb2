"""The results of one test over many runs, read by its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, select, tuple_

from farm.model import State
from farm.model.history import TestHit, TestQuery
from farm.select import matches
from farm.store import tables as t
from farm.store.tally import called, counting, gave_data

_RUNS_AT_A_TIME = 5
"""Most who ask want the newest, so not everything is read and sorted for them."""

_OF_CELL = and_(t.cells.c.run == t.tests.c.run, t.cells.c.cell == t.tests.c.cell)
_OF_ATTEMPT = and_(
    t.attempts.c.run == t.tests.c.run,
    t.attempts.c.cell == t.tests.c.cell,
    t.attempts.c.number == t.tests.c.number,
)


_Place = tuple[int, int, int]
"""Of a result in the order of all: its run's number, its cell's position, its id."""


def read_hits(db: Connection, query: TestQuery) -> Iterator[TestHit]:
    """What a test came to, the newest run first, and in a run by the order of its cells; as far as one listens."""
    last = _place(db, query.before) if query.before is not None else None
    runs = list(db.scalars(_runs(query, last)))
    for start in range(0, len(runs), _RUNS_AT_A_TIME):
        some = _results(query, runs[start : start + _RUNS_AT_A_TIME], last)
        for row in db.execute(some).mappings().all():
            if query.cell is None or matches(row["cell"], query.cell):
                yield _hit(row)


def _place(db: Connection, last: int) -> _Place:
    """Where a result stands; before everything where there is none, so that nothing comes after it."""
    of_run = t.tests.join(t.runs, t.runs.c.id == t.tests.c.run).join(t.cells, _OF_CELL)
    place = select(t.runs.c.number, t.cells.c.position, t.tests.c.id).select_from(of_run).where(t.tests.c.id == last)
    number, position, id_ = db.execute(place).one_or_none() or (0, 0, 0)
    return number, position, id_


def _runs(query: TestQuery, last: _Place | None) -> Select[str]:
    found = select(t.runs.c.id).where(t.runs.c.name == query.project).order_by(t.runs.c.number.desc())
    if query.version is not None:
        found = found.where(t.runs.c.version == query.version)
    return found if last is None else found.where(t.runs.c.number <= last[0])


def _results(query: TestQuery, runs: Sequence[str], last: _Place | None) -> Select[Any]:
    whole = t.tests.join(t.runs, t.runs.c.id == t.tests.c.run).join(t.cells, _OF_CELL).join(t.attempts, _OF_ATTEMPT)
    counts = (t.cells.c.state == State.FINISHED, gave_data(), t.tests.c.number == counting())
    return (
        select(t.tests, t.runs.c.version, t.runs.c.created, t.attempts.c.facts)
        .select_from(whole)
        .where(*called(t.tests.c.name, query.name), t.tests.c.run.in_(runs), *counts, *_conditions(query, last))
        .order_by(t.runs.c.number.desc(), t.cells.c.position, t.tests.c.id)
    )


def _conditions(query: TestQuery, last: _Place | None) -> Iterator[ColumnElement[bool]]:
    facts = t.attempts.c.facts
    wanted: dict[ColumnElement[Any], object] = {
        t.tests.c.suite: query.suite,
        t.tests.c.classname: query.classname,
        facts["image_digest"].as_string(): query.image_digest,
    }
    yield from (column == value for column, value in wanted.items() if value is not None)
    if query.arch is not None:
        yield facts["image"].as_string().endswith(f"/{query.arch}", autoescape=True)
    if last is not None:
        later_in_its_run = tuple_(t.cells.c.position, t.tests.c.id) > tuple_(*last[1:])
        yield (t.runs.c.number < last[0]) | later_in_its_run


def _hit(row: RowMapping) -> TestHit:
    facts = row["facts"] or {}
    of_guest = {name: facts.get(name, "") for name in ("host", "hypervisor", "image", "image_digest")}
    shared = (
        "id",
        "run",
        "version",
        "created",
        "cell",
        "suite",
        "classname",
        "name",
        "status",
        "duration_s",
        "message",
    )
    return TestHit(
        **{name: row[name] for name in shared},
        attempt=row["number"],
        emulated=facts.get("emulated", False),
        **of_guest,
    )
