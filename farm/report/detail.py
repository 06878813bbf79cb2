"""One cell in full but for its tests, which may be very many: those are counted here, and read in pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from farm.model import AttemptRecord, CellRecord, Submission, TestStatus
from farm.report.document import cell_part, count_tests
from farm.report.overview import Counts
from farm.report.parts import (
    AttemptFacts,
    AttemptPart,
    CellFacts,
    CellPart,
    Line,
    Name,
    Part,
    TestCounts,
    TestPart,
)


class AttemptDetail(AttemptFacts):
    """One try at a cell."""

    tests: TestCounts


class CellDetail(CellFacts):
    """One combination of axis values and what it came to."""

    expected_s: float | None
    problem: Line
    """Why it fits nowhere; empty where it does."""
    tests: TestCounts
    """Of the attempt that counts."""
    rerun: str
    """The command that runs this cell alone."""
    attempts: tuple[AttemptDetail, ...]
    """The oldest first; the last one counts."""


class TestLine(Part):
    """The result of a test, and where it was found."""

    __test__ = False

    id: int
    cell: Name
    number: int
    """Of the attempt."""
    result: TestPart


def cell_detail(submission: Submission, record: CellRecord, counts: Counts) -> CellDetail:
    """A cell; `record` needs to hold no tests."""
    part = cell_part(submission, record)
    attempts = tuple(
        _attempt(one, _counts(attempt, counts)) for one, attempt in zip(part.attempts, record.attempts, strict=True)
    )
    own = {
        "attempts": attempts,
        "tests": attempts[-1].tests if attempts else count_tests({}),
        "expected_s": record.placement.expected_s,
        "problem": record.placement.problem,
    }
    return CellDetail.model_validate(_fields(part) | own)


def _attempt(part: AttemptPart, counts: Mapping[TestStatus, int]) -> AttemptDetail:
    return AttemptDetail.model_validate(_fields(part) | {"tests": count_tests(counts)})


def _counts(attempt: AttemptRecord, counts: Counts) -> Mapping[TestStatus, int]:
    return counts.get((attempt.key.cell, attempt.key.number), {})


def _fields(part: CellPart | AttemptPart) -> dict[str, object]:
    return {name: getattr(part, name) for name in type(part).model_fields}
