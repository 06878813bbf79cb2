"""Where cells stand and what waits, read from the store: of what is asked about again only what has changed is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from farm.capacity import UnderWay
from farm.explain import Explanation, excluded, explain
from farm.intake import Fleet
from farm.lifecycle import AttemptState, RunState, reconcile
from farm.model import Submission
from farm.places import Places, queue_of, size_of
from farm.schedule import Limits
from farm.select import choose
from farm.store import Store
from farm.store.records import OUTLINE
from farm.store.states import KnownState
from farm.turns import Running, Situation
from farm.waiting import RunInQueue, UnfinishedRun, line_up


class _Run:
    """A run that is in the queue."""

    def __init__(self, submission: Submission) -> None:
        self.submission = submission
        self.placements = {placement.cell.id: placement for placement in submission.plan.placements}
        self.known = KnownState()

    def takes_s(self, cell: str) -> float | None:
        """How long one of its cells takes: of a reservation that is known; None: it is not."""
        return self.submission.reserved_s or self.placements[cell].expected_s


class Explainer:
    """May be used by many threads."""

    def __init__(self, store: Store, fleet: Fleet, limits: Limits, nobody: Callable[[], str]) -> None:
        """`nobody` says why nothing is carried out at all; empty: it is."""
        self._store = store
        self._fleet = fleet
        self._limits = limits
        self._nobody = nobody
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def explain(self, run: str, cell: str) -> Explanation:
        """Where a cell of a run stands, and why; a glob may name it. Raises NotFoundError."""
        submission = self._store.submission(run)
        ids = [one.cell.id for one in submission.plan.placements]
        left_out = {one.id: one.reason for one in submission.plan.excluded}
        if cell in left_out and cell not in ids:
            return excluded(run, cell, left_out[cell])
        cell = choose(ids, cell, run)
        record = self._store.cell(run, cell, OUTLINE)
        runs, states = self._unfinished(run)
        return explain(run, submission, record, states[run], self._situation(runs, states))

    def queue(self, *, most_runs: int, most_cells: int) -> tuple[list[RunInQueue], int]:
        """The runs whose turn comes first, of each so many cells that wait; and how many runs there are in all."""
        runs, states = self._unfinished()
        unfinished = [UnfinishedRun(name, run.submission, run.placements, states[name]) for name, run in runs.items()]
        farm = self._situation(runs, states)
        return line_up(unfinished, farm, most_runs=most_runs, most_cells=most_cells), len(runs)

    def _unfinished(self, *more: str) -> tuple[dict[str, _Run], dict[str, RunState]]:
        """The runs that are served, by priority and age, and more that may be carried out by somebody else."""
        with self._lock:
            names = dict.fromkeys((*self._store.served(), *more))
            runs = self._runs = {name: self._runs.get(name) or _Run(self._store.submission(name)) for name in names}
            return runs, {name: self._store.state(name, one.known) for name, one in runs.items()}

    def _situation(self, runs: dict[str, _Run], states: dict[str, RunState]) -> Situation:
        now = datetime.now(UTC)
        hosts, marks = self._fleet.hosts(), self._store.hosts.all()
        places = Places(hosts, {mark.name for mark in marks})
        steps = {name: reconcile(state, now=now) for name, state in states.items()}
        return Situation(
            now=now,
            hosts=hosts,
            marks=marks,
            queues=tuple(
                queue_of(
                    name,
                    run.submission,
                    steps[name].waiting,
                    places,
                    placements=run.placements,
                    under_way=sum(1 for cell in states[name].cells if cell.running),
                )
                for name, run in runs.items()
            ),
            running=tuple(one for name, run in runs.items() for one in _running(run, states[name], now)),
            limits=self._limits,
            expected_s={
                (name, cell.id): takes_s
                for name, run in runs.items()
                for cell in states[name].cells
                if cell.waits and (takes_s := run.takes_s(cell.id)) is not None
            },
            nobody=self._nobody(),
        )


def _running(run: _Run, state: RunState, now: datetime) -> Iterator[Running]:
    for cell in state.cells:
        if attempt := cell.running:
            guest = UnderWay(run.submission.owner, size_of(run.submission.plan.matrix.guest), attempt.host)
            yield Running(guest, _left_s(attempt, run.takes_s(cell.id), now))


def _left_s(attempt: AttemptState, takes_s: float | None, now: datetime) -> float | None:
    if attempt.held_until:
        return max(0.0, (attempt.held_until - now).total_seconds())
    return None if takes_s is None else max(0.0, takes_s - (now - attempt.since).total_seconds())
