"""The queue as people see it: in the order of the schedule, and with the reasons that `farm explain` gives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from farm.explainer import Explainer
from farm.model import AttemptKey, Evidence, Held, Placed
from farm.schedule import NO_LIMITS, Limits
from farm.store import Store
from farm.waiting import NOTHING, RunInQueue
from tests.unit.rehearsal import Rehearsal, a_host, now
from tests.unit.test_store import submission


class Farm:
    """A store whose runs wait for one host."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.limits = NO_LIMITS
        self.nobody = ""
        self.vcpus = 2

    @property
    def explainer(self) -> Explainer:
        fleet = Rehearsal()
        fleet.there = (a_host("h", self.vcpus),)
        return Explainer(self.store, fleet, self.limits, lambda: self.nobody)

    def submit(self, *cells: str, owner: str, ago_s: float = 0, priority: int = 50, **more: object) -> str:
        wanted = {"owner": owner, "served": True, "priority": priority, **more}
        made = submission(*cells).model_copy(update=wanted)
        return self.store.create_run(made, now=now() - timedelta(seconds=ago_s)).id

    def start(self, run: str, cell: str) -> AttemptKey:
        key = AttemptKey(run=run, cell=cell, number=1)
        self.store.start_attempt(key, now=now())
        return key

    def queue(self, most_runs: int = 50, most_cells: int = 30) -> list[RunInQueue]:
        return self.explainer.queue(most_runs=most_runs, most_cells=most_cells)[0]


@pytest.fixture
def farm(store: Store) -> Farm:
    return Farm(store)


def shown(runs: list[RunInQueue]) -> list[tuple[str, list[tuple[str, int | None]]]]:
    return [(run.id, [(cell.cell, cell.place) for cell in run.first]) for run in runs]


def test_users_take_turns_and_the_limit_of_one_is_told(farm: Farm) -> None:
    farm.limits = Limits(of={"ann": 1})
    ann = farm.submit("a", "b", "c", owner="ann", ago_s=60)
    bob = farm.submit("x", "y", owner="bob")
    farm.start(ann, "a")
    queue = farm.queue()
    # Ann's run is older, but she has a guest: whoever has none comes first, and then both in turns.
    assert shown(queue) == [(bob, [("x", 1), ("y", 3)]), (ann, [("b", 2), ("c", 4)])]
    assert [cell.why for cell in queue[1].first] == ["ann may have 1 guest at once, and has 1 (user limit)"] * 2
    assert queue[0].first[0].why == NOTHING
    assert (queue[1].finished, queue[1].under_way, queue[1].waiting, queue[1].owner) == (0, 1, 2, "ann")


def test_place_and_reason_are_those_of_explain(farm: Farm) -> None:
    farm.limits = Limits(each=2)
    runs = [farm.submit("a", "b", "c", owner=owner, max_parallel=2) for owner in ("ann", "bob", "ann")]
    urgent = farm.submit("u", "nowhere", owner="cid", priority=90)
    farm.start(runs[0], "a")
    farm.start(runs[0], "b")
    told = {(run.id, cell.cell): (cell.place, cell.why) for run in farm.queue() for cell in run.first}
    assert len(told) == 9
    for (run, cell), (place, why) in told.items():
        found = farm.explainer.explain(run, cell)
        assert (place, why) == (found.place, (found.reasons or (NOTHING,))[0]), (run, cell)
    assert told[urgent, "nowhere"] == (None, "no host fits")


def test_a_run_of_which_nothing_waits_stands_before_all_others(farm: Farm) -> None:
    waits = farm.submit("a", owner="ann", priority=90)
    runs = farm.submit("a", owner="ann")
    farm.start(runs, "a")
    assert shown(farm.queue()) == [(runs, []), (waits, [("a", 1)])]


def test_of_many_runs_and_cells_the_first_are_shown(farm: Farm) -> None:
    runs = [farm.submit("a", "b", "c", owner="ann", ago_s=9 - number) for number in range(3)]
    found, count = farm.explainer.queue(most_runs=2, most_cells=1)
    assert (shown(found), count) == ([(runs[0], [("a", 1)]), (runs[1], [("a", 4)])], 3)
    assert [run.waiting for run in found] == [3, 3]


def test_where_nothing_is_carried_out_everything_waits_for_that(farm: Farm) -> None:
    farm.submit("a", owner="ann")
    farm.nobody = "there is no `farm serve`"
    assert farm.queue()[0].first[0].why == "there is no `farm serve`"


def test_what_waits_for_a_reserved_guest_starts_at_its_end(farm: Farm, store: Store) -> None:
    hour_s = 3600.0
    kept = farm.submit("a", owner="ann", reserved_s=hour_s)
    after = farm.submit("b", owner="bob", reserved_s=2 * hour_s, max_parallel=1)
    last = farm.submit("c", owner="bob")
    farm.limits = Limits(of={"bob": 1})
    farm.vcpus = 1
    key = farm.start(kept, "a")
    store.record(key, [Placed(at=now(), host="h")], now=now())

    def starts_s(run: str, cell: str) -> float | None:
        return farm.explainer.explain(run, cell).starts_in_s

    # It boots: it will be there for as long as it was asked for, however long other cells take.
    assert starts_s(after, "b") == pytest.approx(hour_s, abs=30)
    assert [run.first[0].takes_s for run in farm.queue()[1:]] == [2 * hour_s, None]
    until = now() + timedelta(hours=5)
    store.record(key, [Held(at=now(), command="x", until=until, evidence=Evidence())], now=now())
    assert starts_s(after, "b") == pytest.approx(5 * hour_s, abs=30)
    assert starts_s(last, "c") == pytest.approx(7 * hour_s, abs=30)
    (first, *others) = farm.queue()
    assert [(first.id, first.owner, guest.cell, guest.until) for guest in first.kept] == [(kept, "ann", "a", until)]
    assert [run.kept for run in others] == [(), ()]
