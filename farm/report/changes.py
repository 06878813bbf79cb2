"""The classes of a comparison, the table that gives them, and the types that carry it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from farm.model import Blame, State
from farm.report.differences import CommonDifference, Difference, ImageChange
from farm.report.evidence import Standing
from farm.report.parts import Line, Name, Part, SourcePart, Time, Value


class Change(StrEnum):
    """What became of a cell or a test from the base to the head."""

    REGRESSION = "regression"
    """It passed, and fails."""
    NEW_FAILURE = "new_failure"
    """It fails; before it was not there, was skipped, or gave no data."""
    STILL_FAILING = "still_failing"
    FIXED = "fixed"
    """It failed, and passes."""
    NEW_PASS = "new_pass"  # noqa: S105 - a word, not a password
    """It passes; before it was not there, was skipped, or gave no data."""
    APPEARED = "appeared"
    """It is there now, but is skipped."""
    DISAPPEARED = "disappeared"
    """It is not there any more, or is skipped now."""
    STILL_PASSING = "still_passing"
    STILL_SKIPPED = "still_skipped"
    NO_DATA = "no_data"
    """The head does not say: its cell did not run, or not to an end that says anything."""


_P, _F, _S, _N, _A = Standing.PASSED, Standing.FAILED, Standing.SKIPPED, Standing.NO_DATA, Standing.ABSENT
TABLE: Final[Mapping[tuple[Standing, Standing], Change]] = {
    (_P, _P): Change.STILL_PASSING,
    (_P, _F): Change.REGRESSION,
    (_P, _S): Change.DISAPPEARED,
    (_P, _N): Change.NO_DATA,
    (_P, _A): Change.DISAPPEARED,
    (_F, _P): Change.FIXED,
    (_F, _F): Change.STILL_FAILING,
    (_F, _S): Change.DISAPPEARED,
    (_F, _N): Change.NO_DATA,
    (_F, _A): Change.DISAPPEARED,
    (_S, _P): Change.NEW_PASS,
    (_S, _F): Change.NEW_FAILURE,
    (_S, _S): Change.STILL_SKIPPED,
    (_S, _N): Change.NO_DATA,
    (_S, _A): Change.DISAPPEARED,
    (_N, _P): Change.NEW_PASS,
    (_N, _F): Change.NEW_FAILURE,
    (_N, _S): Change.APPEARED,
    (_N, _N): Change.NO_DATA,
    (_N, _A): Change.DISAPPEARED,
    (_A, _P): Change.NEW_PASS,
    (_A, _F): Change.NEW_FAILURE,
    (_A, _S): Change.APPEARED,
    (_A, _N): Change.NO_DATA,
}
"""What it was in the base, what it is in the head -> what became of it. A failure is never hidden by a base without
data: it cannot be called a regression, so it is a new failure."""

WORSE: Final = (Change.REGRESSION, Change.NEW_FAILURE)


class ChangeCounts(Part):
    """How many of each class."""

    all: int
    regression: int
    new_failure: int
    still_failing: int
    fixed: int
    new_pass: int
    appeared: int
    disappeared: int
    still_passing: int
    still_skipped: int
    no_data: int


class RunSide(Part):
    """One of the two runs."""

    id: Name
    project: Line
    version: Line
    """What was tested, as people call it; empty where nobody said."""
    created: Time
    state: State
    headline: str
    source: SourcePart

    @property
    def tested(self) -> str:
        """`2.1 (git https://…)`, or the source alone."""
        source = f"{self.source.kind} {self.source.description}"
        return f"{self.version} ({source})" if self.version else source


class CellChange(Part):
    """A cell, and what became of it."""

    id: Name
    values: dict[Name, Value]
    change: Change
    before: Standing
    after: Standing
    why_before: Line
    """What its outcome said; empty where there was none."""
    why_after: Line
    blame: Blame | None
    """In the head."""
    may_fail: bool
    """By the head's matrix; its failures do not count in `worse`."""
    tests: ChangeCounts
    differences: tuple[Difference, ...]
    """What else is not the same."""


class TestChange(Part):
    """A test in a cell, and what became of it."""

    __test__ = False

    cell: Name
    suite: Line
    classname: Line
    name: Line
    label: Line
    change: Change
    before: Standing
    after: Standing
    message: Line
    """Of the failure in the head; where it does not fail there, of the one in the base."""
    may_fail: bool


class Comparison(Part):
    """What became of everything from the base to the head."""

    base: RunSide
    head: RunSide
    same_source: bool
    headline: str
    """One sentence for a person."""
    worse: bool
    """Whether there is a regression or a new failure, of a cell or a test, in a cell that may not fail."""
    cells: ChangeCounts
    tests: ChangeCounts
    differences: tuple[CommonDifference, ...]
    """What else is not the same, and in how many cells."""
    images: tuple[ImageChange, ...]
    cell_changes: tuple[CellChange, ...]
    """Every cell of either run: in the order of the head, then those that only the base has."""
    test_changes: tuple[TestChange, ...]
    """Regressions, new failures, what still fails and what is fixed; of cells with data in both runs also new passes
    and tests that appeared or disappeared. All others are only counted."""
