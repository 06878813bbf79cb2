"""Reports of runs. Those of finished ones are kept in memory for a while: they are large to make, and never change."""

from __future__ import annotations

import threading
from collections import OrderedDict

from farm.model import State
from farm.report import Document, document, render
from farm.store import Store

_MOST_RESULTS = 400_000
"""Of all documents that are kept, tests and cells together: some hundreds of megabytes."""


class Documents:
    """The documents of runs. May be used by several threads."""

    def __init__(self, store: Store, *, most_results: int = _MOST_RESULTS) -> None:
        self._store = store
        self._most_results = most_results
        self._kept: OrderedDict[str, Document] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def get(self, run_id: str) -> Document:
        """The document of a run. Raises NotFoundError."""
        if kept := self._find(run_id):
            return kept
        with self._making:  # one at a time: two that ask for the same would both make it
            return self._find(run_id) or self._make(run_id)

    def _find(self, run_id: str) -> Document | None:
        with self._lock:
            if run_id in self._kept:
                self._kept.move_to_end(run_id)
            return self._kept.get(run_id)

    def _make(self, run_id: str) -> Document:
        made = document(self._store.run(run_id))
        if made.run.state is State.FINISHED:
            with self._lock:
                self._kept[run_id] = made
                while len(self._kept) > 1 and sum(map(_results, self._kept.values())) > self._most_results:
                    self._kept.popitem(last=False)
        return made


def rendered(store: Store, run_id: str, name: str) -> str:
    """The report of a run in one of `farm.report.FORMATS`. Raises NotFoundError, ConfigError, HostError."""
    return render(name, store.run(run_id), store.files.log)


def _results(report: Document) -> int:
    return len(report.cells) + sum(len(attempt.tests) for cell in report.cells for attempt in cell.attempts)
