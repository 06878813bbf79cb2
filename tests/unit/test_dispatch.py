"""What begins is taken out of the queue that there is; it is made anew only where something else has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from farm import dispatch
from farm.capacity import Capacity, Size, UnderWay
from farm.dispatch import Dispatch
from farm.lifecycle import CellState
from farm.model import Host, Placement, Submission
from farm.places import queue_of
from farm.schedule import NO_LIMITS
from tests.unit.rehearsal import a_host
from tests.unit.test_store import submission

CELLS = tuple(f"c{number}" for number in range(5))


@dataclass
class Run:
    """Implements `farm.dispatch.Run`."""

    id: str
    submission: Submission

    @property
    def placements(self) -> Mapping[str, Placement]:
        """Of its plan."""
        return {placement.cell.id: placement for placement in self.submission.plan.placements}


@dataclass
class Farm:
    """A dispatch with one run on one host, and what is counted."""

    dispatch: Dispatch
    run: Run
    hosts: tuple[Host, ...]
    made: list[int]
    """How many cells each queue was made of."""
    capacity: Capacity = field(default_factory=Capacity)
    guests: dict[str, UnderWay] = field(default_factory=dict)

    def under_way(self, *cells: str) -> None:
        """These are, from now on."""
        guests = {cell: UnderWay("", Size(*a_size(self.run)), "h", self.run.id) for cell in cells}
        for cell in self.guests.keys() - guests.keys():
            self.capacity.remove(self.guests[cell])
        for cell in guests.keys() - self.guests.keys():
            self.capacity.add(guests[cell])
        self.guests = guests

    def begin(self, *under_way: str) -> list[str]:
        """The cells that begin while others are under way."""
        self.under_way(*under_way)
        begun = self.dispatch.begin([self.run], (), self.capacity)
        return [beginning.key.cell for beginning in begun.get(self.run.id, [])]


def a_size(run: Run) -> tuple[int, int]:
    guest = run.submission.plan.matrix.guest
    return guest.vcpus, guest.memory_mib


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch) -> Farm:
    made: list[int] = []

    def counted(*args: object, **options: object) -> object:
        made.append(len(args[2]))  # type: ignore[arg-type]
        return queue_of(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dispatch, "queue_of", counted)
    run = Run("r", submission(*CELLS))
    farm = Farm(Dispatch(lambda: farm.hosts, NO_LIMITS, lambda *_: None), run, (a_host("h", 2 * a_size(run)[0]),), made)
    return farm


def test_a_queue_goes_on_without_what_has_begun(farm: Farm) -> None:
    cells = tuple(map(CellState, CELLS))
    farm.dispatch.put("r", cells)
    assert farm.begin() == ["c0", "c1"]
    farm.dispatch.put("r", cells[2:])
    assert farm.begin("c0", "c1") == []
    farm.dispatch.put("r", cells[2:])
    assert farm.begin("c1") == ["c2"]
    farm.dispatch.put("r", cells[3:])
    assert farm.begin() == ["c3", "c4"]
    assert farm.made == [5]


def test_what_could_not_be_started_waits_again(farm: Farm) -> None:
    cells = tuple(map(CellState, CELLS))
    farm.dispatch.put("r", cells)
    assert farm.begin() == ["c0", "c1"]
    farm.dispatch.put("r", cells)
    assert farm.begin() == ["c0", "c1"]
    assert farm.made == [5, 5]


def test_what_has_changed_otherwise_is_queued_anew(farm: Farm) -> None:
    cells = tuple(map(CellState, CELLS))
    farm.dispatch.put("r", cells)
    assert farm.begin() == ["c0", "c1"]
    farm.dispatch.put("r", (cells[0], *cells[3:]))
    assert farm.begin("c1") == ["c0"]
    farm.dispatch.put("r", cells[3:])
    farm.hosts = (a_host("h", 4 * a_size(farm.run)[0]),)
    assert farm.begin("c0", "c1") == ["c3", "c4"]
    assert farm.made == [5, 3, 2]


def test_where_there_was_no_room_there_is_none_until_something_changes(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.dispatch.put("r", tuple(map(CellState, CELLS)))
    assert farm.begin("x", "y") == []
    with monkeypatch.context() as patched:
        patched.setattr(dispatch, "choose", None)
        assert farm.begin("x", "y") == []
    assert farm.begin("x") == ["c0"]
