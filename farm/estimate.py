"""How long cells will take, and all of them together: from what they took before, and how slow guests are. Pure."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from farm.model import GuestSpec, Host, Placement, scalar_text
from farm.slowness import UNKNOWN, weight

_WAYS = ("arch", "hypervisor")
"""The axes in which cells may differ that do the same work."""


class Weights:
    """How much longer cells take where they were placed than natively; worked out once for all placed alike."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self._hosts = tuple(hosts)
        self._known: dict[tuple[str, str, tuple[str, ...]], float | None] = {}

    def of(self, placement: Placement) -> float | None:
        """On the slowest of a cell's hosts that is known."""
        way = (placement.hypervisor, placement.cell.arch, placement.hosts)
        if way not in self._known:
            self._known[way] = self._slowest(*way)
        return self._known[way]

    def guessed(self, placement: Placement) -> float:
        """The same, or what is likely where nothing has been measured."""
        return self.of(placement) or (UNKNOWN if placement.emulated else 1.0)

    def _slowest(self, hypervisor: str, arch: str, names: Collection[str]) -> float | None:
        names = frozenset(names)
        offers = (offer for host in self._hosts if host.name in names for offer in host.offers)
        ways = [
            weight(offer.slowness, emulated=offer.emulated)
            for offer in offers
            if (offer.hypervisor, offer.arch) == (hypervisor, arch)
        ]
        return max((times for times in ways if times is not None), default=None)


def expected_s(
    placements: Sequence[Placement], durations: Mapping[str, float], known_weights: Weights
) -> dict[str, float]:
    """Seconds that cells will take, by their ids, as far as that can be known.

    It is what a cell took before (`durations`). For one that has not run yet it is what those took that do the
    same work on another architecture or hypervisor, times the ratio of how slow the two are: the middle of them.
    """
    weights = {placement.cell.id: known_weights.of(placement) for placement in placements}
    taken: dict[object, list[float]] = defaultdict(list)
    for placement in placements:
        seconds, times = durations.get(placement.cell.id), weights[placement.cell.id]
        if seconds is not None and times:
            taken[_work(placement)].append(seconds / times)
    known = {}
    for placement in placements:
        id_, times = placement.cell.id, weights[placement.cell.id]
        if id_ in durations:
            known[id_] = durations[id_]
        elif times and (natively := taken.get(_work(placement))):
            known[id_] = statistics.median(natively) * times
    return known


def capacity(hosts: Iterable[Host], guest: GuestSpec) -> int:
    """How many guests of a size run at a time on all hosts together; at least 1, but where there is no host."""
    rooms = [min(host.vcpus // guest.vcpus, host.memory_mib // guest.memory_mib) for host in hosts]
    return max(1, sum(rooms)) if rooms else 0


class Forecast(NamedTuple):
    """How long cells will take, as far as that is known."""

    work_s: float
    """One after the other."""
    wall_s: float
    """Side by side."""
    known: int
    unknown: int
    """Cells of which nothing is known; they are in neither time."""


def forecast(placements: Iterable[Placement], slots: int) -> Forecast:
    """What a plan comes to if its cells start in its order, so many at a time as there are slots (1 or more)."""
    started = [placement for placement in placements if placement.hosts]
    known = [placement.expected_s for placement in started if placement.expected_s is not None]
    free_at = [0.0] * max(1, min(slots, len(known)))
    for seconds in known:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return Forecast(sum(known), max(free_at), len(known), len(started) - len(known))


def _work(placement: Placement) -> object:
    values = placement.cell.values.items()
    return (
        placement.builder is not None,
        tuple(sorted((axis, scalar_text(value)) for axis, value in values if axis not in _WAYS)),
    )
