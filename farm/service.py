"""What can be asked of the farm, for the command line and the API alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from farm.attempts import Executor, Watcher
from farm.config import Settings
from farm.controller import Controller
from farm.matrix import expansion, load
from farm.model import (
    Expansion,
    Host,
    Matrix,
    Plan,
    ResolvedSource,
    RunQuery,
    RunRecord,
    RunSummary,
    Submission,
)
from farm.planner import plan
from farm.references import References
from farm.sources import resolve
from farm.store import Store
from farm.store.leases import new_owner, of_run
from farm.tenure import finish_lost_runs, tenure


class Service:
    """The farm on one store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store.open(settings.database, settings.state)
        self._owner = new_owner()
        finish_lost_runs(self._store)

    @property
    def store(self) -> Store:
        """Where it keeps everything."""
        return self._store

    def read(self, matrix_file: Path) -> tuple[Matrix, Expansion]:
        """A matrix and its cells. Raises MatrixError."""
        document = load(matrix_file)
        return document.matrix, expansion(document.matrix, document.at)

    def plan(self, matrix: Matrix, cells: Expansion, hosts: Sequence[Host], *, only: Sequence[str] = ()) -> Plan:
        """What a run of a matrix would do. Raises PlanError."""
        return plan(matrix, cells, hosts, only=only, durations=self._store.durations(matrix.name))

    def resolve(self, matrix: Matrix, matrix_file: Path) -> ResolvedSource:
        """The source of a matrix as it is now. Raises SourceError."""
        base = matrix_file.absolute().parent
        return resolve(matrix.source, base=base, cache=self._settings.cache / "sources")

    def submit(self, submission: Submission) -> RunRecord:
        """Store a run; it is carried out by `execute`."""
        return self._store.create_run(submission, now=datetime.now(UTC), owner=self._owner)

    async def execute(
        self,
        run_id: str,
        executor: Executor,
        watcher: Watcher,
        on_start: Callable[[Callable[[], None]], None] = lambda _cancel: None,
    ) -> RunRecord:
        """Take a run to its end, or until somebody else has it; `on_start` gets a function that cancels it."""
        controller = Controller(self._store, executor, watcher)
        on_start(lambda: controller.cancel(run_id))
        async with tenure(self._store, of_run(run_id), self._owner) as lost:
            return await controller.execute(run_id, lost)

    def run(self, run_id: str) -> RunRecord:
        """A run, by its id or as `farm.references` has it. Raises NotFoundError."""
        return self._store.run(References(self._store).resolve(run_id))

    def runs(self, query: RunQuery) -> tuple[RunSummary, ...]:
        """The runs that are asked for, the newest first."""
        return self._store.runs(query)
