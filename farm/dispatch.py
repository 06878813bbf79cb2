"""What waits in the runs that are looked after, and what of it starts now, by `farm.schedule`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import NamedTuple, Protocol

from farm.capacity import Capacity
from farm.lifecycle import CellState, failed_hosts
from farm.model import AttemptKey, Host, Placement, Submission
from farm.places import PATIENCE_S, Places, queue_of
from farm.schedule import Limits, Pick, Queue, Waiting, choose


class Run(Protocol):
    """A run that is looked after."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def submission(self) -> Submission:
        """What it was made of."""

    @property
    def placements(self) -> Mapping[str, Placement]:
        """Its cells' by their ids."""


class Beginning(NamedTuple):
    """An attempt that begins."""

    key: AttemptKey
    host: str
    """Where it is counted until it says where it is."""
    going: tuple[str, ...]
    """Where it fits and may go, as the hosts are now: others may have come since it was planned."""
    avoid: tuple[str, ...]
    """Hosts that it must not go to."""


@dataclass
class _Waits:
    """What waits of a run."""

    cells: tuple[CellState, ...]
    """What waited when somebody looked; the queue speaks of them by their places."""
    since_s: float
    """When a cell of it began last, or it came, by the clock."""
    left: tuple[CellState, ...] = ()
    """Those that have not begun since."""
    queue: Queue | None = None
    """Of what is left."""
    places: Places | None = None
    """For which the queue was made."""

    def __post_init__(self) -> None:
        self.left = self.cells

    def without(self, begun: Collection[str]) -> None:
        """Some cells have begun: of each line the first ones, so that the queue need not be made again."""
        self.left = tuple(cell for cell in self.left if cell.id not in begun)
        self.since_s = time.monotonic()
        if self.queue:
            lines = (replace(line, cells=_after(line.cells, begun)) for line in self.queue.lines)
            self.queue = replace(self.queue, lines=tuple(line for line in lines if line.cells))


class Dispatch:
    """Of one controller."""

    def __init__(
        self, hosts: Callable[[], tuple[Host, ...]], limits: Limits, broken: Callable[[str, Exception], None]
    ) -> None:
        """`hosts` may raise HostError; `broken` is told of a run that cannot be queued, and waits no more."""
        self._hosts = hosts
        self._broken = broken
        self._limits = limits
        self._waits: dict[str, _Waits] = {}
        self._places = Places(())
        self._in_vain: tuple[list[Queue], int] | None = None
        """With what nothing could begin the last time: with the same, nothing can."""
        self._made_of: tuple[tuple[Host, ...], frozenset[str]] = ((), frozenset())

    def put(self, run_id: str, cells: tuple[CellState, ...]) -> None:
        """These cells of a run wait now, in their order."""
        known = self._waits.get(run_id)
        if known and len(known.left) == len(cells) and all(map(is_, known.left, cells)):
            return
        self._waits[run_id] = _Waits(cells, known.since_s if known and known.left else time.monotonic())

    def forget(self, run_id: str) -> None:
        """A run has come to its end."""
        self._waits.pop(run_id, None)

    def begin(self, runs: Iterable[Run], shut: Collection[str], capacity: Capacity) -> dict[str, list[Beginning]]:
        """What starts now, by run, in the order of its turns.

        `runs` are in the order of their age; `shut` are hosts that take no new work; `capacity` has the guests that are
        under way, and is told of the hosts. What starts waits no more: the next look at its run says what still does.
        Raises HostError.
        """
        waiting = [run for run in runs if run.id in self._waits and self._waits[run.id].left]
        if not waiting:
            return {}
        places = self._places_now(shut)
        if capacity.hosts is not places.sizes:
            capacity.resize(places.sizes)
        queues = [queue for run in waiting for queue in self._queued(run, places, capacity.of_run[run.id])]
        asked = (queues, capacity.changes)
        if asked == self._in_vain:
            return {}
        by_id = {run.id: run for run in waiting}
        turns: dict[str, list[Pick]] = {}
        for pick in self._chosen(queues, capacity):
            turns.setdefault(pick.run, []).append(pick)
        begun: dict[str, list[Beginning]] = {}
        self._in_vain = None if turns else asked
        for run_id, picks in turns.items():
            try:
                begun[run_id] = [self._beginning(by_id[run_id], pick, places) for pick in picks]
            except Exception as error:  # noqa: BLE001 - a defect, of one run
                self._is_broken(run_id, error)
            else:
                self._waits[run_id].without({beginning.key.cell for beginning in begun[run_id]})
        return begun

    def _chosen(self, queues: Sequence[Queue], capacity: Capacity) -> tuple[Pick, ...]:
        """What starts. Where that cannot be said with some queue, that one's run is broken and the others go on."""
        try:
            return choose(queues, capacity, self._limits)
        except Exception as error:
            if len(queues) == 1:
                self._is_broken(queues[0].run, error)
                return ()
            sound = [queue for queue in queues if self._can_choose(queue, capacity)]
            if len(sound) == len(queues):
                raise  # no run's: the round fails, and is told
            return self._chosen(sound, capacity) if sound else ()

    def _can_choose(self, queue: Queue, capacity: Capacity) -> bool:
        try:
            choose([queue], capacity, self._limits)
        except Exception as error:  # noqa: BLE001 - a defect; it is told where runs are looked after
            self._is_broken(queue.run, error)
            return False
        return True

    def _is_broken(self, run_id: str, error: Exception) -> None:
        self._waits[run_id] = _Waits((), time.monotonic())
        self._broken(run_id, error)

    def _places_now(self, shut: Collection[str]) -> Places:
        made_of = hosts, closed = (self._hosts(), frozenset(shut))
        before, closed_before = self._made_of
        same = hosts is before or (len(hosts) == len(before) and all(map(_same, before, hosts)))
        if not same or closed != closed_before:
            self._places = Places(hosts, closed)
        self._made_of = made_of
        return self._places

    def _queued(self, run: Run, places: Places, under_way: int) -> Iterator[Queue]:
        """Its queue; none where that is broken, which is no reason for the others to wait."""
        try:
            yield self._queue(run, places, under_way)
        except Exception as error:  # noqa: BLE001 - a defect; it is told where runs are looked after
            self._is_broken(run.id, error)

    def _queue(self, run: Run, places: Places, under_way: int) -> Queue:
        waits = self._waits[run.id]
        if waits.queue is None or waits.places is not places:
            waits.cells = waits.left
            waits.queue = queue_of(
                run.id, run.submission, waits.left, places, placements=run.placements, under_way=under_way
            )
            waits.places = places
        now = (under_way, time.monotonic() - waits.since_s > PATIENCE_S)
        if (waits.queue.under_way, waits.queue.overdue) != now:
            waits.queue = replace(waits.queue, under_way=now[0], overdue=now[1])
        return waits.queue

    def _beginning(self, run: Run, pick: Pick, places: Places) -> Beginning:
        cell = self._waits[run.id].cells[pick.place]
        failed = failed_hosts(cell)
        going = places.of(run.placements[cell.id], run.submission.plan.matrix, failed)
        key = AttemptKey(run=run.id, cell=cell.id, number=len(cell.attempts) + 1)
        return Beginning(key, pick.host, going, places.avoid(going, failed))


def _same(before: Host, host: Host) -> bool:
    """Whether nothing has changed but what the host has left, which it does all the time, and is enough as before."""
    if before is host:
        return True
    if bool(before.shortage) != bool(host.shortage):
        return False
    return before.model_copy(update={"room": None}) == host.model_copy(update={"room": None})


def _after(cells: Sequence[Waiting], begun: Collection[str]) -> Sequence[Waiting]:
    """What is left of a line of which the first have begun."""
    return cells[next((place for place, cell in enumerate(cells) if cell.cell not in begun), len(cells)) :]
