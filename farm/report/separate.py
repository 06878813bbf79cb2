"""The smallest combination of axis values that separates one set of cells from another. Pure.

A set of cells is an integer, one bit for each cell: so a thousand cells are intersected and counted in one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from farm.model import Scalar, scalar_text
from farm.report.evidence import plural
from farm.report.parts import CellPart, Line, Name, Part, Value

_MOST_CONDITIONS = 3
_MOST_VALUES = 4
"""A condition that lists more than that tells nobody anything."""
_MOST_PAIRED = 40
"""Values beyond that are not combined with others; those of most failures come first."""
_LEAST_SCORE = 0.5
"""Below that half of what a pattern claims is wrong, or half is missed."""
_MOST_PATTERNS = 3


class Condition(Part):
    """`arch = s390x`, `arch = s390x or ppc64el`, `arch ≠ amd64`."""

    axis: Name
    values: tuple[Value | None, ...]
    """Any of these; null: the cell has no such axis."""
    negated: bool

    @property
    def words(self) -> str:
        """As a person writes it."""
        sign, joint = ("≠", " and ≠ ") if self.negated else ("=", " or ")
        return f"{self.axis} {sign} {joint.join('nothing' if v is None else scalar_text(v) for v in self.values)}"


class Pattern(Part):
    """A combination of axis values, and how well it separates."""

    conditions: tuple[Condition, ...]
    """All of them hold."""
    exact: bool
    """Every cell that it names fails, and no other does."""
    fails_inside: int
    inside: int
    """Cells that it names and that gave data."""
    fails_outside: int
    outside: int
    precision: float
    """Of the cells that it names, how many fail: 0 to 1."""
    recall: float
    """Of the cells that fail, how many it names: 0 to 1."""
    where: Line
    """`arch = s390x and bug = on`."""
    sentence: Line
    """`fails exactly where arch = s390x: 4 of 4; passes in the 20 others`."""


class _Literal(NamedTuple):
    """A condition, and the cells that it holds for."""

    condition: Condition
    cells: int

    @property
    def cost(self) -> tuple[int, int]:
        """How much there is to read: the number of values, then whether it says *not*."""
        return len(self.condition.values), int(self.condition.negated)


Box = tuple[_Literal, ...]
"""Conditions that all hold."""


@dataclass(frozen=True)
class Space:
    """The cells of a run by the values of their axes."""

    axes: Mapping[str, Mapping[tuple[str, Scalar | None], int]]
    """Axis -> value (with its type, since 1 and true are equal) -> the cells that have it."""
    size: int

    def separate(self, fails: int, passes: int) -> tuple[Pattern, ...]:
        """What separates the cells that fail from those that pass, the best first; empty where nothing does.

        If there is an exact pattern, only the smallest ones are given: more than one where they cannot be told apart.
        """
        if not fails or not passes:
            return ()
        found = self._exact(fails, passes) or self._partial(fails, passes)
        return tuple(_pattern(box, fails, passes) for box in found)

    def _exact(self, fails: int, passes: int) -> list[Box]:
        """Whatever separates exactly holds for all that fail, so each axis has one condition that could take part."""
        usable = [one for axis in self.axes if (one := self._around(axis, fails, passes))]
        for count in range(1, _MOST_CONDITIONS + 1):
            boxes = [box for box in combinations(usable, count) if not _cells(box) & passes]
            if boxes:
                least = min(map(_cost, boxes))
                return [box for box in boxes if _cost(box) == least][:_MOST_PATTERNS]
        return []

    def _around(self, axis: str, fails: int, passes: int) -> _Literal | None:
        """The narrowest condition on an axis that all that fail keep to; None where it says nothing or too much."""
        of_failing = [value for value, cells in self.axes[axis].items() if cells & fails]
        of_passing_only = [value for value, cells in self.axes[axis].items() if cells & passes and not cells & fails]
        if not of_passing_only:
            return None
        kinds = ((of_failing, False), (of_passing_only, True))
        best = min(
            (self._literal(axis, values, negated=negated) for values, negated in kinds), key=lambda one: one.cost
        )
        return best if len(best.condition.values) <= _MOST_VALUES else None

    def _partial(self, fails: int, passes: int) -> list[Box]:
        """What comes near: single values, single values left out, pairs of values."""
        singles = self._singles(fails)
        others = [self._literal(axis, [value], negated=True) for axis, values in self.axes.items() for value in values]
        candidates = [*((one,) for one in singles), *((one,) for one in others), *_pairs(singles[:_MOST_PAIRED])]
        scored = [(_score(_cells(box), fails, passes), box) for box in candidates]
        base_rate = fails.bit_count() / (fails | passes).bit_count()
        near = [
            entry for entry in scored if entry[0] >= _LEAST_SCORE and _precision(entry[1], fails, passes) > base_rate
        ]
        return _different(box for _, box in sorted(near, key=lambda entry: (-round(entry[0], 9), _cost(entry[1]))))

    def _singles(self, fails: int) -> list[_Literal]:
        """Every value that cells have which fail, those of most such cells first."""
        found = [
            self._literal(axis, [value], negated=False)
            for axis, values in self.axes.items()
            for value, cells in values.items()
            if cells & fails
        ]
        return sorted(found, key=lambda one: -(one.cells & fails).bit_count())

    def _literal(self, axis: str, values: Sequence[tuple[str, Scalar | None]], *, negated: bool) -> _Literal:
        cells = 0
        for value in values:
            cells |= self.axes[axis][value]
        condition = Condition.model_construct(axis=axis, values=tuple(value for _, value in values), negated=negated)
        return _Literal(condition, ((1 << self.size) - 1) & ~cells if negated else cells)


def space(cells: Sequence[CellPart]) -> Space:
    """The cells in their order: the first has bit 0."""
    axes: dict[str, dict[tuple[str, Scalar | None], int]] = {axis: {} for cell in cells for axis in cell.values}
    for number, cell in enumerate(cells):
        for axis, values in axes.items():
            value = cell.values.get(axis)
            key = (type(value).__name__, value)
            values[key] = values.get(key, 0) | 1 << number
    return Space({axis: values for axis, values in axes.items() if len(values) > 1}, len(cells))


def _pairs(singles: Sequence[_Literal]) -> Iterator[Box]:
    return (pair for pair in combinations(singles, 2) if pair[0].condition.axis != pair[1].condition.axis)


def _different(boxes: Iterable[Box]) -> list[Box]:
    """The first few; one that only widens or narrows a better one is left out."""
    chosen: list[Box] = []
    for box in boxes:
        if len(chosen) == _MOST_PATTERNS:
            break
        literals = set(map(_words, box))
        if not any(literals <= known or known <= literals for known in (set(map(_words, one)) for one in chosen)):
            chosen.append(box)
    return chosen


def _words(literal: _Literal) -> str:
    return literal.condition.words


def _cells(box: Box) -> int:
    cells = box[0].cells
    for literal in box[1:]:
        cells &= literal.cells
    return cells


def _cost(box: Box) -> tuple[int, int, int]:
    return len(box), sum(one.cost[0] for one in box), sum(one.cost[1] for one in box)


def _score(cells: int, fails: int, passes: int) -> float:
    """The harmonic mean of precision and recall."""
    hits = (cells & fails).bit_count()
    return 2 * hits / ((cells & (fails | passes)).bit_count() + fails.bit_count())


def _precision(box: Box, fails: int, passes: int) -> float:
    cells = _cells(box)
    inside = (cells & (fails | passes)).bit_count()
    return (cells & fails).bit_count() / inside if inside else 0.0


def _pattern(box: Box, fails: int, passes: int) -> Pattern:
    cells, known = _cells(box), fails | passes
    inside, hits = (cells & known).bit_count(), (cells & fails).bit_count()
    outside, misses = (known & ~cells).bit_count(), (fails & ~cells).bit_count()
    where = " and ".join(map(_words, box))
    return Pattern(
        conditions=tuple(one.condition for one in box),
        exact=hits == inside and not misses,
        fails_inside=hits,
        inside=inside,
        fails_outside=misses,
        outside=outside,
        precision=round(hits / inside, 4),
        recall=round(hits / (hits + misses), 4),
        where=where,
        sentence=_sentence(where, hits, inside, misses, outside),
    )


def _sentence(where: str, hits: int, inside: int, misses: int, outside: int) -> str:
    """What a pattern says, and no more than that."""
    passing = "the other" if outside == 1 else f"the {outside} others"
    failing = f"{misses} of {plural(outside, 'other')}"
    if hits == inside and not misses:
        return f"fails exactly where {where}: {hits} of {inside}; passes in {passing}"
    if hits == inside:
        return f"fails wherever {where}: {hits} of {inside}; and in {failing}"
    if not misses:
        return f"fails only where {where}: in {hits} of {inside}; passes in {passing}"
    return f"fails in {hits} of {inside} where {where}, and in {failing}"
