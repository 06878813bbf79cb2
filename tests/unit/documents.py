"""Small reports to compare: a cell is its id, what it came to, and its tests by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from farm.model import (
    Blame,
    Cell,
    CellRecord,
    Ending,
    GuestFacts,
    Outcome,
    Phase,
    Placement,
    State,
    TestResult,
    TestStatus,
    Verdict,
)
from farm.report.document import document
from farm.report.parts import Document
from tests.unit.records import MACHINES, START, attempt, demo_run, facts, phases

OUTCOMES = {
    "passed": Outcome(verdict=Verdict.PASSED, rule="passed", summary="all passed"),
    "failed": Outcome(verdict=Verdict.FAILED, blame=Blame.TEST, rule="tests-failed", summary="tests failed"),
    "build": Outcome(verdict=Verdict.FAILED, blame=Blame.TEST, rule="script-failed", summary="build: returned 2"),
    "timeout": Outcome(verdict=Verdict.FAILED, blame=Blame.TEST, rule="script-timeout", summary="test: too long"),
    "panic": Outcome(verdict=Verdict.ERROR, blame=Blame.GUEST, rule="crash", summary="boot: kernel panic"),
    "broken": Outcome(verdict=Verdict.ERROR, blame=Blame.TEST, rule="results-broken", summary="a file is broken"),
    "infra": Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, rule="start", summary="connect: no answer"),
    "config": Outcome(verdict=Verdict.ERROR, blame=Blame.CONFIG, rule="not-to-be-had", summary="no such package"),
    "farm": Outcome(verdict=Verdict.ERROR, blame=Blame.FARM, rule="unforeseen", summary="a defect of the farm"),
    "skipped": Outcome(verdict=Verdict.SKIPPED, rule="all-skipped", summary="every test was skipped"),
    "left out": Outcome(verdict=Verdict.SKIPPED, rule="skipped", summary="skipped: another cell failed"),
    "cancelled": Outcome(verdict=Verdict.CANCELLED, rule="cancelled", summary="cancelled: asked to"),
    "unfinished": None,
}
"""Every way in which a cell may end, and one in which it has not."""
_BAD_PHASE = {
    "failed": (Phase.TEST, Ending.FAILED),
    "build": (Phase.BUILD, Ending.FAILED),
    "timeout": (Phase.TEST, Ending.TIMEOUT),
    "panic": (Phase.BOOT, Ending.LOST),
    "infra": (Phase.CONNECT, Ending.TIMEOUT),
}
NEVER_RAN = ("config", "left out", "unfinished")

Tests = Mapping[str, str]
"""The name of a test, or `suite/name` -> its status, and after a colon what it says."""


def tests_of(tests: Tests) -> tuple[TestResult, ...]:
    """Results from a table of names."""
    made = []
    for name, said in tests.items():
        suite, _, short = name.rpartition("/")
        word, _, message = said.partition(": ")
        made.append(TestResult(suite=suite or "suite", name=short, status=TestStatus(word), message=message))
    return tuple(made)


def values_of(cell_id: str) -> dict[str, str]:
    """`debian-13/s390x/bug=on` -> the value of each axis."""
    image, arch, *own = cell_id.split("/")
    return {"image": image, "arch": arch} | dict(part.split("=", 1) for part in own)


def cell(
    cell_id: str,
    outcome: str,
    tests: Tests | Iterable[TestResult] = (),
    *,
    may_fail: bool = False,
    guest: GuestFacts | None = None,
    before: Iterable[Tests] = (),
    **changes: Any,
) -> CellRecord:
    """A cell that came to one of OUTCOMES; `before` are the tests of earlier attempts of it."""
    placed = Cell(id=cell_id, values=values_of(cell_id), may_fail=may_fail)
    found = OUTCOMES[outcome]
    results = tests_of(tests) if isinstance(tests, Mapping) else tuple(tests)
    arch = placed.arch if placed.arch in MACHINES else "amd64"
    tried = placed.model_copy(update={"values": placed.values | {"arch": arch}})
    earlier = [attempt(tried, number, OUTCOMES["infra"], tests=tests_of(one)) for number, one in enumerate(before, 1)]
    bad, ending = _BAD_PHASE.get(outcome, (None, Ending.FAILED))
    last = {
        "tests": results,
        "phases": phases(start=START, bad=bad, ending=ending),
        "facts": guest or facts(arch),
    } | changes
    attempts = () if outcome in NEVER_RAN else (*earlier, attempt(tried, len(earlier) + 1, found, **last))
    state = State.FINISHED if found else State.QUEUED
    return CellRecord(placement=Placement(cell=placed), state=state, outcome=found, attempts=attempts)


def report(*cells: CellRecord, days: float = 0, **changes: Any) -> Document:
    """The report of a run of these cells, `days` after START."""
    moved = {"created": START + timedelta(days=days), "finished": START + timedelta(days=days, minutes=1)}
    return document(demo_run(cells, **(moved | changes)))


_ARCHES = st.sampled_from(("amd64", "riscv64", "s390x"))
_STATUSES = st.sampled_from(("passed", "failed", "error", "skipped"))
_NAMES = st.sampled_from(("a", "b", "c", "other/a"))


@st.composite
def cells(draw: st.DrawFn, cell_id: str) -> CellRecord:
    """Any outcome with any tests, which may contradict it; some of them twice."""
    found = [one for table in draw(st.lists(st.dictionaries(_NAMES, _STATUSES), max_size=2)) for one in tests_of(table)]
    return cell(cell_id, draw(st.sampled_from(tuple(OUTCOMES))), found, may_fail=draw(st.booleans()))


@st.composite
def reports(draw: st.DrawFn) -> Document:
    """A run of up to six cells."""
    ids = draw(st.sets(st.builds("debian-13/{}/bug={}".format, _ARCHES, st.sampled_from(("on", "off"))), max_size=6))
    return report(*[draw(cells(cell_id)) for cell_id in sorted(ids)])
