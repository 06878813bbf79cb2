"""History: what many runs of a project say together."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from api.auth import Operator, Reader, TheServer
from api.params import MOST, Cells
from farm.model import Model
from farm.model.history import Baseline, CellTrends, ProjectSummary, Rank, TestHit, TestQuery, TestTrends

router = APIRouter(tags=["history"])

BASELINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
Project = Annotated[str, Path(max_length=63, description="The name of the matrix.")]
BaselineId = Annotated[str, Path(pattern=f"^{BASELINE.pattern}$", description="A baseline's name.")]
Last = Annotated[int, Query(ge=1, le=200, description="Over so many runs, the newest.")]
TestName = Annotated[str, Query(min_length=1, max_length=500, description="A test's own name.")]
Suite = Annotated[str | None, Query(max_length=500, description="Only of this suite.")]
Reference = Annotated[
    str, Field(min_length=1, max_length=300, description="`demo-12`, `demo@v1.2`, `demo@last-release`, …")
]


class TestHistory(BaseModel):
    """Results of a test, the newest run first."""

    __test__ = False

    results: tuple[TestHit, ...]
    next: int | None
    """What to give as `before` for the next page; null on the last one."""


class BaselineRequest(Model):
    """The run that is to have a name."""

    run: Reference


@router.get("/projects", summary="List projects")
def list_projects(server: TheServer, _identity: Reader) -> tuple[ProjectSummary, ...]:
    """All projects by name, each with its newest run."""
    return server.history.projects()


@router.get("/projects/{project}/tests", summary="Find the results of a test")
def find_test_results(
    *,
    project: Project,
    server: TheServer,
    _identity: Reader,
    name: TestName,
    suite: Suite = None,
    classname: Annotated[str | None, Query(max_length=500, description="Only of this class.")] = None,
    cell: Cells = None,
    arch: Annotated[str | None, Query(max_length=63, description="Only in guests of this architecture.")] = None,
    version: Annotated[str | None, Query(max_length=200, description="Only of this version.")] = None,
    image_digest: Annotated[str | None, Query(max_length=200, description="Only on this image.")] = None,
    before: Annotated[int | None, Query(ge=1, le=MOST, description="What the page before gave as `next`.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> TestHistory:
    """What a test came to in every cell of every run, in the attempts that count; the newest run first."""
    query = TestQuery(
        project=project,
        name=name,
        suite=suite,
        classname=classname,
        cell=cell,
        arch=arch,
        version=version,
        image_digest=image_digest,
        before=before,
        limit=limit + 1,
    )
    found = server.history.results(query)
    return TestHistory(results=found[:limit], next=found[limit - 1].id if len(found) > limit else None)


@router.get("/projects/{project}/trends", summary="Look at cells over runs")
def show_cell_trends(
    project: Project, server: TheServer, _identity: Reader, last: Last = 30, cell: Cells = None
) -> CellTrends:
    """What each cell came to in the last runs, and how long it took."""
    return server.history.cells(project, last=last, cell=cell)


@router.get("/projects/{project}/flaky", summary="Look at tests over runs")
def rank_tests(
    *,
    project: Project,
    server: TheServer,
    _identity: Reader,
    last: Last = 30,
    rank: Annotated[Rank, Query(description="The order, and which tests.")] = Rank.FLAKY,
    name: Annotated[str | None, Query(max_length=500, description="Only tests of this name.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50,
) -> TestTrends:
    """The flakiest tests of the last finished runs; with another `rank` the slowest, or all by name."""
    return server.history.tests(project, last=last, rank=rank, name=name, limit=limit)


@router.get("/projects/{project}/baselines", summary="List baselines")
def list_baselines(project: Project, server: TheServer, _identity: Reader) -> tuple[Baseline, ...]:
    """The runs of a project that have a name."""
    server.history.check(project)
    return server.baselines.list(project)


@router.get("/projects/{project}/baselines/{name}", summary="Look at a baseline")
def show_baseline(project: Project, name: BaselineId, server: TheServer, _identity: Reader) -> Baseline:
    """Which run has this name, and since when."""
    return server.baselines.get(project, name)


@router.put("/projects/{project}/baselines/{name}", summary="Set a baseline")
def set_baseline(
    project: Project, name: BaselineId, request: BaselineRequest, server: TheServer, identity: Operator
) -> Baseline:
    """Give a finished run of the project a name, which may have been another one's."""
    run, now = server.references.resolve(request.run), datetime.now(UTC)
    found = server.baselines.set(project, name, run, by=identity.name, now=now)
    server.access.note(identity.name, "baseline.set", f"{project}/{name}", {"run": run}, now=now)
    return found


@router.delete("/projects/{project}/baselines/{name}", status_code=HTTPStatus.NO_CONTENT, summary="Remove a baseline")
def remove_baseline(project: Project, name: BaselineId, server: TheServer, identity: Operator) -> None:
    """The name is free again; the run stays."""
    server.baselines.remove(project, name)
    server.access.note(identity.name, "baseline.remove", f"{project}/{name}", {}, now=datetime.now(UTC))
