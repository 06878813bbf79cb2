"""A comparison as text for a terminal, as Markdown for the summary of a CI job, or as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from farm.report.changes import CellChange, Change, ChangeCounts, Comparison, TestChange
from farm.report.differences import ImageChange, PackageChange
from farm.report.evidence import plural, some
from farm.report.markdown import escape
from farm.report.words import moment
from farm.text import shorten

SHOWN = (
    Change.REGRESSION,
    Change.NEW_FAILURE,
    Change.STILL_FAILING,
    Change.FIXED,
    Change.NEW_PASS,
    Change.APPEARED,
    Change.DISAPPEARED,
    Change.NO_DATA,
)
"""The classes that are listed, what a person wants to see first at the top."""
_MOST_ROWS = 200
_MOST_PACKAGES = 30
_LONGEST_WHY = 160
_SHORT = 19
"""Of a digest: `sha256:` and twelve digits."""


class Row(NamedTuple):
    """A line of what changed: its class, where, and why."""

    change: Change
    where: str
    why: str


def to_json(comparison: Comparison) -> str:
    """Everything."""
    return comparison.model_dump_json(indent=2) + "\n"


def to_text(comparison: Comparison) -> str:
    """For a terminal: aligned, without colours."""
    blocks = (
        [f"{comparison.base.id} → {comparison.head.id}: {comparison.headline}"],
        _sides(comparison),
        _text_table("cells", comparison.cells, rows_of_cells(comparison)),
        _text_table("tests", comparison.tests, rows_of_tests(comparison)),
        _titled("what else differs", _others(comparison)),
    )
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


def to_markdown(comparison: Comparison) -> str:
    """For the summary of a CI job."""
    blocks = (
        [f"# {escape(comparison.base.id)} → {escape(comparison.head.id)}: {escape(comparison.headline.rstrip('.'))}"],
        [f"- {escape(line)}" for line in _sides(comparison)],
        _markdown_table("Cells", comparison.cells, rows_of_cells(comparison)),
        _markdown_table("Tests", comparison.tests, rows_of_tests(comparison)),
        ["## What else differs", "", *(f"- {escape(line.strip())}" for line in others)]
        if (others := list(_others(comparison)))
        else [],
    )
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


COMPARE_FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "json": to_json,
    "markdown": to_markdown,
}


def rows_of_cells(comparison: Comparison) -> list[Row]:
    """The cells that changed or still fail, and those without data."""
    return _ranked(Row(one.change, one.id, _why(one)) for one in comparison.cell_changes)


def rows_of_tests(comparison: Comparison) -> list[Row]:
    """The tests that are listed, each with its cell."""
    return _ranked(Row(one.change, f"{one.cell}  {one.label}", _said(one)) for one in comparison.test_changes)


def _ranked(rows: Iterable[Row]) -> list[Row]:
    order = {change: place for place, change in enumerate(SHOWN)}
    return sorted((row for row in rows if row.change in order), key=lambda row: order[row.change])


def _why(one: CellChange) -> str:
    may_fail = " (may fail)" if one.may_fail else ""
    return shorten(one.why_after or one.why_before or one.after, limit=_LONGEST_WHY) + may_fail


def _said(one: TestChange) -> str:
    said = one.message or f"{one.before} → {one.after}".replace("_", " ")
    return shorten(said, limit=_LONGEST_WHY) + (" (may fail)" if one.may_fail else "")


def _sides(comparison: Comparison) -> Iterator[str]:
    for name, side in (("base", comparison.base), ("head", comparison.head)):
        yield f"{name}  {side.id}, {moment(side.created)}: {side.tested}"
    yield "The source is the same." if comparison.same_source else "The source is not the same."


def counted(counts: ChangeCounts) -> str:
    """`200 in all: 2 regression, 198 still passing`."""
    found = ((getattr(counts, change.value), change.value.replace("_", " ")) for change in Change)
    words = ", ".join(f"{count} {word}" for count, word in found if count)
    return f"{counts.all} in all{': ' if words else ''}{words}"


def _text_table(title: str, counts: ChangeCounts, rows: Sequence[Row]) -> Iterator[str]:
    yield f"{title}  {counted(counts)}"
    shown = rows[:_MOST_ROWS]
    width = max((len(row.where) for row in shown), default=0)
    for row in shown:
        yield f"  {row.change.value.replace('_', ' '):<13}  {row.where:<{width}}  {row.why}".rstrip()
    if len(rows) > _MOST_ROWS:
        yield f"  … and {len(rows) - _MOST_ROWS} more, in the JSON of this comparison"


def _markdown_table(title: str, counts: ChangeCounts, rows: Sequence[Row]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    yield f"{escape(counted(counts))}."
    if not rows:
        return
    yield ""
    yield "| what | where | why |"
    yield "|---|---|---|"
    for row in rows[:_MOST_ROWS]:
        yield f"| {row.change.value.replace('_', ' ')} | {escape(row.where)} | {escape(row.why)} |"
    if len(rows) > _MOST_ROWS:
        yield f"\n… and {len(rows) - _MOST_ROWS} more, in the JSON of this comparison."


def _titled(title: str, lines: Iterator[str]) -> list[str]:
    return list(chain([title], found)) if (found := list(lines)) else []


def _others(comparison: Comparison) -> Iterator[str]:
    """What is not the same in both runs, apart from results; digests with their packages."""
    for one in comparison.differences:
        if one.what != "image digest":
            yield f"  {one.what}: {one.before or 'none'} → {one.after or 'none'} in {plural(one.cells, 'cell')}"
    for image in comparison.images:
        pair = f"{image.before[:_SHORT]} → {image.after[:_SHORT]}"
        yield f"  image {image.image}: {pair} in {plural(image.cells, 'cell')}; {_packages(image)}"


def _packages(image: ImageChange) -> str:
    if image.packages is None:
        return "its packages are not known here"
    if not image.packages:
        return "the same packages"
    changed = some(map(_package, image.packages), most=_MOST_PACKAGES)
    return f"{plural(len(image.packages), 'package')}: {changed}"


def _package(one: PackageChange) -> str:
    if one.before and one.after:
        return f"{one.name} {one.before} → {one.after}"
    return f"{one.name} {one.after} added" if one.after else f"{one.name} {one.before} removed"
