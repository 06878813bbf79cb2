"""What of all runs waits, in the order of its turns, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from farm.explain import Case, HostLine, reasons_of, what_hosts_say
from farm.lifecycle import CellState, RunState, failed_hosts
from farm.model import Placement, State, Submission
from farm.places import needs_of
from farm.turns import Situation

NOTHING = "nothing is in its way: it starts now"
"""Why a cell waits that does not have to."""
_LAST = float("inf")


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that is in the queue."""

    id: str
    submission: Submission
    placements: Mapping[str, Placement]
    """By cell."""
    state: RunState


@dataclass(frozen=True)
class WaitingCell:
    """A cell that is not under way, and why."""

    cell: str
    place: int | None
    """Among all cells that wait, from 1; None: it is not its turn, whatever room there is, or it is very far behind."""
    why: str
    """What weighs most of what keeps it from starting."""
    takes_s: float | None
    """How long it will take, where that is known."""


@dataclass(frozen=True)
class KeptGuest:
    """The guest of a cell, which is there for a person."""

    cell: str
    until: datetime


@dataclass(frozen=True)
class RunInQueue:
    """How far a run is, what of it waits, and which guests of it are kept."""

    id: str
    owner: str
    priority: int
    created: datetime | None
    cells: int
    finished: int
    under_way: int
    waiting: int
    first: tuple[WaitingCell, ...]
    """Of those that wait the first, in the order of their turns."""
    kept: tuple[KeptGuest, ...]
    """As many at most."""


def line_up(runs: Iterable[UnfinishedRun], farm: Situation, *, most_runs: int, most_cells: int) -> list[RunInQueue]:
    """The runs whose turn comes first, of each so many cells: those come first that have nothing left to wait for."""
    ordered = sorted(runs, key=lambda run: _turn_of(run, farm))[:most_runs]
    said = _Hosts()
    return [_in_queue(run, farm, said, most_cells) for run in ordered]


def _turn_of(run: UnfinishedRun, farm: Situation) -> float:
    return min((_place(run, cell, farm) for cell in _waiting(run)), default=0.0)


def _waiting(run: UnfinishedRun) -> list[CellState]:
    return [cell for cell in run.state.cells if cell.waits]


def _place(run: UnfinishedRun, cell: CellState, farm: Situation) -> float:
    return farm.turns.get((run.id, cell.id), _LAST)


def _in_queue(run: UnfinishedRun, farm: Situation, said: _Hosts, most_cells: int) -> RunInQueue:
    waiting = sorted(_waiting(run), key=lambda cell: _place(run, cell, farm))
    finished = sum(cell.state is State.FINISHED for cell in run.state.cells)
    return RunInQueue(
        id=run.id,
        owner=run.submission.owner,
        priority=run.submission.priority,
        created=run.state.created,
        cells=len(run.state.cells),
        finished=finished,
        under_way=len(run.state.cells) - finished - len(waiting),
        waiting=len(waiting),
        first=tuple(_cells(run, waiting[:most_cells], farm, said)),
        kept=tuple(islice(_kept(run), most_cells)),
    )


def _kept(run: UnfinishedRun) -> Iterator[KeptGuest]:
    for cell in run.state.cells:
        if cell.running and (until := cell.running.held_until):
            yield KeptGuest(cell.id, until)


def _cells(run: UnfinishedRun, cells: Iterable[CellState], farm: Situation, said: _Hosts) -> Iterator[WaitingCell]:
    for cell in cells:
        case = Case(run.id, run.submission, run.placements[cell.id], cell, run.state, farm)
        yield WaitingCell(
            cell=cell.id,
            place=farm.turns.get((run.id, cell.id)),
            why=next(reasons_of(case, said.of(case)), NOTHING),
            takes_s=farm.expected_s.get((run.id, cell.id)),
        )


class _Hosts:
    """What hosts say of cells, asked once for all that need the same."""

    def __init__(self) -> None:
        self._said: dict[tuple[object, ...], tuple[HostLine, ...]] = {}

    def of(self, case: Case) -> tuple[HostLine, ...]:
        needs = needs_of(case.placement, case.submission.plan.matrix)
        key = (needs, failed_hosts(case.cell), case.placement.hosts)
        if key not in self._said:
            self._said[key] = tuple(what_hosts_say(case))
        return self._said[key]
