"""What a run knows of a cell and of each test in it; compare, patterns, waivers and statement go by it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from farm.model import Blame, Ending, Phase, TestStatus, Verdict
from farm.report.parts import AttemptPart, CellPart, Line, OutcomePart, Part, TestPart
from farm.results.base import FLAKY

SEPARATOR = " › "


class Standing(StrEnum):
    """What is known of a cell or a test in one run."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NO_DATA = "no_data"
    """It did not run, or not to an end that says anything of it."""
    ABSENT = "absent"
    """The run has no such cell, or its cell no such test."""


class Key(NamedTuple):
    """Names a test within a cell."""

    suite: str
    classname: str
    name: str

    @property
    def label(self) -> str:
        """`swap › libwire.swap › load_be32`; what is empty or said twice is left out."""
        return SEPARATOR.join(dict.fromkeys(filter(None, self)))


class TestName(Part):
    """Names a test within a cell."""

    __test__ = False

    suite: Line
    classname: Line
    name: Line
    label: Line
    """All of it in one line, for a person."""


_STANDINGS = {
    TestStatus.PASSED: Standing.PASSED,
    TestStatus.FAILED: Standing.FAILED,
    TestStatus.ERROR: Standing.FAILED,
    TestStatus.SKIPPED: Standing.SKIPPED,
}
_WORST_FIRST = {
    status: rank
    for rank, status in enumerate((TestStatus.FAILED, TestStatus.ERROR, TestStatus.PASSED, TestStatus.SKIPPED))
}
OF_THE_PROGRAM = (Blame.TEST, Blame.GUEST)
"""Whose errors are findings: a crash of the guest under the program, results that were promised and are not there."""
_BAD = (TestStatus.FAILED, TestStatus.ERROR)


def standing(cell: CellPart) -> Standing:
    """What a run knows of a cell as a whole.

    An error of infra, config or farm says nothing of the program; nor does a cell that was cancelled, left out, or is
    not finished.
    """
    outcome = cell.outcome
    match outcome.verdict if outcome else None:
        case Verdict.PASSED:
            return Standing.PASSED
        case Verdict.FAILED:
            return Standing.FAILED
        case Verdict.ERROR if outcome and outcome.blame in OF_THE_PROGRAM:
            return Standing.FAILED
        case Verdict.SKIPPED if cell.tests.all:
            return Standing.SKIPPED
        case _:
            return Standing.NO_DATA


def results(cell: CellPart) -> dict[Key, TestPart]:
    """The tests of a cell by name, in their order; empty where the cell gave no data.

    Of several results with one name the worst counts: one that failed is a failure, whatever the others say.
    """
    if cell.last is None or standing(cell) is Standing.NO_DATA:
        return {}
    return _by_name(cell.last)


def status(test: TestPart) -> Standing:
    """What a test came to."""
    return _STANDINGS[test.status]


def failing(cell: CellPart) -> dict[Key, TestPart]:
    """The tests of a cell that failed."""
    return {key: test for key, test in results(cell).items() if test.status in _BAD}


def complete(cell: CellPart) -> bool:
    """Whether a test that has no result in this cell is not there at all, and was not only cut off.

    It is so where the test script came to its own end: a cell that passed, or failed by what the script said.
    """
    found = standing(cell)
    if found is not Standing.FAILED:
        return found is not Standing.NO_DATA
    return bool(cell.tests.all) and cell.verdict is Verdict.FAILED and _test_script_ended(cell)


def explained(cell: CellPart) -> bool:
    """Whether a cell that failed did so by tests that failed, and by nothing else."""
    return complete(cell) and cell.tests.failed + cell.tests.error > 0


def flaky(cell: CellPart) -> tuple[Key, ...]:
    """The tests that pass in the attempt that counts, and failed in an earlier one or on an earlier try."""
    if cell.last is None or standing(cell) is Standing.NO_DATA:
        return ()
    before = set(failures_before(cell))
    return tuple(key for key, test in _by_name(cell.last).items() if _flaked(key, test, before))


def failures_before(cell: CellPart) -> dict[Key, list[TestPart]]:
    """What failed in the attempts before the one that counts, by name, the oldest first."""
    found: dict[Key, list[TestPart]] = {}
    for attempt in cell.attempts[:-1]:
        for key, test in _by_name(attempt).items():
            if test.status in _BAD:
                found.setdefault(key, []).append(test)
    return found


def failed_attempts(cell: CellPart) -> tuple[OutcomePart, ...]:
    """What the attempts that failed of a flaky cell came to; none of any other cell."""
    if not (cell.outcome and cell.outcome.flaky):
        return ()
    outcomes = (attempt.outcome for attempt in cell.attempts)
    return tuple(one for one in outcomes if one and one.verdict is Verdict.FAILED)


def failing_of(attempt: AttemptPart) -> set[Key]:
    """The tests that failed in one attempt, whether it counts or not."""
    return {key for key, test in _by_name(attempt).items() if test.status in _BAD}


def stands_alone(cell: CellPart) -> bool:
    """Whether the tests of a cell alone would not show what it came to, so that a report has to say it beside them."""
    if failed_attempts(cell) and not flaky(cell):
        return True  # it failed by something else than a test
    enough = {
        Verdict.PASSED: cell.tests.all > 0,
        Verdict.FAILED: cell.tests.failed + cell.tests.error > 0,
    }
    return not (cell.verdict and enough.get(cell.verdict, False))


def named(key: Key) -> TestName:
    """A name as a part of a report."""
    return TestName(suite=key.suite, classname=key.classname, name=key.name, label=key.label)


def message(test: TestPart) -> str:
    """The line that says best why a test failed; empty where it said nothing."""
    return test.message or next((line.strip() for line in test.detail.splitlines() if line.strip()), "")


def plural(count: int, noun: str) -> str:
    """`1 cell`, `4 cells`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def some(words: Iterable[str], *, most: int) -> str:
    """`a, b and 3 more`."""
    every = tuple(words)
    left = len(every) - most
    return ", ".join(every) if left <= 0 else f"{', '.join(every[:most])} and {left} more"


def _by_name(attempt: AttemptPart) -> dict[Key, TestPart]:
    found: dict[Key, TestPart] = {}
    for test in attempt.tests:
        key = Key(test.suite, test.classname, test.name)
        known = found.setdefault(key, test)
        if _WORST_FIRST[test.status] < _WORST_FIRST[known.status]:
            found[key] = test
    return found


def _flaked(key: Key, test: TestPart, before: set[Key]) -> bool:
    return test.status is TestStatus.PASSED and (key in before or test.message.startswith(FLAKY))


def _test_script_ended(cell: CellPart) -> bool:
    endings = {phase.phase: phase.ending for phase in cell.last.phases} if cell.last else {}
    return endings.get(Phase.TEST) in {Ending.OK, Ending.FAILED}
