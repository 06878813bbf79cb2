"""The cells of a run as a table: which axes make rows, which make columns. Pure; used by Markdown and HTML."""

from __future__ import annotations

from dataclasses import dataclass

from farm.model import STANDARD_AXES, scalar_text
from farm.report.parts import CellPart

_MOST_COLUMNS = 8
_NOTHING = "–"
_MACHINE = tuple(axis for axis in STANDARD_AXES if axis != "with")
"""What is on top of an image varies like an axis of the user's, and often together with one."""


@dataclass(frozen=True)
class Row:
    """A row: its label, how its guests ran, and the cells of each column."""

    label: str
    note: str
    """`qemu, emulated`."""
    slots: tuple[tuple[CellPart, ...], ...]


@dataclass(frozen=True)
class Grid:
    """The table; `common` are the axis values that all cells share."""

    corner: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    common: tuple[str, ...]


def grid(cells: tuple[CellPart, ...]) -> Grid:
    """Rows of the machine's axes, columns of the user's own as long as they are few; constant axes in neither."""
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.values))
    varying = [axis for axis in axes if len({_value(cell, axis) for cell in cells}) > 1]
    column_axes = _column_axes(cells, varying)
    row_axes = [axis for axis in varying if axis not in column_axes]
    columns = list(dict.fromkeys(_label(cell, column_axes) for cell in cells))
    by_row: dict[str, list[CellPart]] = {}
    for cell in cells:
        by_row.setdefault(_label(cell, row_axes), []).append(cell)
    return Grid(
        corner=" · ".join(row_axes) or "cell",
        columns=tuple(column or "result" for column in columns),
        rows=tuple(_row(label, row, columns, column_axes) for label, row in by_row.items()),
        common=tuple(f"{axis} {_value(cells[0], axis)}" for axis in axes if axis not in varying),
    )


def mode(cell: CellPart) -> str:
    """How its guest ran, or would: `kvm`, `qemu, emulated`."""
    return f"{cell.hypervisor}, emulated" if cell.emulated else cell.hypervisor


def _column_axes(cells: tuple[CellPart, ...], varying: list[str]) -> list[str]:
    own = [axis for axis in varying if axis not in _MACHINE]
    machine = [axis for axis in varying if axis in _MACHINE]
    chosen: list[str] = []
    for axis in own or machine[1:2]:
        if len({_label(cell, [*chosen, axis]) for cell in cells}) <= _MOST_COLUMNS:
            chosen.append(axis)
    return chosen


def _row(label: str, cells: list[CellPart], columns: list[str], column_axes: list[str]) -> Row:
    slots: dict[str, list[CellPart]] = {column: [] for column in columns}
    for cell in cells:
        slots[_label(cell, column_axes)].append(cell)
    modes = dict.fromkeys(mode(cell) for cell in cells if cell.hypervisor)
    return Row(label or "all", " / ".join(modes), tuple(tuple(slot) for slot in slots.values()))


def _label(cell: CellPart, axes: list[str]) -> str:
    """Values of the machine's axes speak for themselves; the user's are named."""
    words = ((axis, _value(cell, axis)) for axis in axes)
    return " · ".join(value if axis in STANDARD_AXES else f"{axis}={value}" for axis, value in words)


def _value(cell: CellPart, axis: str) -> str:
    return scalar_text(cell.values[axis]) if axis in cell.values else _NOTHING
