"""What the runs of a farm say together, asked of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from farm.model.history import Baseline, CellTrends, Rank, TestHit, TestQuery, TestTrends
from farm.model.waiver import Waiver, WaiverRequest
from farm.remote.client import Client
from farm.remote.wire import Request, path_of
from farm.report.changes import Comparison
from farm.report.patterns import Patterns
from farm.report.support import Statement

_LONG_S = 600.0
"""Of a large run the server reads hundreds of thousands of results."""
_PAGE = 1000

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteArchive:
    """An Archive (`farm.cli.archives`) of a server. Every method raises ServerError, and what the server raised."""

    client: Client

    def compare(self, base: str, head: str) -> Comparison:
        """What became of every cell and test from one run to another."""
        return self._get(Comparison, "/compare", base=base, head=head)

    def patterns(self, run: str) -> Patterns:
        """Where the tests and cells of a run fail."""
        return self._get(Patterns, path_of("runs", run, "patterns"))

    def statement(self, run: str, *, baseline: str | None, max_age_s: float | None) -> Statement:
        """What may be claimed of every platform of a run."""
        return self._get(Statement, path_of("runs", run, "statement"), baseline=baseline, max_age=max_age_s)

    def results(self, query: TestQuery) -> tuple[TestHit, ...]:
        """What a test came to, the newest run first; a page at a time."""
        wanted = query.model_dump(mode="json", exclude={"project", "before", "limit"})
        found: list[TestHit] = []
        before = query.before
        while len(found) < query.limit:
            size = min(_PAGE, query.limit - len(found))
            page = self._get(_Page, _project(query.project, "tests"), **wanted, before=before, limit=size)
            found += page.results
            before = page.next
            if before is None:
                break
        return tuple(found)

    def cells(self, project: str, *, last: int, cell: str | None) -> CellTrends:
        """The cells of a project over its last runs."""
        return self._get(CellTrends, _project(project, "trends"), last=last, cell=cell)

    def tests(self, project: str, *, last: int, rank: Rank, name: str | None, limit: int) -> TestTrends:
        """The tests of a project over its last finished runs."""
        path = _project(project, "flaky")
        return self._get(TestTrends, path, last=last, rank=rank.value, name=name, limit=limit)

    def baselines(self, project: str) -> tuple[Baseline, ...]:
        """The runs of a project that have a name."""
        return self._get(tuple[Baseline, ...], _project(project, "baselines"))

    def set_baseline(self, project: str, name: str, run: str) -> Baseline:
        """Give a run a name."""
        return self._ask(Baseline, Request("PUT", _project(project, "baselines", name), json={"run": run}))

    def remove_baseline(self, project: str, name: str) -> None:
        """The name is free again."""
        self.client.wire.ask(Request("DELETE", _project(project, "baselines", name), repeatable=False))

    def waivers(self, project: str) -> tuple[Waiver, ...]:
        """The failures of a project that are accepted."""
        return self._get(tuple[Waiver, ...], _project(project, "waivers"))

    def add_waiver(self, project: str, request: WaiverRequest) -> Waiver:
        """Accept failures."""
        body = request.model_dump(mode="json")
        return self._ask(Waiver, Request("POST", _project(project, "waivers"), json=body, repeatable=False))

    def remove_waiver(self, project: str, number: int) -> None:
        """What a waiver names is no longer accepted."""
        self.client.wire.ask(Request("DELETE", _project(project, "waivers", str(number)), repeatable=False))

    def _get(self, kind: type[_T], path: str, **params: Any) -> _T:
        given = {name: value for name, value in params.items() if value is not None}
        return self._ask(kind, Request("GET", path, params=given, answer_s=_LONG_S))

    def _ask(self, kind: type[_T], request: Request) -> _T:
        return self.client.read(kind, self.client.wire.ask(request))


class _Page(BaseModel):
    results: tuple[TestHit, ...]
    next: int | None


def _project(project: str, *parts: str) -> str:
    return path_of("projects", project, *parts)
