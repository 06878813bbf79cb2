"""What the runs of a farm say together: asked of the store of this machine, or of a server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from farm.cli.shelf import ShelfImages
from farm.compat import Compatibility, packages_from
from farm.config import Settings
from farm.documents import Documents
from farm.model import COMMAND_LINE
from farm.model.history import Baseline, CellTrends, Rank, TestHit, TestQuery, TestTrends
from farm.model.waiver import Waiver, WaiverRequest
from farm.references import References
from farm.report.changes import Comparison
from farm.report.patterns import Patterns
from farm.report.support import Statement
from farm.store import Store
from farm.store.access import Access
from farm.store.baselines import Baselines
from farm.store.history import History
from farm.store.waivers import Waivers


class Archive(Protocol):
    """What is asked of many runs. Every method raises FarmError."""

    def compare(self, base: str, head: str) -> Comparison:
        """What became of every cell and test from one run to another."""

    def patterns(self, run: str) -> Patterns:
        """Where the tests and cells of a run fail."""

    def statement(self, run: str, *, baseline: str | None, max_age_s: float | None) -> Statement:
        """What may be claimed of every platform of a run."""

    def results(self, query: TestQuery) -> tuple[TestHit, ...]:
        """What a test came to, the newest run first."""

    def cells(self, project: str, *, last: int, cell: str | None) -> CellTrends:
        """The cells of a project over its last runs."""

    def tests(self, project: str, *, last: int, rank: Rank, name: str | None, limit: int) -> TestTrends:
        """The tests of a project over its last finished runs."""

    def baselines(self, project: str) -> tuple[Baseline, ...]:
        """The runs of a project that have a name."""

    def set_baseline(self, project: str, name: str, run: str) -> Baseline:
        """Give a run a name."""

    def remove_baseline(self, project: str, name: str) -> None:
        """The name is free again."""

    def waivers(self, project: str) -> tuple[Waiver, ...]:
        """The failures of a project that are accepted."""

    def add_waiver(self, project: str, request: WaiverRequest) -> Waiver:
        """Accept failures."""

    def remove_waiver(self, project: str, number: int) -> None:
        """What a waiver names is no longer accepted."""


@dataclass(frozen=True)
class LocalArchive:
    """An Archive on a store."""

    settings: Settings
    store: Store

    def compare(self, base: str, head: str) -> Comparison:
        """As Archive."""
        return self._compat.compare(base, head)

    def patterns(self, run: str) -> Patterns:
        """As Archive."""
        return self._compat.patterns(run)

    def statement(self, run: str, *, baseline: str | None, max_age_s: float | None) -> Statement:
        """As Archive."""
        return self._compat.statement(run, now=datetime.now(UTC), baseline=baseline, max_age_s=max_age_s)

    def results(self, query: TestQuery) -> tuple[TestHit, ...]:
        """As Archive."""
        return self._history.results(query)

    def cells(self, project: str, *, last: int, cell: str | None) -> CellTrends:
        """As Archive."""
        return self._history.cells(project, last=last, cell=cell)

    def tests(self, project: str, *, last: int, rank: Rank, name: str | None, limit: int) -> TestTrends:
        """As Archive."""
        return self._history.tests(project, last=last, rank=rank, name=name, limit=limit)

    def baselines(self, project: str) -> tuple[Baseline, ...]:
        """As Archive."""
        self._history.check(project)
        return Baselines(self.store.engine).list(project)

    def set_baseline(self, project: str, name: str, run: str) -> Baseline:
        """As Archive."""
        run_id, now = References(self.store).resolve(run), datetime.now(UTC)
        made = Baselines(self.store.engine).set(project, name, run_id, by=COMMAND_LINE, now=now)
        self._note("baseline.set", f"{project}/{name}", {"run": run_id})
        return made

    def remove_baseline(self, project: str, name: str) -> None:
        """As Archive."""
        Baselines(self.store.engine).remove(project, name)
        self._note("baseline.remove", f"{project}/{name}", {})

    def waivers(self, project: str) -> tuple[Waiver, ...]:
        """As Archive."""
        self._history.check(project)
        return Waivers(self.store.engine).list(project)

    def add_waiver(self, project: str, request: WaiverRequest) -> Waiver:
        """As Archive."""
        self._history.check(project)
        made = Waivers(self.store.engine).add(project, request, by=COMMAND_LINE, now=datetime.now(UTC))
        self._note("waiver.add", f"{project}/{made.id}", made.model_dump(mode="json"))
        return made

    def remove_waiver(self, project: str, number: int) -> None:
        """As Archive."""
        gone = Waivers(self.store.engine).remove(project, number)
        self._note("waiver.remove", f"{project}/{number}", gone.model_dump(mode="json"))

    @property
    def _compat(self) -> Compatibility:
        return Compatibility(self.store, Documents(self.store), packages_from(ShelfImages(self.settings)))

    @property
    def _history(self) -> History:
        return History(self.store.engine)

    def _note(self, action: str, target: str, detail: dict[str, object]) -> None:
        Access(self.store.engine).note(COMMAND_LINE, action, target, detail, now=datetime.now(UTC))
