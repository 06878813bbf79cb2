"""What a cell that waits is told, and one that has its verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from farm import verdict
from farm.capacity import Size, UnderWay
from farm.explain import Explanation, excluded, explain
from farm.lifecycle import AttemptState, CellState, RunState
from farm.model import (
    AttemptKey,
    AttemptRecord,
    CellRecord,
    Host,
    HostMark,
    Mark,
    Offer,
    Outcome,
    Phase,
    PhaseRecord,
    Placement,
    State,
    Submission,
)
from farm.places import Places, queue_of
from farm.schedule import Limits, Queue
from farm.turns import Running, Situation
from farm.verdict import classify
from tests.unit.records import FAILED, PASSED
from tests.unit.test_store import submission
from tests.unit.test_verdict import after, failing

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INFRA = verdict.lost_attempt("its worker died")
RUN = "demo-1"


def host(name: str, *, vcpus: int = 2, arch: str = "amd64") -> Host:
    offer = Offer(hypervisor="qemu", arch=arch, emulated=True)
    return Host(name=name, uri="u", vcpus=vcpus, memory_mib=8192, offers=(offer,))


def mark(name: str, kind: Mark, reason: str, due: timedelta | None = None) -> HostMark:
    return HostMark(name=name, mark=kind, reason=reason, since=NOW, due=NOW + due if due else None)


def guest(owner: str, on: str = "a", left_s: float | None = None) -> Running:
    return Running(UnderWay(owner, Size(1, 512), on), left_s)


class Farm:
    """A run of four cells in a farm that is changed by hand."""

    def __init__(self, *hosts: Host, owner: str = "ann", priority: int = 50, **matrix: object) -> None:
        made = submission("w", "x", "y", "z", **matrix)
        placed = [
            one.model_copy(update={"expected_s": 10.0 * number}) for number, one in enumerate(made.plan.placements, 1)
        ]
        self.submission: Submission = made.model_copy(
            update={
                "plan": made.plan.model_copy(update={"placements": tuple(placed)}),
                "owner": owner,
                "served": True,
                "priority": priority,
            }
        )
        self.cells = {placement.cell.id: CellState(placement.cell.id) for placement in placed}
        self.hosts = hosts or (host("a"),)
        self.marks: tuple[HostMark, ...] = ()
        self.others: tuple[Queue, ...] = ()
        self.running: tuple[Running, ...] = ()
        self.limits = Limits()
        self.nobody = ""
        self.cancelled = False

    @property
    def placements(self) -> dict[str, Placement]:
        return {placement.cell.id: placement for placement in self.submission.plan.placements}

    def told(self, cell: str, record: CellRecord | None = None) -> Explanation:
        run = RunState(
            tuple(self.cells.values()),
            max_parallel=self.submission.max_parallel,
            cancel_requested=self.cancelled,
        )
        places = Places(self.hosts, {one.name for one in self.marks})
        waiting = [one for one in self.cells.values() if not one.running]
        queue = queue_of(
            RUN,
            self.submission,
            waiting,
            places,
            placements=self.placements,
            under_way=len(self.cells) - len(waiting),
        )
        expected = {(RUN, name): one.expected_s for name, one in self.placements.items() if one.expected_s}
        farm = Situation(
            now=NOW,
            hosts=self.hosts,
            marks=self.marks,
            queues=(*self.others, queue),
            running=self.running,
            limits=self.limits,
            expected_s=expected,
            nobody=self.nobody,
        )
        queued = CellRecord(placement=self.placements[cell], state=State.QUEUED)
        return explain(RUN, self.submission, record or queued, run, farm)

    def started(self, *cells: str, on: str = "a", left_s: float | None = None) -> None:
        for cell in cells:
            self.cells[cell] = CellState(cell, State.RUNNING, (AttemptState(1, State.RUNNING, NOW, host=on),))
            self.running += (guest(self.submission.owner, on, left_s),)

    def spoilt(self, cell: str, on: str, *, ago_s: float) -> None:
        seen = NOW - timedelta(seconds=ago_s)
        self.cells[cell] = CellState(cell, State.RUNNING, (AttemptState(1, State.FINISHED, seen, INFRA, host=on),))


def hosts(found: Explanation) -> dict[str, tuple[bool, str]]:
    return {line.name: (line.may, line.why) for line in found.hosts}


def test_a_cell_that_nothing_keeps_starts_now() -> None:
    found = Farm().told("w")
    assert found.headline == "It starts now: nothing is in its way."
    assert (found.reasons, found.place, found.starts_in_s, found.expected) == ((), 1, 0.0, NOW)


def test_room_and_the_cells_before_it() -> None:
    farm = Farm()
    farm.started("w", left_s=5)
    farm.running += (guest("bob", left_s=7),)
    found = farm.told("z")
    assert found.headline == "It waits: there is no room now on a (capacity)."
    assert (
        found.reasons[1] == "2 cells of demo-1 come before it: they stand before it in the order of the run,"
        " in which the longest come first"
    )
    assert hosts(found)["a"] == (True, "has no room: 2 of 2 vCPUs and 1024 of 8192 MiB are taken")
    assert found.place == 3
    # x begins after 5 s and takes 20, y after 7 s and takes 30: the first to end is x.
    assert found.starts_in_s == 25.0


def test_max_parallel() -> None:
    farm = Farm(host("a", vcpus=9), max_parallel=2)
    farm.started("w", "x", left_s=4)
    assert farm.told("y").reasons == ("its run may have 2 cells under way at once, and has 2 (max-parallel)",)


def test_the_limit_of_a_user() -> None:
    farm = Farm(host("a", vcpus=9))
    farm.limits = Limits(each=1)
    farm.started("w", left_s=4)
    assert farm.told("x").reasons == ("ann may have 1 guest at once, and has 1 (user limit)",)
    assert farm.told("x").starts_in_s == 4.0


def test_a_higher_priority_and_another_user() -> None:
    other = Farm(owner="bob", priority=90)
    urgent = queue_of(
        "hot-1",
        other.submission,
        list(other.cells.values()),
        Places((host("a"),)),
        placements=other.placements,
        under_way=0,
    )
    farm = Farm()
    farm.others = (urgent, replace(urgent, run="fair-1", owner="cid", priority=50))
    found = farm.told("w")
    assert found.reasons == (
        "4 cells of hot-1 come before it: their priority is higher than its own, 50",
        "1 cell of fair-1 comes before it: users take turns, and who has less under way comes first",
    )
    assert found.place == 6


def test_a_retry_waits_for_its_time_and_goes_elsewhere() -> None:
    farm = Farm(host("a"), host("b"))
    farm.spoilt("w", "a", ago_s=0.5)
    found = farm.told("w")
    assert found.headline.startswith(
        "It waits for attempt 2: infrastructure spoilt attempt 1, and it is tried again in 1.5 s"
    )
    assert hosts(found)["a"] == (False, "has failed it before; it goes elsewhere first")
    assert hosts(found)["b"][0]


def test_it_goes_back_to_the_host_that_failed_where_there_is_no_other() -> None:
    farm = Farm()
    farm.spoilt("w", "a", ago_s=60)
    assert hosts(farm.told("w"))["a"][0]


def test_every_host_that_takes_nothing_says_why() -> None:
    farm = Farm(host("a"), host("b"), host("c"), host("d", arch="s390x"))
    farm.marks = (
        mark("a", Mark.DRAINED, "new disks"),
        mark("b", Mark.FAILED, "3 attempts in a row failed there", timedelta(seconds=40)),
        mark("c", Mark.FULL, "no space left", timedelta(seconds=-1)),
    )
    found = farm.told("w")
    assert hosts(found) == {
        "a": (False, "is drained: new disks"),
        "b": (False, "was taken out: 3 attempts in a row failed there; it is tested in 40 s"),
        "c": (False, "is full: no space left; it is tested now"),
        "d": (False, "cannot run amd64 (only s390x)"),
        "h": (False, "was there when the run was planned, and is gone"),
    }
    assert found.headline.startswith("It waits: no host takes it now: a is drained: new disks; b was taken out")
    assert (found.place, found.starts_in_s) == (None, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nobody": "there is no `farm serve`"}, "there is no `farm serve`"),
        ({"hosts": ()}, "no host takes it now: h was there when the run was planned, and is gone"),
        ({"cancelled": True}, "it was cancelled, and is about to be concluded"),
    ],
)
def test_what_keeps_everything_from_starting(change: dict[str, object], reason: str) -> None:
    farm = Farm()
    for name, value in change.items():
        setattr(farm, name, value)
    assert farm.told("w").reasons[0] == reason


def test_without_any_recorded_duration_no_start_is_promised() -> None:
    farm = Farm()
    plan = farm.submission.plan
    unknown = tuple(one.model_copy(update={"expected_s": None}) for one in plan.placements)
    farm.submission = farm.submission.model_copy(update={"plan": plan.model_copy(update={"placements": unknown})})
    farm.started("w", "x")
    assert farm.told("y").starts_in_s is None


# --- what has been tried ----------------------------------------------------------------------------


def attempt(number: int, outcome: Outcome | None, **more: object) -> AttemptRecord:
    state = State.FINISHED if outcome else State.RUNNING
    key = AttemptKey(run=RUN, cell="w", number=number)
    began = NOW - timedelta(seconds=90)
    return AttemptRecord(key=key, state=state, created=began, seen=NOW, outcome=outcome, host=f"h{number}", **more)


def tried(outcome: Outcome | None, *outcomes: Outcome | None, **retries: int) -> Explanation:
    farm = Farm(retries=retries)
    attempts = tuple(attempt(number, one) for number, one in enumerate(outcomes, 1))
    state = State.FINISHED if outcome else State.RUNNING
    record = CellRecord(placement=farm.placements["w"], state=state, outcome=outcome, attempts=attempts)
    return farm.told("w", record)


def test_a_verdict_names_its_rule_what_that_looks_at_and_the_lines() -> None:
    crash = classify(after(failing(Phase.TEST, crash="kernel-panic", lines=("Kernel panic",), error="LostError")))
    found = tried(crash, crash)
    assert found.headline.startswith("It is failed, blame: guest: test: the guest crashed under the script")
    assert " ".join(found.reasons) == (
        "the rule crash-in-script decided (docs/verdicts.md): in prepare or build or test;"
        " it ended as timeout or lost; the console shows: crash"
    )
    assert found.outcome is not None
    assert found.outcome.lines == ("Kernel panic",)


def test_each_attempt_says_why_there_was_another_or_none() -> None:
    away = verdict.interrupted("the farm was stopped")
    found = tried(INFRA, away, FAILED, INFRA, INFRA, infra=1, test=1)
    assert [(one.host, one.next) for one in found.attempts] == [
        ("h1", "tried again: it ended with the farm, which counts as no try"),
        ("h2", "tried again: it failed, and retries: test is 1"),
        ("h3", "tried again: infrastructure was at fault, and retries: infra is 1"),
        ("h4", "not tried again: infrastructure was at fault, and retries: infra is 1"),
    ]


@pytest.mark.parametrize(
    ("last", "cell", "said"),
    [
        (INFRA, INFRA, "not tried again: it was told to stop, or its run was ended, before that"),
        (FAILED, FAILED, "not tried again: it was told to stop, or its run was ended, before that"),
        (INFRA, verdict.cancelled("the run was cancelled"), "not tried again: cancelled: the run was cancelled"),
    ],
)
def test_a_retry_that_was_left_and_not_made_says_so(last: Outcome, cell: Outcome, said: str) -> None:
    assert tried(cell, last, infra=1, test=1).attempts[0].next == said


def test_a_flaky_cell_says_so() -> None:
    found = tried(verdict.flaky((FAILED,), 2), FAILED, PASSED, test=1)
    assert found.headline.startswith("It is flaky: flaky: attempt 2 passed, after a failure: 2 of 40 tests failed")
    assert found.attempts[1].next == "final: what it came to is not tried again"


def test_a_cell_under_way_says_where_and_in_which_phase() -> None:
    farm = Farm()
    phases = (PhaseRecord(phase=Phase.BOOT, started=NOW),)
    record = CellRecord(
        placement=farm.placements["w"], state=State.RUNNING, attempts=(attempt(1, None, phases=phases),)
    )
    assert farm.told("w", record).headline == "It is under way: attempt 1 on h1 began 1 min 30 s ago, in boot."


def test_what_was_left_out_says_by_which_line() -> None:
    found = excluded(RUN, "a/b", "excluded at demo.yaml:14")
    assert (found.state, found.reasons) == (None, ("excluded at demo.yaml:14",))


def test_a_cell_that_fits_nowhere_says_so() -> None:
    found = tried(verdict.unplaceable("no host runs s390x"))
    assert found.headline == "It is error, blame: config: no host runs s390x"
