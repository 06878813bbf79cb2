"""`badge.svg`: what a run came to, in the size of a line of text, for a README or a page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from farm.model import State
from farm.report.parts import CellCounts, Document
from farm.text import shorten

GREEN, RED, AMBER, GREY = "#17693a", "#a61b29", "#8a4b00", "#56606c"
"""The colours of the report; white on each of them can be read (WCAG 2.2 AA)."""
_LABEL_COLOUR = "#2b313a"
_LONGEST_CHARS = 60
_NARROW, _WIDE = frozenset("iljtfrI.,:;|!'()[] "), frozenset("mwMW@%—")
_WIDTHS = (4.2, 7.1, 10.6)
"""Pixels of narrow, other and wide letters of a sans serif of 11 pixels, a little generous."""
_PAD = 7
_HEIGHT = 20

_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="{title}">
<title>{title}</title>
<clipPath id="corners"><rect width="{width}" height="{height}" rx="4"/></clipPath>
<g clip-path="url(#corners)">
<rect width="{left}" height="{height}" fill="{label_colour}"/>
<rect x="{left}" width="{right}" height="{height}" fill="{colour}"/>
</g>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{pad}" y="14" textLength="{label_width}" lengthAdjust="spacingAndGlyphs">{label}</text>
<text x="{message_x}" y="14" textLength="{message_width}" lengthAdjust="spacingAndGlyphs">{message}</text>
</g>
</svg>
"""


@dataclass(frozen=True)
class Badge:
    """A label, what is said of it, and a colour that says the same."""

    label: str
    message: str
    colour: str


def render(report: Document) -> str:
    """`badge.svg`."""
    return svg(badge(report))


def badge(report: Document) -> Badge:
    """The matrix' name, and how many of its cells passed."""
    run, cells = report.run, report.run.cells
    return Badge(run.matrix, _message(run.state, cells), _colour(run.state, run.exit_code))


def svg(shown: Badge) -> str:
    """A badge as SVG; its texts are escaped, and it loads nothing."""
    label, message = (shorten(text, limit=_LONGEST_CHARS) for text in (shown.label, shown.message))
    label_width, message_width = round(_width(label)), round(_width(message))
    left, right = label_width + 2 * _PAD, message_width + 2 * _PAD
    return _SVG.format(
        width=left + right,
        height=_HEIGHT,
        left=left,
        right=right,
        pad=_PAD,
        message_x=left + _PAD,
        label_width=label_width,
        message_width=message_width,
        label_colour=_LABEL_COLOUR,
        colour=escape(shown.colour),
        title=escape(f"{label}: {message}"),
        label=escape(label),
        message=escape(message),
    )


def _message(state: State, cells: CellCounts) -> str:
    if state is not State.FINISHED:
        return f"{cells.all - cells.unfinished} of {cells.all} done"
    flaky = f", {cells.flaky} flaky" if cells.flaky else ""
    return f"{cells.passed} of {cells.all} passed{flaky}"


def _colour(state: State, exit_code: int | None) -> str:
    """By the exit status that `farm run` has: what it does not fail for is green here, too."""
    if state is not State.FINISHED or exit_code is None:
        return GREY
    return {0: GREEN, 1: RED, 2: AMBER}.get(exit_code, GREY)


def _width(text: str) -> float:
    narrow, other, wide = _WIDTHS
    return sum(narrow if sign in _NARROW else wide if sign in _WIDE else other for sign in text) or 1
