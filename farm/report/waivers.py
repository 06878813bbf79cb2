"""Which failures of a run are waived, and which waivers are of no use any more. Pure.

A waiver hides nothing: what it covers is still a failure, with the reason beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate

from farm.model import Waiver
from farm.model.waiver import EVERY_TEST
from farm.report import evidence
from farm.report.evidence import Key, Standing, TestName
from farm.report.parts import CellPart, Document, Line, Name, Part, Time
from farm.select import matches


class WaivedFailure(Part):
    """A failure that at least one waiver covers, be it expired."""

    cell: Name
    test: TestName | None
    """null: the cell itself, which failed not by its tests alone."""
    message: Line
    waivers: tuple[int, ...]
    """The ids of those that are in force; where there is none, the failure is not waived."""
    expired: tuple[int, ...]
    """The ids of those whose time is over."""


class WaiverUse(Part):
    """A waiver, and what it was good for in this run."""

    id: int
    cells: Line
    tests: Line
    reason: Line
    link: Line
    expires: Time | None
    created: Time
    created_by: Line
    failing: int
    """Failures that it names."""
    passing: int
    """Tests that it names and that pass; where it names whole cells, also those."""
    expired: bool
    """Its time is over: it waives nothing."""
    unused: bool
    """Nothing that it names failed or passed here."""
    passes_again: bool
    """What it names passes wherever it ran."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What is wrong with it, in words."""
        words = (("expired", self.expired), ("never used", self.unused), ("passes again", self.passes_again))
        return tuple(word for word, so in words if so)


class CellWaivers(Part):
    """How many failures a failed cell has, and how many of them are waived."""

    failures: int
    """Its failed tests; the cell itself, where these do not explain it."""
    waived: int
    waivers: tuple[int, ...]
    """The ids of those in force that cover any of it."""

    @property
    def all_waived(self) -> bool:
        """Whether nothing is left that is not waived."""
        return self.failures == self.waived


class Waived(Part):
    """What waivers mean for a run."""

    run: Name
    failures: tuple[WaivedFailure, ...]
    uses: tuple[WaiverUse, ...]
    """Every waiver of the run's project, in the order in which they were given."""
    cells: dict[Name, CellWaivers]
    """Every cell that failed, by its id."""


@dataclass(frozen=True)
class _Cell:
    """A cell with what can be waived in it; None in `failures` is the cell itself."""

    part: CellPart
    failures: dict[Key | None, str]
    passed: frozenset[Key]


@dataclass(frozen=True)
class _Reach:
    """A waiver with the tests of the run that it names."""

    waiver: Waiver
    expired: bool
    tests: frozenset[Key]

    def covers(self, cell: CellPart) -> bool:
        return matches(cell.id, self.waiver.cells)

    def names(self, test: Key | None) -> bool:
        return self.waiver.tests == EVERY_TEST if test is None else test in self.tests


def apply(report: Document, waivers: Sequence[Waiver], *, now: datetime) -> Waived:
    """Which failures of a run are waived by which waivers. Those of other projects do not count, and are not listed."""
    cells = [_cell(cell) for cell in report.cells]
    keys = frozenset(key for cell in cells for key in (*cell.failures, *cell.passed) if key)
    own = [waiver for waiver in waivers if waiver.project == report.run.project]
    reaches = [_Reach(waiver, waiver.expired(now), _named(waiver.tests, keys)) for waiver in own]
    failures = [failure for cell in cells if cell.failures for failure in _failures(cell, reaches)]
    waived: dict[str, list[WaivedFailure]] = {}
    for failure in failures:
        waived.setdefault(failure.cell, []).append(failure)
    return Waived(
        run=report.run.id,
        failures=tuple(failures),
        uses=tuple(_use(reach, cells) for reach in reaches),
        cells={cell.part.id: _summed(cell, waived.get(cell.part.id, ())) for cell in cells if cell.failures},
    )


def _cell(part: CellPart) -> _Cell:
    found = evidence.results(part)
    failures: dict[Key | None, str] = {
        key: evidence.message(test) for key, test in found.items() if evidence.status(test) is Standing.FAILED
    }
    if evidence.standing(part) is Standing.FAILED and not evidence.explained(part):
        failures[None] = part.outcome.summary if part.outcome else ""
    passed = frozenset(key for key, test in found.items() if evidence.status(test) is Standing.PASSED)
    return _Cell(part, failures, passed)


def _named(glob: str, keys: Iterable[Key]) -> frozenset[Key]:
    """The tests that a glob names by any of their names."""
    matching = re.compile(translate(glob)).match
    return frozenset(key for key in keys if any(map(matching, _names(key))))


def _names(key: Key) -> Iterator[str]:
    yield key.name
    yield f"{key.suite}/{key.name}"
    yield f"{key.classname}/{key.name}"
    yield f"{key.suite}/{key.classname}/{key.name}"


def _failures(cell: _Cell, reaches: Sequence[_Reach]) -> Iterator[WaivedFailure]:
    """The failures of a cell that any waiver covers."""
    here = [reach for reach in reaches if reach.covers(cell.part)]
    for test, message in cell.failures.items():
        found = [reach for reach in here if reach.names(test)]
        if found:
            yield WaivedFailure(
                cell=cell.part.id,
                test=evidence.named(test) if test else None,
                message=message,
                waivers=tuple(reach.waiver.id for reach in found if not reach.expired),
                expired=tuple(reach.waiver.id for reach in found if reach.expired),
            )


def _use(reach: _Reach, cells: Sequence[_Cell]) -> WaiverUse:
    failing = passing = 0
    for cell in filter(lambda one: reach.covers(one.part), cells):
        failing += sum(map(reach.names, cell.failures))
        passing += len(reach.tests & cell.passed)
        passing += reach.names(None) and evidence.standing(cell.part) is Standing.PASSED
    return WaiverUse(
        **reach.waiver.model_dump(exclude={"project"}),
        failing=failing,
        passing=passing,
        expired=reach.expired,
        unused=not failing and not passing,
        passes_again=not failing and passing > 0,
    )


def _summed(cell: _Cell, found: Sequence[WaivedFailure]) -> CellWaivers:
    in_force = [failure for failure in found if failure.waivers]
    ids = dict.fromkeys(number for failure in in_force for number in failure.waivers)
    return CellWaivers(failures=len(cell.failures), waived=len(in_force), waivers=tuple(ids))
