"""What runs say of compatibility: compared, explained, and stated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Response

from api.apart import apart
from dashboards.forms import told
from dashboards.route import router as new_router
from dashboards.runs import elsewhere
from dashboards.visit import Reading, Visit, run_path
from farm.compat import Compatibility
from farm.errors import ConfigError, NotFoundError
from farm.model import RunQuery
from farm.model.base import parse_duration
from farm.report.changes import Change
from farm.report.statement_formats import STATEMENT_FORMATS

router = new_router()

_MOST = 500
"""Tests of one class that are listed."""
_OFFERED = 30
"""Runs in the lists to choose from."""
_IN_THIS_ORDER = (
    Change.REGRESSION,
    Change.NEW_FAILURE,
    Change.STILL_FAILING,
    Change.FIXED,
    Change.NO_DATA,
    Change.DISAPPEARED,
    Change.APPEARED,
    Change.NEW_PASS,
)
"""The worst first; what passes or is skipped as before is only counted."""

Reference = Annotated[str, Query(max_length=300)]


@router.get("/compare")
async def compare(visit: Reading, base: Reference = "", head: Reference = "") -> Response:
    """Two runs."""
    base = base or _before(visit, head)
    return await apart(visit.request, lambda: _shown(visit, "compare.html", _compared, base=base, head=head))


@router.get("/statement")
async def statement(visit: Reading, run: Reference = "", baseline: Reference = "", age: Reference = "") -> Response:
    """What may be claimed of a release, platform by platform."""
    asked = {"run": run, "baseline": baseline, "age": age}
    return await apart(visit.request, lambda: _shown(visit, "statement.html", _stated, **asked))


@router.get("/runs/{run}/patterns")
async def patterns(visit: Reading, run: str) -> Response:
    """Where the tests of a run fail."""

    def show() -> Response:
        other = elsewhere(visit, run)
        return other or visit.page("patterns.html", run=run, found=visit.server.compat.ask(Compatibility.patterns, run))

    return await apart(visit.request, show)


def _shown(visit: Visit, template: str, made: Callable[..., dict[str, Any]], **asked: str) -> Response:
    """A page with a form for what is asked for, and what came of it or why nothing did."""
    values: dict[str, Any] = {}
    problem = ""
    if all(asked[name] for name in ("base", "head") if name in asked) and asked.get("run", "x"):
        try:
            values = made(visit, **asked)
        except (NotFoundError, ConfigError) as error:
            problem = told(error)
    offered = visit.server.store.runs(RunQuery(limit=_OFFERED))
    return visit.page(template, asked=asked, problem=problem, offered=offered, **({"found": None} | values))


def _compared(visit: Visit, base: str, head: str) -> dict[str, Any]:
    found = visit.server.compat.ask(Compatibility.compare, base, head)
    groups = [
        (
            change,
            [cell for cell in found.cell_changes if cell.change is change],
            [test for test in found.test_changes if test.change is change][:_MOST],
            getattr(found.tests, change.value),
        )
        for change in _IN_THIS_ORDER
    ]
    return {"found": found, "groups": [group for group in groups if group[1] or group[3]]}


def _stated(visit: Visit, run: str, baseline: str, age: str) -> dict[str, Any]:
    try:
        max_age_s = parse_duration(age) if age else None
    except ValueError as error:
        raise ConfigError(f"cannot read the age {age!r}: {error}", hint="write 30d, or 12h") from error
    age_s = None if max_age_s is None else float(str(max_age_s))
    asked = partial(Compatibility.statement, now=visit.now, baseline=baseline or None, max_age_s=age_s)
    made = visit.server.compat.ask(asked, run)
    query = urlencode({name: value for name, value in (("baseline", baseline), ("max_age", age)) if value})
    here = f"/api/v1{run_path(made.run.id)}/statement?{query}{'&' if query else ''}format="
    return {"found": made, "exports": [(name, here + name) for name in STATEMENT_FORMATS]}


def _before(visit: Visit, head: str) -> str:
    """The run before one, of the same project: what one most likely wants to compare it with."""
    if not head:
        return ""
    project = head.rpartition("-")[0]
    older = visit.server.store.runs(RunQuery(project=project, before=head, limit=1))
    return older[0].id if older else ""
