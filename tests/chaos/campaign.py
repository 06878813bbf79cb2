"""A farm at work, faults a few at a time, and what has to hold after each volley."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

from farm.errors import FarmError
from farm.model import EventRecord, RunQuery, State
from farm.store import Store
from tests.chaos.faults import FAULTS, Dealt
from tests.chaos.invariants import leaks, wrong_with
from tests.chaos.scene import Scene
from tests.chaos.supervised import Supervised

T = TypeVar("T")
PATIENCE_S = 240.0
"""By when a farm has to go on after a volley. An attempt is lost after 60 s of silence; a start takes a while."""
WINDOW_S = 6.0
"""Within which the faults of a volley begin."""
_OPEN_RUNS = 3
_LOOK_S = 0.2
_MOST_RUNS = 10_000


class Step(NamedTuple):
    """A fault that was injected."""

    number: int
    fault: str
    injected: bool
    """There was something to do it to."""
    took_s: float
    """Until the farm went on, from the end of the volley."""
    wrong: tuple[str, ...]
    """After its volley: all faults of that count as not survived."""


@dataclass
class Campaign:
    """One server, started again whenever it has ended, with always something to do."""

    farm: Supervised
    scene: Scene
    seed: int
    runs: int = 0
    cells: int = 0
    attempts: int = 0
    lost: int = 0
    """Cells that came to an error of the infrastructure."""
    _checked: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """Start the farm, and give it something to do."""
        self.farm.begin()
        self._store = Store.open(self.scene.database, self.scene.state)
        self.farm.submit()

    def steps(self, volleys: Iterable[Sequence[Dealt]]) -> Iterator[Step]:
        """Inject them; what is wrong is told with each."""
        for volley in volleys:
            yield from self._volley(volley)

    def end(self) -> tuple[str, ...]:
        """Let all runs come to their end, end the farm, and tell what is wrong or left."""
        wrong = [*self._until(lambda: not self._store.unfinished(), "lost run: the last runs do not end")]
        wrong += self._look_at_runs()
        there = len(self._store.runs(RunQuery(limit=_MOST_RUNS)))
        if there != self.farm.submitted:
            wrong.append(f"lost run: {self.farm.submitted} requests have made {there} runs")
        self._store.close()
        self.farm.stop()
        return (*wrong, *leaks(self.scene.runtime, serving=False))

    def _volley(self, volley: Sequence[Dealt]) -> Iterator[Step]:
        while len(self._told(self._store.unfinished)) < _OPEN_RUNS:
            self.farm.submit()
        with ThreadPoolExecutor(len(volley)) as threads:
            under_way = {one: threads.submit(self._inject, one) for one in volley}
            while not all(work.done() for work in under_way.values()):
                self.farm.supervise()
                time.sleep(_LOOK_S)
        injected: Mapping[Dealt, bool] = {one: work.result() for one, work in under_way.items()}
        began, last = time.monotonic(), self._told(self._store.last_event)
        wrong = [*self._until(lambda: self._goes_on(last), "lost run: the farm does not go on")]
        took_s = time.monotonic() - began
        wrong += self._look_at_runs()
        wrong += leaks(self.scene.runtime, serving=True)
        for one in volley:
            yield Step(one.number, one.name, injected[one], took_s, tuple(wrong))

    def _inject(self, one: Dealt) -> bool:
        dice = random.Random(f"{self.seed} {one.number}")  # noqa: S311 - so that it can be done again
        time.sleep(dice.uniform(0, WINDOW_S))
        return FAULTS[one.name].do(replace(self.scene, dice=dice))

    def _goes_on(self, last: int) -> bool:
        """Whether a cell has come to its end since an event."""
        return not self._store.unfinished() or any(e.kind == "cell-finished" for e in self._events(last))

    def _told(self, ask: Callable[[], T]) -> T:
        """What the store says, as soon as it says something again."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except FarmError:
                if time.monotonic() > until:
                    raise
            self.farm.supervise()
            time.sleep(_LOOK_S)

    def _until(self, true: Callable[[], bool], otherwise: str) -> Iterator[str]:
        until, told = time.monotonic() + PATIENCE_S, ""
        while True:
            self.farm.supervise()
            try:
                if true():
                    return
            except FarmError as error:
                told = f" ({error.message})"
            if time.monotonic() > until:
                yield f"{otherwise}{told}"
                return
            time.sleep(_LOOK_S)

    def _look_at_runs(self) -> Iterator[str]:
        """Check the runs that have ended since this was done last."""
        for summary in self._store.runs():
            if summary.id in self._checked or summary.state is not State.FINISHED:
                continue
            self._checked.add(summary.id)
            run = self._store.run(summary.id)
            self.runs += 1
            self.cells += len(run.cells)
            self.attempts += sum(len(cell.attempts) for cell in run.cells)
            self.lost += sum(1 for cell in run.cells if cell.outcome and cell.outcome.verdict == "error")
            yield from wrong_with(run, self._events(0, summary.id))

    def _events(self, after: int, run: str | None = None) -> tuple[EventRecord, ...]:
        found: list[EventRecord] = []
        while some := self._store.events(after, run_id=run):
            found += some
            after = some[-1].id
        return tuple(found)
