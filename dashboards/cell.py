"""One cell: what it came to and why, its phases, its log as it grows, its tests, its artifacts."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Query, Response

from api.params import MOST
from dashboards.logs import CONSOLE, log_path, story
from dashboards.route import router as new_router
from dashboards.runs import elsewhere
from dashboards.visit import Reading, Visit
from farm.model import AttemptKey, RunRecord, Scope, State, TestStatus
from farm.report.document import document
from farm.report.page import bars
from farm.report.parts import AttemptPart, CellPart, TestPart
from farm.report.words import moment
from farm.text import clean

router = new_router()

_MOST_TESTS = 500
_MANY = 10_000
"""After so many events of others the page is brought up to date, too, so that they need not be passed by each time."""
_CONSOLE_BYTES = 64 * 1024
_BAD_FIRST = (TestStatus.FAILED, TestStatus.ERROR, TestStatus.PASSED, TestStatus.SKIPPED)


@dataclass(frozen=True)
class Wish:
    """What of a cell is to be seen."""

    attempt: Annotated[int | None, Query(ge=1, le=1_000)] = None
    """None: the last one."""
    status: Annotated[str, Query(max_length=20)] = ""
    """Only the tests with this result; empty: all."""
    test: Annotated[str, Query(max_length=200)] = ""
    """In the name of a test, or its message."""


Wished = Annotated[Wish, Depends()]


@router.get("/runs/{run}/tests/{cell:path}")
def only_tests(visit: Reading, run: str, cell: str, wish: Wished) -> Response:
    """The tests of a cell that are asked for: a part of its page."""
    return visit.page("cell_tests.html", **_values(visit, run, cell, wish))


@router.get("/runs/{run}/cells-live/{cell:path}")
def live(
    *,
    visit: Reading,
    run: str,
    cell: str,
    wish: Wished,
    seen: Annotated[int, Query(ge=0, le=MOST)],
    shown: Annotated[int, Query(ge=0, le=MOST)] = 0,
) -> Response:
    """What has changed since an event, in a page that shows an attempt: its parts, each with its id."""
    store = visit.server.store
    if not store.events(seen, run_id=run, cell=cell, limit=1) and store.last_event() - seen < _MANY:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    values = _values(visit, run, cell, wish)
    part: AttemptPart | None = values["part"]
    begun = part is not None and part.number != shown
    return visit.page("cell_live.html", begun=begun, story=_story(visit, run, cell, part) if begun else None, **values)


@router.get("/runs/{run}/cells/{cell:path}")
def look(visit: Reading, run: str, cell: str, wish: Wished) -> Response:
    """The cell."""
    if other := elsewhere(visit, run):
        return other
    values = _values(visit, run, cell, wish)
    part: AttemptPart | None = values["part"]
    console = _console(visit, AttemptKey(run=run, cell=cell, number=part.number)) if part else None
    return visit.page("cell.html", story=_story(visit, run, cell, part), console=console, **values)


def _values(visit: Visit, run: str, cell: str, wish: Wish) -> dict[str, Any]:
    store = visit.server.store
    seen = store.last_event()  # before the rest is read: what comes meanwhile is news then
    record = store.bare(run).model_copy(update={"cells": (store.cell(run, cell),)})
    whole = document(record).cells[0]
    part = next((one for one in whole.attempts if one.number == wish.attempt), whole.last)
    key = AttemptKey(run=run, cell=cell, number=part.number if part else 1)
    return {
        "run": run,
        "project": record.submission.plan.matrix.name,
        "whole": whole,
        "part": part,
        "is_last": part is None or part is whole.last,
        "bars": bars(part) if part else (),
        "going": whole.state is not State.FINISHED,
        "own": visit.may_change(record.submission.owner),
        "seen": seen,
        "problem": record.cells[0].placement.problem,
        "logs": [(name, log_path(key, name)) for name in (store.files.logs(key) if part else ())],
        "pattern": glob.escape(cell),
        "commands": _commands(visit, record, whole, key),
        **_tests(part.tests if part else (), wish),
    }


def _story(visit: Visit, run: str, cell: str, part: AttemptPart | None) -> Any:
    if part is None:
        return None
    key = AttemptKey(run=run, cell=cell, number=part.number)
    return story(visit.server, key, finished=part.state is State.FINISHED)


def _tests(found: Sequence[TestPart], wish: Wish) -> dict[str, Any]:
    wanted = wish.test.casefold()
    kept = [
        test
        for test in found
        if (not wish.status or test.status == wish.status)
        and wanted in f"{test.suite} {test.classname} {test.name} {test.message}".casefold()
    ]
    kept.sort(key=lambda test: _BAD_FIRST.index(test.status))
    return {
        "tests": kept[:_MOST_TESTS],
        "tests_found": len(kept),
        "tests_all": len(found),
        "test_counts": {word.value: sum(test.status is word for test in found) for word in TestStatus},
        "wish": wish,
    }


def _console(visit: Visit, key: AttemptKey) -> str | None:
    if CONSOLE not in visit.server.store.files.logs(key):
        return None
    return clean(visit.server.store.files.log(key, CONSOLE)[-_CONSOLE_BYTES:], limit=_CONSOLE_BYTES).strip("\n")


def _commands(visit: Visit, record: RunRecord, cell: CellPart, key: AttemptKey) -> list[tuple[str, str]]:
    """What to type: to get into its guest while that is kept, and to have the cell again."""
    held = visit.server.store.holds.of(key)
    own = held and (held.owner == visit.identity.name or visit.may(Scope.OPERATE))  # as the API has it
    into = (
        [(f"Into its guest, which is kept until {moment(held.until)}", held.command)]
        if held and own and not held.ended
        else []
    )
    values = record.cells[0].placement.cell
    again = [
        (
            "Run this cell again on the farm",
            f"farm rerun {record.id} --cells {shlex.quote(glob.escape(cell.id))} --wait",
        ),
        (
            "A clean guest like its own, for two hours",
            f"farm reserve {shlex.quote(f'{values.image}/{values.arch}')} --for 2h",
        ),
    ]
    there = [
        ("Run it where the matrix is", cell.rerun),
        ("The same, and keep the guest for an hour if it fails", f"{cell.rerun} --hold-on-failure 1h"),
    ]
    return [*into, *again, *(there if cell.rerun else [])]
