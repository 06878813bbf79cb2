"""The cells of a run, their attempts, and the tests of those."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.auth import Reader, TheServer
from api.params import After, CellId, Cells, Limit, Number, RunId, run_named
from farm.errors import NotFoundError
from farm.model import AttemptKey, State, TestStatus, Verdict
from farm.report.detail import AttemptDetail, CellDetail, TestLine, cell_detail
from farm.report.overview import CellBrief
from farm.report.parts import TestPart
from farm.select import matches
from farm.serve import Server
from farm.store.details import TestQuery, TestRow
from farm.store.records import WITHOUT_TESTS

router = APIRouter(tags=["cells"])

Text = Annotated[
    str | None, Query(max_length=200, description="In the name of the test, its suite, or its message; any case.")
]
LastCell = Annotated[str | None, Query(max_length=2000, description="What the page before gave as `next`.")]
UNFINISHED = "none"


class CellPage(BaseModel):
    """Some cells of a run, in the order of its plan."""

    cells: tuple[CellBrief, ...]
    next: str | None
    """What to give as `after` for the next page; null on the last one."""


class AttemptList(BaseModel):
    """The attempts at a cell."""

    attempts: tuple[AttemptDetail, ...]
    """The oldest first; the last one counts."""


class TestPage(BaseModel):
    """Some results of tests, in the order in which they were found."""

    __test__ = False

    tests: tuple[TestLine, ...]
    next: int | None
    """What to give as `after` for the next page; null on the last one."""


@router.get("/runs/{run}/cells", summary="List the cells of a run")
def list_cells(
    *,
    run: RunId,
    server: TheServer,
    _identity: Reader,
    verdict: Verdict | Literal["none"] | None = None,
    state: State | None = None,
    cell: Cells = None,
    after: LastCell = None,
    limit: Limit = 100,
) -> CellPage:
    """Those that have all that is asked for; the verdict `none` is that of cells without one yet."""
    cells = server.overviews.look(run_named(server, run)).cells
    if after is not None:
        ids = [one.id for one in cells]
        cells = cells[ids.index(after) + 1 :] if after in ids else ()
    found = [
        one
        for one in cells
        if (verdict is None or (one.verdict or UNFINISHED) == verdict)
        and (state is None or one.state is state)
        and (cell is None or matches(one.id, cell))
    ]
    return CellPage(cells=tuple(found[:limit]), next=found[limit - 1].id if len(found) > limit else None)


@router.get("/runs/{run}/tests", summary="List the tests of a run")
def list_tests(
    *,
    run: RunId,
    server: TheServer,
    _identity: Reader,
    status: TestStatus | None = None,
    text: Text = None,
    after: After = 0,
    limit: Limit = 100,
) -> TestPage:
    """Over all cells, of the attempts that count."""
    run_id = run_named(server, run)
    server.details.run_state(run_id)
    return _page(server, TestQuery(run=run_id, status=status, text=text, after=after, limit=limit + 1))


@router.get("/runs/{run}/cells/{cell:path}/attempts/{number}/tests", summary="List the tests of an attempt")
def list_attempt_tests(
    *,
    run: RunId,
    cell: CellId,
    number: Number,
    server: TheServer,
    _identity: Reader,
    status: TestStatus | None = None,
    text: Text = None,
    after: After = 0,
    limit: Limit = 100,
) -> TestPage:
    """In full, with message and detail."""
    key = attempt_named(server, run, cell, number)
    wanted = TestQuery(**key.model_dump(), status=status, text=text, after=after, limit=limit + 1)
    return _page(server, wanted)


@router.get("/runs/{run}/cells/{cell:path}/attempts/{number}", summary="Look at an attempt")
def show_attempt(run: RunId, cell: CellId, number: Number, server: TheServer, identity: Reader) -> AttemptDetail:
    """In full, but for its tests, which are counted."""
    found = show_cell(run, cell, server, identity).attempts
    if number > len(found):
        raise NotFoundError(f"cannot find the attempt {number} at {cell!r}: there are {len(found)}")
    return found[number - 1]


@router.get("/runs/{run}/cells/{cell:path}/attempts", summary="List the attempts at a cell")
def list_attempts(run: RunId, cell: CellId, server: TheServer, identity: Reader) -> AttemptList:
    """Each in full, but for its tests, which are counted."""
    return AttemptList(attempts=show_cell(run, cell, server, identity).attempts)


@router.get("/runs/{run}/cells/{cell:path}", summary="Look at a cell")
def show_cell(run: RunId, cell: CellId, server: TheServer, _identity: Reader) -> CellDetail:
    """With its attempts in full, but for their tests, which are counted."""
    run_id = run_named(server, run)
    record = server.store.cell(run_id, cell, WITHOUT_TESTS)
    return cell_detail(server.store.submission(run_id), record, server.store.test_counts(run_id, (cell,)))


def attempt_named(server: Server, run: str, cell: str, number: int) -> AttemptKey:
    """The attempt that a path names. Raises NotFoundError where there is none."""
    key = AttemptKey(run=run_named(server, run), cell=cell, number=number)
    server.details.state(key)
    return key


def _page(server: Server, query: TestQuery) -> TestPage:
    found = server.details.tests(query)
    shown = found[: query.limit - 1]
    return TestPage(tests=tuple(map(_line, shown)), next=shown[-1].id if len(found) > len(shown) else None)


def _line(row: TestRow) -> TestLine:
    return TestLine(id=row.id, cell=row.cell, number=row.number, result=TestPart.model_validate(row.result))
