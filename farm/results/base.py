"""What every reader of results gives, and the bounds that all of them keep."""

from __future__ import annotations

from dataclasses import dataclass, field

from farm.model import Model, TestResult, TestStatus
from farm.text import clean, clean_line

LARGEST_FILE_BYTES = 64 * 1024 * 1024
MOST_TESTS = 200_000
DEEPEST = 32
"""How far suites or subtests may be nested."""
LONGEST_NAME = 500
LONGEST_MESSAGE = 2_000
LONGEST_DETAIL = 32_000
MOST_PROBLEMS = 5
FLAKY = "passed only after "
"""How the message of a test begins that failed first and passed on a later try."""


class Results(Model):
    """What a results file says; `problem` is empty only where it could be read in full."""

    tests: tuple[TestResult, ...]
    problem: str = ""


@dataclass
class Gathered:
    """Results in the making: bounded, every text cleaned."""

    file: str
    tests: list[TestResult] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)
    _beyond: int = 0

    def add(
        self,
        *,
        suite: str,
        name: str,
        status: TestStatus,
        classname: str = "",
        duration_s: float = 0.0,
        message: str = "",
        detail: str = "",
    ) -> None:
        """Take one test; beyond the bound it is only counted."""
        if len(self.tests) >= MOST_TESTS:
            self._beyond += 1
            return
        self.tests.append(
            TestResult(
                suite=clean_line(suite, limit=LONGEST_NAME),
                name=clean_line(name, limit=LONGEST_NAME) or "(no name)",
                classname=clean_line(classname, limit=LONGEST_NAME),
                status=status,
                duration_s=duration_s,
                message=clean_line(message, limit=LONGEST_MESSAGE),
                detail=clean(detail, limit=LONGEST_DETAIL).strip("\n"),
            )
        )

    def note(self, problem: str) -> None:
        """Something could not be read, for this reason."""
        self._problems.append(problem)

    def results(self) -> Results:
        """All that was gathered."""
        problems = self._problems[:MOST_PROBLEMS]
        if len(self._problems) > MOST_PROBLEMS:
            problems.append(f"{len(self._problems) - MOST_PROBLEMS} more problems")
        if self._beyond:
            problems.append(f"{self._beyond} tests beyond the first {MOST_TESTS} are left out")
        if not problems:
            return Results(tests=tuple(self.tests))
        causes = clean_line("; ".join(problems), limit=LONGEST_MESSAGE)
        return Results(tests=tuple(self.tests), problem=f"cannot read {self.file} in full: {causes}")
