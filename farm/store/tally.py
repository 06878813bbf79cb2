"""What a run says of each test, counted at its end, so that many runs can be looked at together.

A hundred runs of a hundred cells have millions of results, but only thousands of tallies.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
)

from farm.model import Blame, TestStatus, Verdict
from farm.results.base import FLAKY
from farm.store import tables as t

BAD = (TestStatus.FAILED, TestStatus.ERROR)
_LOOKS_BACK = 50
"""How many runs of the project are looked through for the last result of a cell."""
_SKIPPED, _PASSED, _BAD = 0, 1, 2


def gave_data() -> ColumnElement[bool]:
    """Whether a cell's results say something of the program: `farm.report.evidence` `standing`, in SQL."""
    blame = t.cells.c.outcome["blame"].as_string()
    errors = and_(t.cells.c.verdict == Verdict.ERROR, blame.in_((Blame.TEST, Blame.GUEST)))
    return or_(t.cells.c.verdict.in_((Verdict.PASSED, Verdict.FAILED, Verdict.SKIPPED)), errors)


def counting() -> ScalarSelect[int]:
    """The number of the attempt at a cell that counts, its last one; for a query of cells."""
    mine = and_(t.attempts.c.run == t.cells.c.run, t.attempts.c.cell == t.cells.c.cell)
    return select(func.max(t.attempts.c.number)).where(mine).correlate(t.cells).scalar_subquery()


def read_tallies(db: Connection, run_id: str) -> list[dict[str, Any]]:
    """The rows of `tallies` that a run whose cells are finished comes to."""
    results = _results(run_id, _cells(run_id))
    each = select(*results.c, _before(results).label("before"), _flaked(run_id, results).label("flaked"))
    one = _at_once(each, "one")
    ran, known = one.c.rank > _SKIPPED, and_(one.c.rank > _SKIPPED, one.c.before > _SKIPPED)
    duration_s = case((ran, one.c.duration_s), else_=0.0)
    counted = {
        "passed": _count(one.c.rank == _PASSED),
        "failed": _count(one.c.rank == _BAD),
        "skipped": _count(one.c.rank == _SKIPPED),
        "flaked": _count(one.c.flaked),
        "changed": _count(and_(known, one.c.rank != one.c.before)),
        "duration_s": func.sum(duration_s),
        "longest_s": func.max(duration_s),
    }
    names = (one.c.suite, one.c.classname, one.c.name)
    query = select(*names, *(count.label(name) for name, count in counted.items())).group_by(*names)
    return [{"run": run_id, **row} for row in db.execute(query).mappings()]


def _cells(run_id: str) -> CTE:
    """The cells of a run that gave data: the attempt that counts, and the one that counted in an earlier run."""
    now = t.runs.alias("now")
    of_run = t.cells.join(now, and_(now.c.id == t.cells.c.run, now.c.id == run_id))
    columns = (t.cells.c.cell, counting().label("number"), _last_run_with(now).label("before"))
    mine = select(*columns).select_from(of_run).where(gave_data()).cte("mine")
    last = and_(t.attempts.c.run == mine.c.before, t.attempts.c.cell == mine.c.cell)
    number_before = select(func.max(t.attempts.c.number)).where(last).correlate(mine).scalar_subquery()
    return _at_once(select(*mine.c, number_before.label("number_before")), "here")


def _last_run_with(now: Any) -> ScalarSelect[str]:
    """The newest of the project's runs before one in which a cell passed or failed; for a query of cells."""
    then, old = t.runs.alias("then"), t.cells.alias("old")
    numbers = then.c.number.between(now.c.number - _LOOKS_BACK, now.c.number - 1)
    same = and_(old.c.run == then.c.id, old.c.cell == t.cells.c.cell)
    had = and_(then.c.name == now.c.name, numbers, old.c.verdict.in_((Verdict.PASSED, Verdict.FAILED)))
    found = select(then.c.id).select_from(then.join(old, same)).where(had).correlate(t.cells, now)
    return found.order_by(then.c.number.desc()).limit(1).scalar_subquery()


def _results(run_id: str, cells: CTE) -> CTE:
    """The tests of these cells; of several results with one name, the worst counts."""
    names = (t.tests.c.cell, t.tests.c.number, t.tests.c.suite, t.tests.c.classname, t.tests.c.name)
    same = and_(t.tests.c.run == run_id, t.tests.c.cell == cells.c.cell, t.tests.c.number == cells.c.number)
    tried_again = and_(t.tests.c.status == TestStatus.PASSED, t.tests.c.message.startswith(FLAKY))
    before = (cells.c.before.label("run_before"), cells.c.number_before)
    worst = (
        func.max(_rank(t.tests.c.status)).label("rank"),
        func.max(t.tests.c.duration_s).label("duration_s"),
        func.max(case((tried_again, 1), else_=0)).label("tried_again"),
    )
    query = select(*names, *before, *worst).select_from(t.tests.join(cells, same))
    return _at_once(query.group_by(*names, cells.c.before, cells.c.number_before), "results")


def _before(results: CTE) -> ScalarSelect[Any]:
    """What a test came to in its cell the last time; null where it was not there."""
    old = t.tests.alias("before")
    same = and_(_same_test(old, results), old.c.run == results.c.run_before, old.c.number == results.c.number_before)
    return select(func.max(_rank(old.c.status))).where(same).correlate(results).scalar_subquery()


def _flaked(run_id: str, results: CTE) -> ColumnElement[bool]:
    """Whether a test passed only after it had failed, in an earlier attempt or on an earlier try."""
    old = t.tests.alias("tried")
    earlier = and_(_same_test(old, results), old.c.run == run_id, old.c.number < results.c.number)
    failed = exists().where(earlier, old.c.status.in_(BAD)).correlate(results)
    later = and_(results.c.number > 1, failed)
    return and_(results.c.rank == _PASSED, or_(results.c.tried_again == 1, later))


def called(name: ColumnElement[str], wanted: Any) -> tuple[ColumnElement[bool], ...]:
    """The tests of a name; its beginning is what the index knows."""
    whole = literal(wanted) if isinstance(wanted, str) else wanted
    return t.Beginning(name) == t.Beginning(whole), name == whole


def _same_test(tests: Any, results: CTE) -> ColumnElement[bool]:
    others = (tests.c[name] == results.c[name] for name in ("cell", "suite", "classname"))
    return and_(*called(tests.c.name, results.c.name), *others)


def _at_once(query: Select[Any], name: str) -> CTE:
    """A part of a query that is worked out once; SQLite would do it again for every row that looks at it."""
    return query.cte(name).prefix_with("MATERIALIZED")


def _rank(status: ColumnElement[str]) -> ColumnElement[int]:
    return case((status.in_(BAD), _BAD), (status == TestStatus.PASSED, _PASSED), else_=_SKIPPED)


def _count(what: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((what, 1), else_=0))
