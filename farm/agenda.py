"""What of a run has to be decided now: of its cells those that have changed, and those whose time has come. Pure.

`farm.lifecycle` decides about each cell by itself, unless the run is to stop. Of a thousand cells one or two have
changed when somebody looks: only these are given to it, and the others come to what they came to the last time.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from farm.lifecycle import NEVER, CellState, Finish, RunState, Step, next_change, reconcile
from farm.model import State

_AT_ONCE = datetime.min.replace(tzinfo=UTC)


class Agenda:
    """Of one run. A cell that has not changed has to be the same object the next time."""

    def __init__(self) -> None:
        self._run = RunState(())
        """As it was the last time."""
        self._open: dict[str, CellState] = {}
        """Its cells that are not finished."""
        self._places: dict[str, int] = {}
        """Of all its cells, in the order of the plan."""
        self._waiting: dict[str, CellState] = {}
        self._in_order: tuple[CellState, ...] | None = ()
        """The same, in the order of the plan; None: they have changed since they were put into it."""
        self._commanded: frozenset[str] = frozenset()
        """Cells about which something was commanded the last time: the state has to show that it was done."""
        self._due: dict[str, datetime] = {}
        """When open cells are to be looked at although nothing was heard of them."""
        self._heap: list[tuple[datetime, str]] = []
        """The same, the next first; entries that are not in `_due` are outdated."""

    @property
    def due(self) -> datetime:
        """When to look again although nothing was heard."""
        if self._commanded:
            return _AT_ONCE
        while self._heap and self._outdated(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def step(self, run: RunState, *, now: datetime, silent: Collection[str] = frozenset()) -> Step:
        """What `reconcile` would give; what waits is the same tuple as before where that has not changed."""
        before, self._run = self._run, run
        known = _of_one_run(before, run)
        if not known:
            self._open, self._waiting, self._in_order, self._due, self._heap = {}, {}, None, {}, []
            self._places = {cell.id: place for place, cell in enumerate(run.cells)}
        changed = _changed(before, run) if known else run.cells
        self._note(changed)
        timely = tuple(self._timely(now))
        if run.state is State.FINISHED or not self._open:
            self._commanded = frozenset()
            return reconcile(run, now=now, silent=silent)
        if not known or run.cancel_requested or run.fail_fast:  # what becomes of a cell hangs on the others
            return self._look_at(run, tuple(self._open.values()), now, silent)
        ids = self._commanded.union(timely, silent, (cell.id for cell in changed)) & self._open.keys()
        cells = tuple(self._open[id_] for id_ in sorted(ids, key=self._places.__getitem__))
        return self._look_at(replace(run, cells=cells), cells, now, silent) if cells else Step((), self._waiting_now())

    def _note(self, changed: Iterable[CellState]) -> None:
        for cell in changed:
            if cell.state is State.FINISHED:
                self._open.pop(cell.id, None)
                self._due.pop(cell.id, None)
                self._put(cell.id, None)
            else:
                self._open[cell.id] = cell

    def _timely(self, now: datetime) -> Iterator[str]:
        """The cells whose time has come, which are forgotten with that."""
        while self._heap and self._heap[0][0] <= now:
            when, cell = heapq.heappop(self._heap)
            if not self._outdated(when, cell):
                del self._due[cell]
                yield cell

    def _look_at(self, run: RunState, cells: Sequence[CellState], now: datetime, silent: Collection[str]) -> Step:
        """Decide about some open cells; `run` is as much of it as that takes."""
        step = reconcile(run, now=now, silent=silent)
        self._commanded = frozenset(command.cell for command in step.commands if not isinstance(command, Finish))
        waiting = {cell.id: cell for cell in step.waiting}
        for cell in cells:
            self._put(cell.id, waiting.get(cell.id))
            self._expect(cell, now)
        return Step(step.commands, self._waiting_now())

    def _put(self, id_: str, waiting: CellState | None) -> None:
        """A cell waits, or (None) does not."""
        if self._waiting.get(id_) is not waiting:
            self._in_order = None
            if waiting:
                self._waiting[id_] = waiting
            else:
                del self._waiting[id_]

    def _waiting_now(self) -> tuple[CellState, ...]:
        if self._in_order is None:
            self._in_order = tuple(cell for cell in self._run.cells if cell.id in self._waiting)
        return self._in_order

    def _expect(self, cell: CellState, now: datetime) -> None:
        due = next_change(cell, self._run, now)
        if due == NEVER:
            self._due.pop(cell.id, None)
        elif due != self._due.get(cell.id):
            self._due[cell.id] = due
            heapq.heappush(self._heap, (due, cell.id))

    def _outdated(self, when: datetime, cell: str) -> bool:
        return self._due.get(cell) != when


def _of_one_run(before: RunState, run: RunState) -> bool:
    """Whether nothing but cells may have changed."""
    return len(before.cells) == len(run.cells) and replace(before, cells=()) == replace(run, cells=())


def _changed(before: RunState, run: RunState) -> list[CellState]:
    return [new for old, new in zip(before.cells, run.cells, strict=True) if old is not new]
