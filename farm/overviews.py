"""Runs at a glance, kept up to date: of a run that somebody looks at again only what has changed is read.

Everything that an overview shows is changed together with an event, so the events say which cells to read.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from farm.model import CellRecord, RunRecord
from farm.report.overview import CellBrief, Overview, brief, overview_of
from farm.store import Store
from farm.store.records import News

_KEPT = 16
_NONE = b'"cells":[]'
"""In the JSON of an overview without cells; nothing else in it can look so: the quotes of a text are escaped."""


class _Seen(NamedTuple):
    """A cell as it was read last."""

    record: CellRecord
    brief: CellBrief
    text: bytes


@dataclass(frozen=True)
class Look:
    """A run as it is. What is asked of it is worked out when it is asked for the first time."""

    event: int
    """The newest one of the run: as long as that is the same, nothing has changed."""
    run: RunRecord
    """Without its cells."""
    seen: tuple[_Seen, ...]

    @cached_property
    def cells(self) -> tuple[CellBrief, ...]:
        """In the order of the plan."""
        return tuple(cell.brief for cell in self.seen)

    @cached_property
    def overview(self) -> Overview:
        """All of it."""
        run = self.run.model_copy(update={"cells": tuple(cell.record for cell in self.seen)})
        return overview_of(run, self.cells)

    @cached_property
    def text(self) -> bytes:
        """The overview as JSON."""
        # The cells are most of it, and nearly all of them are as they were: they are not written out again.
        head = self.overview.model_copy(update={"cells": ()}).model_dump_json().encode()
        return head.replace(_NONE, b'"cells":[%s]' % b",".join(cell.text for cell in self.seen), 1)


@dataclass
class _Kept:
    """What is known of a run."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    cells: dict[str, _Seen] = field(default_factory=dict)
    """In the order of the plan."""
    look: Look | None = None
    read_at: float = 0.0
    """When reading that began, in seconds of the monotonic clock."""


class Overviews:
    """The overviews of the runs that were looked at last. May be used by many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def look(self, run_id: str) -> Look:
        """A run at a glance. Raises NotFoundError."""
        kept, asked_at = self._of(run_id), time.monotonic()
        with kept.lock:
            if kept.look and kept.read_at > asked_at:
                return kept.look  # one of those who waited has read for all of them
            kept.read_at = time.monotonic()
            news = self._store.news(run_id, kept.look.event if kept.look else 0)
            if kept.look is None or news.last != kept.look.event:
                _take(kept.cells, news)
                kept.look = Look(news.last, news.run, tuple(kept.cells.values()))
            return kept.look

    def _of(self, run_id: str) -> _Kept:
        with self._lock:
            kept = self._kept.setdefault(run_id, _Kept())
            self._kept.move_to_end(run_id)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return kept


def _take(cells: dict[str, _Seen], news: News) -> None:
    """Note the cells that have changed; at the first time that is all of them."""
    order = [placement.cell.id for placement in news.run.submission.plan.placements] if not cells else news.cells
    for id_ in order:
        record = news.cells[id_]
        found = brief(record, news.counts)
        cells[id_] = _Seen(record, found, found.model_dump_json().encode())
