"""What hosts have left, counted as guests come and go. Pure; knows no clock, store or executor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

_K = TypeVar("_K")


class Size(NamedTuple):
    """What a guest takes of a host, or what a host has for guests."""

    vcpus: int
    memory_mib: int

    def holds(self, other: Size) -> bool:
        """Whether something of another size has room in it."""
        return self.vcpus >= other.vcpus and self.memory_mib >= other.memory_mib

    def less(self, other: Size, times: int = 1) -> Size:
        """What is left of it; negative where more is taken than there is."""
        return Size(self.vcpus - times * other.vcpus, self.memory_mib - times * other.memory_mib)

    def over(self, other: Size) -> float:
        """How often another size goes into it, by what is scarcer."""
        return min(self.vcpus / other.vcpus, self.memory_mib / other.memory_mib)


_NOTHING = Size(0, 0)


class UnderWay(NamedTuple):
    """A guest that there is, or is about to be."""

    owner: str
    size: Size
    host: str
    """Where it is, or was thought to go; empty: nobody knows."""
    run: str = ""
    """Which one it belongs to, where that is asked for."""


class Capacity:
    """The hosts that take work, and what is left of them: counted as guests come and go, not anew for each choice."""

    def __init__(self, hosts: Mapping[str, Size] = MappingProxyType({}), guests: Iterable[UnderWay] = ()) -> None:
        self.guests: Counter[tuple[str, Size]] = Counter()
        """How many there are, by owner and size."""
        self.of_run: Counter[str] = Counter()
        """How many there are, by run."""
        self.changes = 0
        """Goes up with each change."""
        self._taken: dict[str, Size] = {}
        """By host, also of those that take no work."""
        self.resize(hosts)
        for guest in guests:
            self.add(guest)

    def resize(self, hosts: Mapping[str, Size]) -> None:
        """These hosts take work now, with all that they have for guests."""
        self.changes += 1
        self.hosts = hosts
        self.whole = (
            Size(*(max(1, sum(column)) for column in zip(*hosts.values(), strict=True))) if hosts else Size(1, 1)
        )
        self.left = {host: size.less(self._taken.get(host, _NOTHING)) for host, size in hosts.items()}
        """Of each host; negative where more is taken than there is."""
        self.open = {host for host, left in self.left.items() if min(left) > 0}
        """The hosts that have anything left."""

    def add(self, guest: UnderWay) -> None:
        """One more is under way."""
        self._count(guest, 1)

    def remove(self, guest: UnderWay) -> None:
        """One has ended that was added."""
        self._count(guest, -1)

    def _count(self, guest: UnderWay, more: int) -> None:
        self.changes += 1
        _change(self.guests, (guest.owner, guest.size), more)
        _change(self.of_run, guest.run, more)
        taken = self._taken.pop(guest.host, _NOTHING).less(guest.size, -more)
        if taken != _NOTHING:
            self._taken[guest.host] = taken
        if guest.host in self.left:
            left = self.left[guest.host] = self.hosts[guest.host].less(taken)
            (self.open.add if min(left) > 0 else self.open.discard)(guest.host)


def _change(counter: Counter[_K], what: _K, more: int) -> None:
    counter[what] += more
    if not counter[what]:
        del counter[what]
