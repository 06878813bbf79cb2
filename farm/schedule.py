"""Which cells start next, of all that wait in all runs. Pure; knows no clock, store or executor.

Whose turn it is: of the runs with the highest priority, the user whose guests take the least of the farm, and of that
user the oldest run; of a run the first cell in the order of its plan, which is the longest. What cannot start now (a
limit, no room on a host where it fits) holds up nobody: its turn goes to the next, until nothing more can start.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from farm.capacity import Capacity, Size


class Waiting(NamedTuple):
    """A cell that waits."""

    place: int
    """In the order of its run."""
    cell: str


@dataclass(frozen=True, slots=True)
class Line:
    """Cells of one run that may go to the same hosts, in their order."""

    cells: Sequence[Waiting]
    hosts: tuple[str, ...]
    """Where they fit and may go; some may be gone, or without room."""


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits of a run."""

    run: str
    owner: str
    priority: int
    size: Size
    """Of each of its guests."""
    lines: tuple[Line, ...]
    under_way: int = 0
    limit: int | None = None
    """So many cells of it may be under way; None: as many as there is room for."""
    overdue: bool = False
    """It has waited for longer than is fair: where its turn comes and nothing has room, a host is kept free for it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many guests of a user may be under way."""

    each: int | None = None
    """Of everybody who is not named; None: any number."""
    of: Mapping[str, int] = field(default_factory=dict)

    def limit(self, owner: str) -> int | None:
        """Of a user; the one without a name is whoever may start programs on the server, and has none."""
        return self.of.get(owner, self.each if owner else None)


class Pick(NamedTuple):
    """A cell that starts."""

    run: str
    cell: str
    place: int
    """In the order of its run."""
    host: str
    """Where it was counted; it may start on any that it fits on."""


NO_LIMITS = Limits()


def choose(queues: Iterable[Queue], capacity: Capacity, limits: Limits = NO_LIMITS) -> tuple[Pick, ...]:
    """All cells that start now, in the order of their turns; `queues` are of all runs that wait, the oldest first."""
    by_priority: dict[int, list[Queue]] = defaultdict(list)
    for queue in queues:
        by_priority[queue.priority].append(queue)
    farm = _Farm(capacity, limits, (line for group in by_priority.values() for one in group for line in one.lines))
    return tuple(pick for priority in sorted(by_priority, reverse=True) for pick in farm.turns(by_priority[priority]))


class _Farm:
    """What is left of the hosts and of the users' limits, while cells are chosen."""

    def __init__(self, capacity: Capacity, limits: Limits, lines: Iterable[Line]) -> None:
        self._open = capacity.open
        self._left = dict(capacity.left)
        self._limits = limits
        self._all = capacity.whole
        self._guests: Counter[str] = Counter()
        self._share: dict[str, float] = defaultdict(float)
        for (owner, size), count in sorted(capacity.guests.items()):
            self._guests[owner] += count
            self._share[owner] += count * self._part(size)
        # Nearly all lines have the very same hosts, and the hash of a thousand names takes its time: once is enough.
        kinds: dict[tuple[str, ...], int] = {}
        self._kinds = {
            which: kinds.setdefault(where, len(kinds))
            for which, where in {id(line.hosts): line.hosts for line in lines}.items()
        }
        self._able: dict[int, set[str]] = {}
        """By kind of line of the priority whose turn it is: the hosts that have anything left."""
        self._wanted: Counter[str] = Counter()
        """By how many of those kinds."""
        self._choices: dict[int, list[tuple[int, int, str]]] = {}
        self._keeping = False

    def turns(self, queues: Sequence[Queue]) -> Iterator[Pick]:
        """The cells of runs of one priority that start. Where they go does not hang on what lower ones want."""
        kinds = {self._kinds[id(line.hosts)]: line.hosts for queue in queues for line in queue.lines}
        self._able = {kind: self._open.intersection(where) for kind, where in kinds.items()}
        self._wanted = Counter(chain.from_iterable(self._able.values()))
        self._choices = {}
        of: dict[str, deque[_Lines]] = defaultdict(deque)
        for queue in queues:
            of[queue.owner].append(_Lines(queue))
        late = {queue.owner for queue in queues if queue.overdue}
        ages = {owner: (owner not in late, age) for age, owner in enumerate(of)}
        turns = [(self._share[owner], ages[owner], owner) for owner in of]
        heapq.heapify(turns)
        while turns:
            owner = heapq.heappop(turns)[-1]
            if pick := self._first(of[owner]):
                yield pick
                heapq.heappush(turns, (self._share[owner], ages[owner], owner))

    def _first(self, runs: deque[_Lines]) -> Pick | None:
        """The next cell of a user that can start; what cannot now cannot later either, for room only gets less."""
        while runs:
            lines = runs[0]
            limit = self._limits.limit(lines.queue.owner)
            if limit is not None and self._guests[lines.queue.owner] >= limit:
                runs.clear()
            elif lines.may_start and (pick := self._place(lines)):
                return pick
            else:
                runs.popleft()
        return None

    def _place(self, lines: _Lines) -> Pick | None:
        queue = lines.queue
        while lines.heads:
            line = lines.first()
            if host := self._host(line.hosts, queue.size):
                self._left[host] = self._left[host].less(queue.size)
                self._guests[queue.owner] += 1
                self._share[queue.owner] += self._part(queue.size)
                taken = lines.take()
                return Pick(queue.run, taken.cell, taken.place, host)
            if queue.overdue and not self._keeping:
                self._keep(line.hosts, queue.size)
            lines.drop()
        return None

    def _host(self, hosts: tuple[str, ...], size: Size) -> str:
        """The one with room that the fewest others want, and of those the emptiest; empty: none has room.

        The heap of each choice is put right as it is used: what hosts have left only gets less.
        """
        kind = self._kinds[id(hosts)]
        if kind not in self._choices:
            self._choices[kind] = [self._rank(host) for host in self._able[kind]]
            heapq.heapify(self._choices[kind])
        heap, passed = self._choices[kind], []
        found = ""
        while heap and not found:
            *_, host = top = heap[0]
            if top != (now := self._rank(host)):
                heapq.heapreplace(heap, now)
            elif self._left[host].holds(size):
                found = host
            elif min(self._left[host]) <= 0:
                heapq.heappop(heap)  # nothing at all has room there
            else:
                passed.append(heapq.heappop(heap))
        for entry in passed:
            heapq.heappush(heap, entry)
        return found

    def _rank(self, host: str) -> tuple[int, int, str]:
        return self._wanted[host], -self._left[host].vcpus, host

    def _keep(self, hosts: tuple[str, ...], size: Size) -> None:
        """Nobody else gets room on the host that will have enough of it first."""
        able = [host for host in hosts if host in self._left]
        if able:
            kept = max(able, key=lambda host: self._left[host].over(size))
            self._left[kept] = Size(0, 0)
            self._keeping = True

    def _part(self, size: Size) -> float:
        """How much of the farm a guest takes: of what it takes most of."""
        return max(size.vcpus / self._all.vcpus, size.memory_mib / self._all.memory_mib)


class _Lines:
    """The lines of a run, as they are used up."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.heads = [(line.cells[0].place, number, 0) for number, line in enumerate(queue.lines) if line.cells]
        """A heap: the place of the first of each line, its number, how many of it have started."""
        heapq.heapify(self.heads)
        self._left = None if queue.limit is None else queue.limit - queue.under_way

    @property
    def may_start(self) -> bool:
        """Whether the run's own limit lets another cell begin."""
        return self._left is None or self._left > 0

    def first(self) -> Line:
        """The line whose turn it is."""
        return self.queue.lines[self.heads[0][1]]

    def take(self) -> Waiting:
        """The first cell of it starts."""
        _, number, started = self.heads[0]
        cells = self.queue.lines[number].cells
        if started + 1 < len(cells):
            heapq.heapreplace(self.heads, (cells[started + 1].place, number, started + 1))
        else:
            heapq.heappop(self.heads)
        if self._left is not None:
            self._left -= 1
        return cells[started]

    def drop(self) -> None:
        """Nothing has room for it."""
        heapq.heappop(self.heads)
