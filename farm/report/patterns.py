"""Where tests fail and where they pass: what the cells have in common in which they fail. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from farm.report import evidence
from farm.report.evidence import Key, Standing, TestName
from farm.report.messages import normal
from farm.report.parts import CellPart, Document, Line, Name, Part
from farm.report.separate import Pattern, Space, space

_FEWEST_CELLS = 4
"""With less than that almost any axis separates almost anything."""
_MOST_FINDINGS = 500
_MOST_GROUPS = 100
_MOST_NAMES = 50


class Kind(StrEnum):
    """How well a pattern explains where something fails."""

    EXACT = "exact"
    """It fails wherever the pattern holds, and nowhere else."""
    PARTIAL = "partial"
    """The pattern tells much of it, not all."""
    EVERYWHERE = "everywhere"
    """It passes nowhere."""
    NONE = "none"
    """No combination of axis values comes near."""
    TOO_FEW = "too_few"
    """Too few cells gave data for any pattern to mean something."""


class Finding(Part):
    """Tests that fail in the same cells and pass in the same cells, and where that is."""

    tests: tuple[TestName, ...]
    """At most 50; empty where it is of the cells as such."""
    count: int
    """How many tests."""
    kind: Kind
    sentence: Line
    patterns: tuple[Pattern, ...]
    """The best first. Of an exact one, others that are as small and as exact: the run cannot tell which it is."""
    fails: int
    """Cells."""
    passes: int
    unknown: int
    """Cells without data of it: they did not run, or skipped it, or do not have it."""
    cells: tuple[Name, ...]
    """Some of those in which it fails, at most 50."""
    emulated_only: bool
    """Every guest in which it failed was emulated: it may be the emulator."""
    single_cell: bool
    """It failed in one cell only."""
    single_attempt: bool
    """It was seen failing once."""
    flaky_cells: int
    """Cells in which it passed only after it had failed."""


class MessageGroup(Part):
    """Failures that say the same, but for numbers, addresses, paths and times."""

    message: Line
    """Normalised."""
    example: Line
    """One of them as it was."""
    failures: int
    count: int
    """How many tests; 0 where cells failed by themselves."""
    tests: tuple[TestName, ...]
    """At most 50."""
    fails: int
    """Cells."""
    cells: tuple[Name, ...]
    """At most 50."""
    sentence: Line
    """Where, or empty where no pattern is exact."""
    patterns: tuple[Pattern, ...]


class Patterns(Part):
    """All that fails in a run, by where it fails."""

    run: Name
    cells: int
    with_data: int
    axes: tuple[Name, ...]
    """Those that vary."""
    of_cells: Finding | None
    """The cells that failed, as such; null where none did."""
    findings: tuple[Finding, ...]
    """Those of most tests first."""
    left_out: int
    """Findings beyond 500."""
    groups: tuple[MessageGroup, ...]
    """Those of most failures first, at most 100."""


def patterns(report: Document) -> Patterns:
    """What can be said of where the tests and the cells of a run fail."""
    seen = _Seen.of(report.cells)
    places = seen.places()
    return Patterns(
        run=report.run.id,
        cells=len(report.cells),
        with_data=(seen.failed | seen.passed).bit_count(),
        axes=tuple(seen.space.axes),
        of_cells=seen.finding((), seen.failed, seen.passed) if seen.failed else None,
        findings=tuple(seen.finding(keys, *where) for where, keys in places[:_MOST_FINDINGS]),
        left_out=max(0, len(places) - _MOST_FINDINGS),
        groups=seen.groups(),
    )


@dataclass
class _Places:
    """The cells in which a test failed, passed, and flaked: a bit for each."""

    fails: int = 0
    passes: int = 0
    flaky: int = 0


@dataclass
class _Group:
    """Failures with one message."""

    example: str
    failures: int = 0
    cells: int = 0
    tests: dict[Key, None] = field(default_factory=dict)


@dataclass
class _Seen:
    """A run, read once."""

    cells: Sequence[CellPart]
    space: Space
    tests: dict[Key, _Places] = field(default_factory=dict)
    messages: dict[str, _Group] = field(default_factory=dict)
    normalised: dict[str, str] = field(default_factory=dict)
    failed: int = 0
    passed: int = 0
    separated: dict[tuple[int, int], tuple[Pattern, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Sequence[CellPart]) -> _Seen:
        seen = cls(cells, space(cells))
        for number, cell in enumerate(cells):
            seen._take(cell, 1 << number)
        return seen

    def _take(self, cell: CellPart, bit: int) -> None:
        stands = evidence.standing(cell)
        self.failed |= bit if stands is Standing.FAILED else 0
        self.passed |= bit if stands is Standing.PASSED else 0
        for key, test in evidence.results(cell).items():
            places, stands_test = self.tests.setdefault(key, _Places()), evidence.status(test)
            if stands_test is Standing.PASSED:
                places.passes |= bit
            elif stands_test is Standing.FAILED:
                places.fails |= bit
                self._say(evidence.message(test), bit, key)
        for key in evidence.flaky(cell):
            self.tests[key].flaky |= bit
        if stands is Standing.FAILED and not evidence.explained(cell) and cell.outcome:
            self._say(cell.outcome.summary, bit)

    def _say(self, message: str, bit: int, key: Key | None = None) -> None:
        if not message:
            return
        if message not in self.normalised:
            self.normalised[message] = normal(message)
        group = self.messages.setdefault(self.normalised[message], _Group(message))
        group.failures += 1
        group.cells |= bit
        if key:
            group.tests[key] = None

    def places(self) -> list[tuple[tuple[int, int], list[Key]]]:
        """The tests that fail somewhere, by where they fail and pass; those of most tests first."""
        by_places: dict[tuple[int, int], list[Key]] = {}
        for key, places in self.tests.items():
            if places.fails:
                by_places.setdefault((places.fails, places.passes), []).append(key)
        return sorted(by_places.items(), key=lambda entry: (-len(entry[1]), -entry[0][0].bit_count(), entry[1][0]))

    def finding(self, keys: Sequence[Key], fails: int, passes: int) -> Finding:
        """What can be said of tests that fail and pass in these cells; without tests, of the cells as such."""
        cells, kind, found = self._chosen(fails), self._kind(fails, passes), self._patterns(fails, passes)
        flaky = 0
        for key in keys:
            flaky |= self.tests[key].flaky
        return Finding(
            tests=tuple(evidence.named(key) for key in keys[:_MOST_NAMES]),
            count=len(keys),
            kind=kind,
            sentence=_sentence(kind, found, fails.bit_count(), passes.bit_count()),
            patterns=found if kind in _WITH_PATTERN else (),
            fails=fails.bit_count(),
            passes=passes.bit_count(),
            unknown=len(self.cells) - (fails | passes).bit_count(),
            cells=tuple(cell.id for cell in cells[:_MOST_NAMES]),
            emulated_only=all(cell.emulated for cell in cells),
            single_cell=len(cells) == 1,
            single_attempt=len(cells) == 1 and _failing_attempts(cells[0], keys) == 1,
            flaky_cells=flaky.bit_count(),
        )

    def groups(self) -> tuple[MessageGroup, ...]:
        """Messages of more than one failure."""
        several = [(message, group) for message, group in self.messages.items() if group.failures > 1]
        ranked = sorted(several, key=lambda entry: (-entry[1].failures, entry[0]))
        return tuple(self._group(message, group) for message, group in ranked[:_MOST_GROUPS])

    def _group(self, message: str, group: _Group) -> MessageGroup:
        others = (self.failed | self.passed) & ~group.cells
        found = self._patterns(group.cells, others)
        exact = self._kind(group.cells, others) is Kind.EXACT
        return MessageGroup(
            message=message,
            example=group.example,
            failures=group.failures,
            count=len(group.tests),
            tests=tuple(evidence.named(key) for key in islice(group.tests, _MOST_NAMES)),
            fails=group.cells.bit_count(),
            cells=tuple(cell.id for cell in self._chosen(group.cells)[:_MOST_NAMES]),
            sentence=_joined(found) if exact else "",
            patterns=found if exact else (),
        )

    def _patterns(self, fails: int, passes: int) -> tuple[Pattern, ...]:
        """Worked out once for all tests of the same places."""
        if (fails, passes) not in self.separated:
            self.separated[fails, passes] = self.space.separate(fails, passes)
        return self.separated[fails, passes]

    def _kind(self, fails: int, passes: int) -> Kind:
        if (fails | passes).bit_count() < _FEWEST_CELLS:
            return Kind.TOO_FEW
        if not passes:
            return Kind.EVERYWHERE
        found = self._patterns(fails, passes)
        if not found:
            return Kind.NONE
        return Kind.EXACT if found[0].exact else Kind.PARTIAL

    def _chosen(self, bits: int) -> list[CellPart]:
        return [cell for number, cell in enumerate(self.cells) if bits >> number & 1]


_WITH_PATTERN = frozenset({Kind.EXACT, Kind.PARTIAL})


def _sentence(kind: Kind, found: Sequence[Pattern], fails: int, passes: int) -> str:
    """What is known, in one sentence."""
    known = evidence.plural(fails + passes, "cell")
    match kind:
        case Kind.TOO_FEW:
            return f"fails in {fails} of {known}: too few to find a pattern"
        case Kind.EVERYWHERE:
            return f"fails in all {known} that gave data of it"
        case Kind.NONE:
            return f"fails in {fails} of {known}; no combination of axis values tells which"
        case _:
            return _joined(found)


def _joined(found: Sequence[Pattern]) -> str:
    """The best pattern; where it is exact, the ones that cannot be told from it."""
    first, *others = found
    if not first.exact or not others:
        return first.sentence
    return f"{first.sentence}; cannot be told from {' or from '.join(one.where for one in others)}"


def _failing_attempts(cell: CellPart, keys: Sequence[Key]) -> int:
    """In how many attempts the tests failed, at least one of them each time; without tests, the cell."""
    if not keys:
        outcomes = (attempt.outcome for attempt in cell.attempts)
        return sum(1 for outcome in outcomes if outcome and outcome.blame in evidence.OF_THE_PROGRAM)
    names = set(keys)
    return sum(1 for attempt in cell.attempts if names & evidence.failing_of(attempt))
