"""Projects over time: their cells, their tests, and one test in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Response

from api.apart import apart
from api.params import MOST
from dashboards.route import router as new_router
from dashboards.visit import Reading, Visit
from farm.model.history import Rank, TestHit, TestQuery, TestTrend

router = new_router()

_RUNS = 30
"""Looked at."""
_TESTS = 100
_HITS = 200

Text = Annotated[str, Query(max_length=300)]
Long = Annotated[str, Query(max_length=4_000)]


@router.get("/history")
async def projects(visit: Reading) -> Response:
    """All projects."""
    return visit.page("projects.html", projects=await apart(visit.request, visit.server.history.projects))


@router.get("/history/{project}")
async def project(visit: Reading, project: str, rank: Text = Rank.FLAKY, name: Long = "") -> Response:
    """A project's cells over its last runs, and its tests."""
    wanted = Rank(rank) if rank in set(Rank) else Rank.FLAKY
    return await apart(visit.request, lambda: _project(visit, project, wanted, name))


@router.get("/history/{project}/test")
async def one_test(
    *,
    visit: Reading,
    project: str,
    name: Long,
    suite: Long | None = None,
    cell: Text = "",
    version: Text = "",
    arch: Text = "",
    before: Annotated[int | None, Query(ge=1, le=MOST)] = None,
) -> Response:
    """A test in every cell of every run."""
    query = TestQuery(
        project=project,
        name=name,
        suite=suite,
        cell=cell or None,
        version=version or None,
        arch=arch or None,
        before=before,
        limit=_HITS + 1,
    )
    return await apart(visit.request, lambda: _test(visit, query))


def _project(visit: Visit, project: str, rank: Rank, name: str) -> Response:
    history = visit.server.history
    cells = history.cells(project, last=_RUNS)
    found = history.tests(project, last=_RUNS, rank=rank, name=name or None, limit=_TESTS)
    return visit.page(
        "project.html", project=project, cells=cells, found=found, rank=rank, ranks=tuple(Rank), name=name
    )


def _test(visit: Visit, query: TestQuery) -> Response:
    hits = visit.server.history.results(query)
    trends = visit.server.history.tests(query.project, last=_RUNS, name=query.name).tests
    shown = hits[:_HITS]
    values: dict[str, Any] = {
        "query": query,
        "hits": shown,
        "next": shown[-1].id if len(hits) > _HITS else None,
        "trend": _trend(trends, query.suite),
        "points": _points(shown, cut=len(hits) > _HITS),
    }
    return visit.page("test.html", **values)


def _trend(trends: Sequence[TestTrend], suite: str | None) -> TestTrend | None:
    return next((one for one in trends if suite is None or one.suite == suite), None)


def _points(hits: Sequence[TestHit], *, cut: bool) -> list[tuple[str, str, int, int, float]]:
    """For each run, the oldest first: its id, its version, how many passed and failed, and the mean of seconds.

    Of the oldest of hits that were cut off some may be missing, so it is left out.
    """
    by_run: dict[str, list[TestHit]] = {}
    for hit in reversed(hits):
        by_run.setdefault(hit.run, []).append(hit)
    if cut:
        by_run.pop(hits[-1].run)
    return [
        (
            run,
            found[0].version,
            sum(hit.status == "passed" for hit in found),
            sum(hit.status in {"failed", "error"} for hit in found),
            sum(hit.duration_s for hit in found) / len(found),
        )
        for run, found in by_run.items()
    ]
