"""A support statement as JSON, CSV, Markdown, or a page that prints well. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from farm.model import scalar_text
from farm.report import words
from farm.report.markdown import code, escape
from farm.report.spreadsheet import table
from farm.report.support import PlatformPart, Reason, Statement, Status
from farm.text import shorten

_MOST_FAILURES = 500
_MOST_ROWS = 1_000
_SIGNS = {Status.SUPPORTED: "✔", Status.WAIVED: "✔", Status.NOT_SUPPORTED: "✘", Status.NOT_KNOWN: "?"}
_COLUMNS = (
    "platform",
    "status",
    "reasons",
    "tests",
    "failed",
    "skipped",
    "waived",
    "baseline_tests",
    "waivers",
    "run",
    "ran",
    "source_digest",
    "hypervisor",
    "emulated",
    "host",
    "image",
    "image_digest",
)


class Form(NamedTuple):
    """A format: the name of its file, and what makes its text."""

    file: str
    render: Callable[[Statement], str]


def spaced(word: str) -> str:
    """A word of a vocabulary as a person writes it: `not_known` -> `not known`."""
    return word.replace("_", " ")


def to_json(statement: Statement) -> str:
    """`statement.json`."""
    return statement.model_dump_json(indent=2) + "\n"


def to_text(statement: Statement) -> str:
    """For a terminal: aligned, without colours."""
    wide = max((len(one.id) for one in statement.platforms), default=0)
    lines = [f"  {one.id:<{wide}}  {spaced(one.status):<22}  {reasons(one)}" for one in statement.platforms]
    flagged = [f"  waiver {one.id}: {', '.join(one.flags)}" for one in statement.waivers if one.flags]
    head = f"{statement.run.id}, {statement.run.tested}"
    return "\n".join((head, statement.headline, "", *lines, *flagged)) + "\n"


def to_csv(statement: Statement) -> str:
    """`statement.csv`: a line for each platform; the columns of the axes come last, as `axis:` and the name."""
    axes = statement.axes
    return table((*_COLUMNS, *(f"axis:{axis}" for axis in axes)), (_line(one, axes) for one in statement.platforms))


def to_markdown(statement: Statement) -> str:
    """`statement.md`."""
    return "\n".join(chain(_head(statement), _platforms(statement), _waivers(statement))) + "\n"


def to_html(statement: Statement) -> str:
    """`statement.html`: one page that needs nothing else, for a screen and for A4; everything in it is escaped."""
    environment = Environment(
        loader=PackageLoader("farm.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": words.moment,
        "spaced": spaced,
        "shorten": lambda text, limit: shorten(text, limit=limit),
    }
    return environment.get_template("statement.html").render(
        statement=statement, run=statement.run, counts=statement.counts, most_failures=_MOST_FAILURES
    )


STATEMENT_FORMATS = {
    "text": Form("statement.txt", to_text),
    "json": Form("statement.json", to_json),
    "csv": Form("statement.csv", to_csv),
    "markdown": Form("statement.md", to_markdown),
    "html": Form("statement.html", to_html),
}


def reasons(platform: PlatformPart) -> str:
    """All reasons in one line: `fewer tests: 38 tests ran, 40 in the baseline demo-2; emulated: …`."""
    return "; ".join(
        one.text if one.kind is Reason.PASSED else f"{spaced(one.kind)}: {one.text}" for one in platform.reasons
    )


def _line(platform: PlatformPart, axes: tuple[str, ...]) -> Iterator[object]:
    found = platform.evidence
    yield from (platform.id, platform.status.value, reasons(platform))
    yield from (found.tests, found.failed, found.skipped, found.waived) if found else (None,) * 4
    yield from (platform.baseline_tests, " ".join(map(str, platform.waivers)))
    yield from (found.run, found.ran.isoformat(), found.source_digest) if found else (None,) * 3
    yield from (found.hypervisor, found.emulated, found.host) if found else (None,) * 3
    yield from (found.image, found.image_digest) if found else (None,) * 2
    yield from (scalar_text(platform.values[axis]) if axis in platform.values else None for axis in axes)


def _head(statement: Statement) -> Iterator[str]:
    run, baseline = statement.run, statement.baseline
    yield f"# Support statement of {escape(run.project)}"
    yield ""
    yield f"**{escape(statement.headline)}**"
    yield ""
    yield f"- Release: {code(run.tested)}, digest {code(run.source.digest)}"
    yield f"- Run: {code(run.id)}, {words.moment(run.created)}"
    if baseline:
        yield f"- Baseline: {code(baseline.id)}, {code(baseline.tested)}"
    if statement.max_age_days is not None:
        yield f"- Evidence no older than {statement.max_age_days:g} days"
    yield f"- Made: {words.moment(statement.made)}"
    yield ""


def _platforms(statement: Statement) -> Iterator[str]:
    yield "| platform | status | why | tests | run |"
    yield "|---|---|---|---|---|"
    for platform in statement.platforms[:_MOST_ROWS]:
        found = platform.evidence
        status = f"{_SIGNS[platform.status]} {spaced(platform.status)}"
        tests = str(found.tests) if found else "–"
        run = escape(found.run) if found else "–"
        yield f"| {escape(platform.id)} | {status} | {escape(reasons(platform))} | {tests} | {run} |"
    left = len(statement.platforms) - _MOST_ROWS
    if left > 0:
        yield f"\n… and {left} more, in the JSON of this statement."
    yield ""


def _waivers(statement: Statement) -> Iterator[str]:
    if not statement.waivers:
        return
    yield "## Waivers"
    yield ""
    yield "| waiver | cells | tests | why | until | failures | |"
    yield "|---|---|---|---|---|---|---|"
    for one in statement.waivers:
        until = words.moment(one.expires) or "no end"
        globs = f"{escape(one.cells)} | {escape(one.tests)}"
        why = escape(" ".join(filter(None, (one.reason, one.link))))
        yield f"| {one.id} | {globs} | {why} | {until} | {one.failing} | {', '.join(one.flags)} |"
    yield ""
