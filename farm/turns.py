"""Whose turn it is among all cells that wait, and when one of them will start if all goes on as it did. Pure."""

from __future__ import annotations

import heapq
import statistics
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from farm.capacity import Capacity, Size, UnderWay
from farm.model import Host, HostMark
from farm.places import size_of
from farm.schedule import Limits, Queue, choose

_MOST_CELLS = 2000
"""Of each run; what is behind them is too far behind to say anything of."""
_MOST_ENDS = 400
"""So many guests are seen to end before the expected start of a cell is given up as too far away."""
_HUGE = 1_000_000


@dataclass(frozen=True)
class Running:
    """A guest that there is, and how long it will be there."""

    guest: UnderWay
    left_s: float | None
    """None: nothing is known."""


@dataclass(frozen=True)
class Situation:
    """The farm as it is for cells that wait."""

    now: datetime
    hosts: tuple[Host, ...]
    marks: tuple[HostMark, ...]
    queues: tuple[Queue, ...]
    """Of all runs, the oldest first."""
    running: tuple[Running, ...]
    limits: Limits
    expected_s: Mapping[tuple[str, str], float]
    """Seconds that cells will take, by run and cell, as far as that is known."""
    nobody: str = ""
    """Why nothing is carried out at all; empty where it is."""

    @property
    def sizes(self) -> dict[str, Size]:
        """Of the hosts that take work."""
        shut = {mark.name for mark in self.marks}
        return {host.name: size_of(host) for host in self.hosts if host.name not in shut}

    @cached_property
    def guests(self) -> tuple[UnderWay, ...]:
        """What is under way."""
        return tuple(one.guest for one in self.running)

    @cached_property
    def left(self) -> Mapping[str, Size]:
        """What the hosts that take work have left."""
        return self.capacity().left

    @cached_property
    def turns(self) -> Mapping[tuple[str, str], int]:
        """Of all that wait the place, from 1, by run and cell and in the order of their turns.

        That is the order in which they would start on hosts that are never full, without limits.
        """
        endless = {name: Size(size.vcpus * _HUGE, size.memory_mib * _HUGE) for name, size in self.sizes.items()}
        queues = [replace(_cut(queue, _MOST_CELLS), limit=None, overdue=False) for queue in self.queues]
        picks = choose(queues, Capacity(endless, self.guests))
        return {(pick.run, pick.cell): place for place, pick in enumerate(picks, 1)}

    @cached_property
    def places(self) -> Mapping[str, list[int]]:
        """The same by run, in the order in which their first ones get their turns."""
        found: dict[str, list[int]] = {}
        for (run, _), place in self.turns.items():
            found.setdefault(run, []).append(place)
        return found

    def capacity(self) -> Capacity:
        """What the hosts have left, to count on from there."""
        return Capacity(self.sizes, self.guests)


def ahead(farm: Situation, run: str, cell: str) -> dict[str, int]:
    """How many cells of each run have their turn before one; none where that is not in the queue."""
    place = farm.turns.get((run, cell), 0)
    counts = {other: bisect_left(places, place) for other, places in farm.places.items()}
    return {other: count for other, count in counts.items() if count}


def _cut(queue: Queue, most: int) -> Queue:
    return replace(queue, lines=tuple(replace(line, cells=line.cells[:most]) for line in queue.lines))


def expected_start(farm: Situation, run: str, cell: str) -> float | None:
    """Seconds until a cell starts, if all goes on as it did before: the schedule is played through until then.

    None where it is too far away, or nothing is known of how long cells take.
    """
    known = [*farm.expected_s.values(), *(one.left_s for one in farm.running if one.left_s is not None)]
    if farm.nobody or (farm.running and not known):
        return None
    usual_s = statistics.median(known) if known else 0.0
    queues = {queue.run: _cut(queue, _MOST_CELLS) for queue in farm.queues}
    ends = [
        (usual_s if one.left_s is None else one.left_s, number, "", one.guest)
        for number, one in enumerate(farm.running)
    ]
    heapq.heapify(ends)
    clock, counter, capacity = 0.0, len(ends), farm.capacity()
    for _ in range(_MOST_ENDS):
        picks = choose(queues.values(), capacity, farm.limits)
        if any((pick.run, pick.cell) == (run, cell) for pick in picks):
            return clock
        for pick in picks:
            queue, counter = queues[pick.run], counter + 1
            takes_s = farm.expected_s.get((pick.run, pick.cell), usual_s)
            guest = UnderWay(queue.owner, queue.size, pick.host)
            capacity.add(guest)
            heapq.heappush(ends, (clock + takes_s, counter, pick.run, guest))
            queues[pick.run] = _started(queue, pick.cell)
        if not ends:
            return None
        clock, _, ended, gone = heapq.heappop(ends)
        capacity.remove(gone)
        if ended:
            queues[ended] = replace(queues[ended], under_way=queues[ended].under_way - 1)
    return None


def _started(queue: Queue, cell: str) -> Queue:
    lines = tuple(replace(line, cells=tuple(one for one in line.cells if one.cell != cell)) for line in queue.lines)
    return replace(queue, lines=lines, under_way=queue.under_way + 1)
