"""`summary.md`, for the summary page of a CI job (GitHub's Markdown; well below its limit of 1 MiB).

What a guest wrote stands only in fences and code spans that are longer than any run of backticks in it;
everything else has each sign that could mean something written as a numeric reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from farm.model import TestStatus
from farm.report import words
from farm.report.grid import Grid, Row, grid
from farm.report.parts import CellPart, Document, TestPart
from farm.text import shorten

_PLAIN = re.compile(r"[^\w ,=/·–-]|_")
_BACKTICKS = re.compile("`+")
_SIGNS = {"passed": "✔", "flaky": "≈", "failed": "✘", "error": "⚠"}
_LOUD = frozenset({"failed", "error", "flaky"})
_MOST_ROWS = 300
_MOST_TROUBLES = 30
_MOST_TESTS = 8
_MOST_LINES = 12
_LONGEST_BLOCK = 1_500


def render(report: Document) -> str:
    """`summary.md`."""
    parts = (
        _head(report),
        _table(grid(report.cells)),
        _troubles(report),
        _flaky(report),
        _used(report),
        _foot(report),
    )
    return "\n".join(chain.from_iterable(parts)) + "\n"


def _head(report: Document) -> Iterator[str]:
    run = report.run
    yield f"# {escape(run.id)}: {run.headline.rstrip('.')}"
    yield ""
    took = f", took {words.duration(run.duration_s)}" if run.duration_s is not None else ""
    yield f"{words.tests(run.tests).capitalize()}. Started {words.moment(run.created)}{took}."
    yield ""
    yield from (f"> **Warning:** {escape(warning)}\n" for warning in report.warnings)


def _table(table: Grid) -> Iterator[str]:
    if table.common:
        yield f"All cells: {', '.join(escape(value) for value in table.common)}."
        yield ""
    yield _line([table.corner, "ran on", *table.columns])
    yield "|" + "---|" * (2 + len(table.columns))
    yield from (_row(row) for row in table.rows[:_MOST_ROWS])
    yield ""
    if len(table.rows) > _MOST_ROWS:
        yield f"… and {len(table.rows) - _MOST_ROWS} more rows, in `index.html`.\n"


def _row(row: Row) -> str:
    slots = ("<br>".join(_slot(cell) for cell in slot) or "–" for slot in row.slots)
    return f"| {escape(row.label)} | {escape(row.note)} | " + " | ".join(slots) + " |"


def _line(names: Iterable[str]) -> str:
    return "| " + " | ".join(escape(name) for name in names) + " |"


def _slot(cell: CellPart) -> str:
    word = words.verdict(cell)
    shown = f"{_SIGNS.get(word, '·')} {word}"
    blame = f" ({cell.outcome.blame})" if cell.outcome and cell.outcome.blame else ""
    text = f"**{shown}**{blame}" if word in _LOUD else shown
    return f"{text}, {words.tests(cell.tests)}" if cell.tests.all else text


def _troubles(report: Document) -> Iterator[str]:
    for cell in report.troubles[:_MOST_TROUBLES]:
        yield from _trouble(cell)
    left = len(report.troubles) - _MOST_TROUBLES
    if left > 0:
        yield f"… and {left} more cells that did not pass, in `index.html`.\n"


def _flaky(report: Document) -> Iterator[str]:
    """What passed, but not at once."""
    cells = [cell for cell in report.cells if cell.outcome and cell.outcome.flaky]
    if not cells:
        return
    yield "## Flaky: passed only after a failure"
    yield ""
    for cell in cells[:_MOST_TROUBLES]:
        yield f"- {code(cell.id)}: {code(cell.outcome.summary if cell.outcome else '')}"
    if len(cells) > _MOST_TROUBLES:
        yield f"- … and {len(cells) - _MOST_TROUBLES} more, in `index.html`."
    yield ""


def _trouble(cell: CellPart) -> Iterator[str]:
    outcome = cell.outcome
    if outcome is None:
        return
    blame = f", blame: {outcome.blame}" if outcome.blame else ""
    phase = f", in {cell.phase}" if cell.phase else ""
    yield f"## {code(cell.id)} {words.verdict(cell)}"
    yield ""
    yield f"{code(outcome.summary or words.verdict(cell))}{blame}{phase}."
    yield ""
    if outcome.lines:
        yield fence("\n".join(outcome.lines[-_MOST_LINES:]))
    bad = [
        test for test in (cell.last.tests if cell.last else ()) if test.status in {TestStatus.FAILED, TestStatus.ERROR}
    ]
    for test in bad[:_MOST_TESTS]:
        yield from _test(test)
    if len(bad) > _MOST_TESTS:
        yield f"… and {len(bad) - _MOST_TESTS} more failed tests.\n"
    yield "Again, this cell alone:\n"
    yield fence(cell.rerun, "sh")


def _test(test: TestPart) -> Iterator[str]:
    yield f"- {code(' › '.join(filter(None, (test.suite, test.classname, test.name))))} {test.status}\n"
    text = "\n".join(dict.fromkeys(filter(None, (test.message, test.detail))))
    if text:
        yield fence(text)


def _used(report: Document) -> Iterator[str]:
    """A line for each cell of whose guest it is known."""
    known = [cell for cell in report.cells if cell.last and cell.last.usage]
    if not known:
        return
    yield f"<details><summary>What the guests used ({len(known)} of {len(report.cells)} cells)</summary>"
    yield ""
    yield _line(["cell", "start", "took", "CPU", "memory", "disk", "network"])
    yield "|" + "---|" * 7
    yield from ("| " + " | ".join(_use(cell)) + " |" for cell in known[:_MOST_ROWS])
    yield ""
    if len(known) > _MOST_ROWS:
        yield f"… and {len(known) - _MOST_ROWS} more cells, in `index.html`.\n"
    yield "</details>"
    yield ""


def _use(cell: CellPart) -> Iterator[str]:
    last = cell.last
    if last is None or last.usage is None:
        return
    yield escape(cell.id)
    yield last.guest.start.value if last.guest else ""
    yield words.duration(last.duration_s)
    yield words.duration(last.usage.cpu_s)
    yield f"{last.usage.memory_peak_mib} MiB" if last.usage.memory_peak_mib is not None else ""
    yield words.disk(last.usage)
    yield words.network(last.usage)


def _foot(report: Document) -> Iterator[str]:
    source = report.run.source
    yield "---"
    yield ""
    if source.digest:
        yield f"Source: {escape(source.kind)} {code(source.description)}, digest {code(source.digest)}."
    yield from dict.fromkeys(
        f"\n{code(str(cell.values['image']))} on {escape(cell.pinned.arch)} was {escape(cell.pinned.name)},"
        f" digest {code(cell.pinned.digest)}."
        for cell in report.cells
        if cell.pinned
    )
    if report.excluded:
        yield f"Excluded: {len(report.excluded)} combinations."


def escape(text: str) -> str:
    """Text that means nothing but itself in Markdown, on one line, also in a table."""
    return _PLAIN.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def code(text: str) -> str:
    """A code span that its text cannot end. Not for tables, where `|` would."""
    line = shorten(" ".join(text.split()), limit=500) or "–"
    ticks = "`" * (_longest(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fence(text: str, language: str = "text") -> str:
    """A fenced block that its text cannot end, and an empty line."""
    ticks = "`" * max(3, _longest(text) + 1)
    return f"{ticks}{language}\n{shorten(text, limit=_LONGEST_BLOCK)}\n{ticks}\n"


def _longest(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
