"""The cells of a run as a table with any axis on any side. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from farm.model import STANDARD_AXES, scalar_text
from farm.report.overview import CellBrief

NONE = "–"
_HYPERVISOR = "hypervisor"
_FEW_COLUMNS = 8
_MOST_COLUMNS = 16
_MACHINE_LAST = ("arch", "hypervisor", "image")
"""In this order the axes that every matrix may have become columns, after the user's own."""


@dataclass(frozen=True)
class Axis:
    """An axis with more than one value, and where it stands."""

    name: str
    values: int
    column: bool


@dataclass(frozen=True)
class Head:
    """A heading that spans some rows or columns."""

    text: str
    span: int


@dataclass(frozen=True)
class Slot:
    """Where a row and a column meet."""

    id: str
    cells: tuple[CellBrief, ...]


@dataclass(frozen=True)
class Row:
    """A row: the headings that begin in it, and its slots."""

    heads: tuple[Head, ...]
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class HeatMap:
    """The table."""

    axes: tuple[Axis, ...]
    """Of rows first; each side in the order of its headings."""
    common: tuple[str, ...]
    """What all cells share: `image debian-13`."""
    columns: tuple[tuple[Head, ...], ...]
    """The levels of the column headings, the outermost first; none where no axis makes columns."""
    rows: tuple[Row, ...]

    @property
    def row_axes(self) -> tuple[str, ...]:
        """The axes of the rows."""
        return tuple(axis.name for axis in self.axes if not axis.column)

    @property
    def column_axes(self) -> tuple[str, ...]:
        """The axes of the columns."""
        return tuple(axis.name for axis in self.axes if axis.column)

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.rows[0].slots) if self.rows else 0

    def slots(self) -> Iterator[Slot]:
        """All of them."""
        return (slot for row in self.rows for slot in row.slots)


Values = Mapping[str, Sequence[object]]
"""The values of each axis, in the order of the matrix."""


def heatmap(cells: Sequence[CellBrief], order: Values, columns: Iterable[str] | None = None) -> HeatMap:
    """The table of some cells; `columns` are the axes that make columns, where somebody has chosen them."""
    values = {cell.id: _values(cell) for cell in cells}
    known = _known(values.values(), order)
    varying = [name for name, found in known.items() if len(found) > 1]
    chosen = _default({name: len(known[name]) for name in varying}) if columns is None else columns
    column_axes = [name for name in varying if name in set(chosen)]
    row_axes = [name for name in varying if name not in column_axes]
    levels, rows = _table(cells, values, known, row_axes, column_axes)
    return HeatMap(
        axes=tuple(Axis(name, len(known[name]), name in column_axes) for name in [*row_axes, *column_axes]),
        common=tuple(f"{name} {next(iter(found))}" for name, found in known.items() if len(found) == 1),
        columns=levels,
        rows=rows,
    )


def _table(
    cells: Sequence[CellBrief],
    values: Mapping[str, Mapping[str, str]],
    known: Mapping[str, Mapping[str, int]],
    row_axes: Sequence[str],
    column_axes: Sequence[str],
) -> tuple[tuple[tuple[Head, ...], ...], tuple[Row, ...]]:
    """The levels of the column headings, and the rows."""
    places: dict[tuple[tuple[str, ...], tuple[str, ...]], list[CellBrief]] = {}
    for cell in cells:
        mine = values[cell.id]
        place = tuple(mine.get(name, NONE) for name in row_axes), tuple(mine.get(name, NONE) for name in column_axes)
        places.setdefault(place, []).append(cell)
    across = _sorted({column for _, column in places}, [known[name] for name in column_axes])
    down = _sorted({row for row, _ in places}, [known[name] for name in row_axes])
    begins = list(zip(*(_begins(down, level) for level in range(len(row_axes))), strict=True)) or [()] * len(down)
    levels = tuple(tuple(filter(None, _begins(across, level))) for level in range(len(column_axes)))
    rows = tuple(
        Row(
            heads=tuple(filter(None, begins[y])),
            slots=tuple(Slot(f"s{y}-{x}", tuple(places.get((row, column), ()))) for x, column in enumerate(across)),
        )
        for y, row in enumerate(down)
    )
    return levels, rows


def _begins(keys: Sequence[tuple[str, ...]], level: int) -> list[Head | None]:
    """For each key the heading of a level that begins there; None where the one before goes on."""
    heads: list[Head | None] = []
    for key, group in groupby(keys, key=lambda key: key[: level + 1]):
        span = len(list(group))
        heads += [Head(key[-1], span), *[None] * (span - 1)]
    return heads


def _sorted(keys: Iterable[tuple[str, ...]], places: Sequence[Mapping[str, int]]) -> list[tuple[str, ...]]:
    return sorted(keys, key=lambda key: tuple(place[value] for place, value in zip(places, key, strict=True)))


def _known(found: Iterable[Mapping[str, str]], order: Values) -> dict[str, dict[str, int]]:
    """Each axis with its values and their places: first as the matrix has them, then as they come."""
    found = list(found)
    names = dict.fromkeys([*(name for name in STANDARD_AXES), *order, *(name for one in found for name in one)])
    known: dict[str, dict[str, int]] = {}
    for name in names:
        there = dict.fromkeys(one.get(name, NONE) for one in found)
        if set(there) == {NONE}:
            continue
        said = [text for text in map(_text, order.get(name, ())) if text in there]
        known[name] = {text: place for place, text in enumerate(dict.fromkeys([*said, *there]))}
    return known


def _default(varying: Mapping[str, int]) -> list[str]:
    """The user's own axes are columns, then those of the machine, as long as the table is not wider than long."""
    own = [name for name in varying if name not in STANDARD_AXES]
    chosen: list[str] = []
    width, height = 1, math.prod(varying.values())
    for name in [*own, *(name for name in _MACHINE_LAST if name in varying)]:
        wide, high = width * varying[name], height // varying[name]
        if wide <= _MOST_COLUMNS and (wide <= high or (wide <= _FEW_COLUMNS and not chosen)):
            chosen.append(name)
            width, height = wide, high
    return chosen


def _values(cell: CellBrief) -> dict[str, str]:
    """The values of a cell; where the matrix does not say by what it runs, it is what it got."""
    said = {name: _text(value) for name, value in cell.values.items()}
    return said if _HYPERVISOR in said or not cell.hypervisor else said | {_HYPERVISOR: cell.hypervisor}


def _text(value: object) -> str:
    return scalar_text(value) if isinstance(value, (str, int, float, bool)) else str(value)
