"""Tables for spreadsheets (RFC 4180, but for the line ends), in which no cell of a guest's becomes a formula. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from farm.model import scalar_text
from farm.report.evidence import stands_alone
from farm.report.parts import AttemptPart, CellPart, Document
from farm.report.words import verdict

_FORMULAS = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula, or skips before one; the wide signs too (OWASP)."""
_COLUMNS = (
    "run",
    "cell",
    "verdict",
    "blame",
    "attempts",
    "hypervisor",
    "emulated",
    "host",
    "image_digest",
    "suite",
    "classname",
    "test",
    "status",
    "duration_s",
    "message",
)


def render(report: Document) -> str:
    """`results.csv`: a line for each test, and one for each cell whose tests do not tell what it came to.

    The columns of the axes come last, each named `axis:` and its name.
    """
    axes = tuple(dict.fromkeys(axis for cell in report.cells for axis in cell.values))
    lines = (line for cell in report.cells for line in _lines(report, cell, axes))
    return table((*_COLUMNS, *(f"axis:{axis}" for axis in axes)), lines)


def table(columns: Sequence[str], lines: Iterable[Iterable[object]]) -> str:
    """A table with its head; every text in it is harmless."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(map(guarded, columns))
    writer.writerows(map(guarded, line) for line in lines)
    return written.getvalue()


def guarded(value: object) -> object:
    """A value as it may stand in a spreadsheet: a text that would be a formula begins with an apostrophe.

    Numbers of the farm's own are no texts, and stay numbers.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return "" if value is None else value
    text = value.replace("\r", "\n")  # the writer would not quote it
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULAS) else text


def _lines(report: Document, cell: CellPart, axes: Sequence[str]) -> Iterator[Iterator[object]]:
    for result in _results(cell):
        yield iter((report.run.id, *_of_cell(cell), *result, *(_value(cell, axis) for axis in axes)))


def _of_cell(cell: CellPart) -> tuple[object, ...]:
    blame = cell.outcome.blame if cell.outcome else None
    return (
        cell.id,
        verdict(cell),
        blame.value if blame else "",
        len(cell.attempts),
        cell.hypervisor,
        cell.emulated,
        cell.host,
        cell.image_digest,
    )


def _results(cell: CellPart) -> Iterator[tuple[object, ...]]:
    last: AttemptPart | None = cell.last
    for test in last.tests if last else ():
        yield test.suite, test.classname, test.name, test.status.value, test.duration_s, test.message
    if stands_alone(cell):
        summary = cell.outcome.summary if cell.outcome else ""
        yield "", "", "", verdict(cell), last.duration_s if last else None, summary


def _value(cell: CellPart, axis: str) -> object:
    value = cell.values.get(axis)
    return scalar_text(value) if isinstance(value, bool) else value
