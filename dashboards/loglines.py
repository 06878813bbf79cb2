"""A log as a page shows it: numbered lines with colours, from a place on, and where to go on from. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from dashboards.ansi import PLAIN, Style, lines
from farm.text import terminal

MOST_BYTES = 256 * 1024
"""Of one log on one page."""
MOST_FOUND = 1_000
_LONGEST_LINE = 64 * 1024


@dataclass(frozen=True)
class Line:
    """A line."""

    number: int
    html: Markup


@dataclass(frozen=True)
class Cursor:
    """Where reading goes on."""

    offset: int = 0
    """In bytes."""
    number: int = 1
    """Of the next line."""
    style: Style = PLAIN


@dataclass(frozen=True)
class Piece:
    """Lines, and where they end."""

    lines: tuple[Line, ...]
    end: Cursor
    skipped: int = 0
    """Bytes before the first line that are not shown."""
    left: int = 0
    """Bytes after the last line that are not shown."""


def piece(data: bytes, start: Cursor = Cursor(), *, ended: bool) -> Piece:
    """The lines of a log from a place on."""
    return stretch(data[start.offset : start.offset + MOST_BYTES], start, size=len(data), ended=ended)


def stretch(rest: bytes, start: Cursor, *, size: int, ended: bool) -> Piece:
    """The lines of a log of `size` bytes, of which `rest` stands from a place on: at most MOST_BYTES of them.

    A last line that goes on waits for its end.
    """
    rest = rest[:MOST_BYTES]
    more = size > start.offset + len(rest)
    if more or not ended:
        whole = rest[: rest.rfind(b"\n") + 1]
        rest = whole or (rest if len(rest) >= _LONGEST_LINE else b"")
    made, style = lines(rest.decode("utf-8", "replace"), start.style)
    end = Cursor(start.offset + len(rest), start.number + len(made), style)
    numbered = tuple(Line(start.number + at, html) for at, html in enumerate(made))
    return Piece(numbered, end, left=size - end.offset if more else 0)


def tail(data: bytes, most: int = MOST_BYTES) -> Cursor:
    """Where the last `most` bytes begin, at the beginning of a line."""
    if len(data) <= most:
        return Cursor()
    offset = data.find(b"\n", len(data) - most) + 1
    return Cursor(offset, data.count(b"\n", 0, offset) + 1)


def find(data: bytes, text: str) -> tuple[tuple[Line, ...], int]:
    """The lines that hold a text, whatever its case, and how many more there are than are shown."""
    wanted = text.casefold()
    found: list[Line] = []
    more = 0
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if wanted not in terminal(line).casefold():
            continue
        if len(found) == MOST_FOUND:
            more += 1
            continue
        found.append(Line(number, (lines(line)[0] or [Markup("")])[0]))
    return tuple(found), more
