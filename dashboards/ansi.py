"""Logs with the colours of a terminal: SGR sequences become CSS classes, all else is made harmless and escaped. Pure.

The numbers are those of ECMA-48, 8.3.117, and of xterm's 256 colours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from markupsafe import Markup, escape

from farm.text import terminal

_SGR = re.compile(r"\x1b\[([0-9;:]{0,64})m")
_SWITCHES: Mapping[int, Mapping[str, bool]] = MappingProxyType(
    {
        1: {"bold": True},
        2: {"faint": True},
        3: {"italic": True},
        4: {"underline": True},
        7: {"inverse": True},
        9: {"struck": True},
        22: {"bold": False, "faint": False},
        23: {"italic": False},
        24: {"underline": False},
        27: {"inverse": False},
        29: {"struck": False},
    }
)
_EXTENDED = {38: "front", 48: "back"}
_BASES = {30: ("front", 0), 90: ("front", 8), 40: ("back", 0), 100: ("back", 8)}
_DEFAULTS = {39: "front", 49: "back"}
_BY_INDEX, _BY_RGB = 5, 2
_RGB_ARGUMENTS = 3
_PALETTE = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip
"""xterm's first sixteen, to find the nearest; how they look is the stylesheet's business."""
_CUBE, _GREYS = 16, 232
_LEVELS = (0, 95, 135, 175, 215, 255)
_TOKEN = re.compile(r"[a-z]+|[fb](?:1[0-5]|[0-9])")


@dataclass(frozen=True)
class Style:
    """How text looks at a place in a log."""

    bold: bool = False
    faint: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False
    struck: bool = False
    front: int | None = None
    back: int | None = None

    @property
    def classes(self) -> str:
        """The CSS classes, `bold f1`; empty for plain text."""
        words = [name for name in _NAMES if getattr(self, name)]
        words += [f"f{self.front}"] if self.front is not None else []
        words += [f"b{self.back}"] if self.back is not None else []
        return " ".join(words)

    @classmethod
    def read(cls, classes: str) -> Style:
        """The style that has these classes; what is none is left out."""
        words = [word for word in classes.split() if _TOKEN.fullmatch(word)]
        colours = {"front" if word[0] == "f" else "back": int(word[1:]) for word in words if word[-1].isdigit()}
        return cls(**{name: True for name in _NAMES if name in words}, **colours)  # type: ignore[arg-type]


_NAMES = ("bold", "faint", "italic", "underline", "inverse", "struck")
PLAIN = Style()


def lines(text: str, style: Style = PLAIN) -> tuple[list[Markup], Style]:
    """Lines of HTML of a piece of a log, and the style that its end leaves behind."""
    done: list[Markup] = []
    line: list[Markup] = []
    for piece, looks in _pieces(text, style):
        style = looks
        first, *others = terminal(piece).split("\n")
        line.append(_span(first, looks))
        for other in others:
            done.append(Markup("").join(line))
            line = [_span(other, looks)]
    last = Markup("").join(line)
    return [*done, last] if last else done, style


def _pieces(text: str, style: Style) -> Iterator[tuple[str, Style]]:
    """The text between SGR sequences, each with its style."""
    start = 0
    for found in _SGR.finditer(text):
        yield text[start : found.start()], style
        style, start = _changed(style, found[1]), found.end()
    yield text[start:], style


def _span(text: str, style: Style) -> Markup:
    if not text or not style.classes:
        return escape(text)
    return Markup('<span class="{}">{}</span>').format(style.classes, text)


def _changed(style: Style, parameters: str) -> Style:
    codes = iter([int(word) if word and len(word) < 4 else 0 for word in re.split("[;:]", parameters)])  # noqa: PLR2004
    for code in codes:
        if code == 0:
            style = PLAIN
        elif code in _SWITCHES:
            style = replace(style, **_SWITCHES[code])
        elif code in _EXTENDED:
            style = _coloured(style, _EXTENDED[code], _extended(codes))
        elif code in _DEFAULTS:
            style = _coloured(style, _DEFAULTS[code], None)
        elif found := next((base for base in _BASES if base <= code < base + 8), None):
            side, first = _BASES[found]
            style = _coloured(style, side, first + code - found)
    return style


def _coloured(style: Style, side: str, colour: int | None) -> Style:
    return replace(style, front=colour) if side == "front" else replace(style, back=colour)


def _extended(codes: Iterator[int]) -> int | None:
    """One of 256 colours, or any at all, as the nearest of the sixteen."""
    kind = next(codes, None)
    if kind == _BY_INDEX:
        return _of_index(next(codes, 0))
    if kind == _BY_RGB:
        rgb = [next(codes, 0) for _ in range(_RGB_ARGUMENTS)]
        return _nearest(rgb[0], rgb[1], rgb[2])
    return None


def _of_index(index: int) -> int:
    if index < _CUBE:
        return index
    if index >= _GREYS:
        grey = 8 + 10 * (min(index, 255) - _GREYS)
        return _nearest(grey, grey, grey)
    index -= _CUBE
    return _nearest(_LEVELS[index // 36], _LEVELS[index // 6 % 6], _LEVELS[index % 6])


def _nearest(red: int, green: int, blue: int) -> int:
    def far(colour: tuple[int, int, int]) -> int:
        return (colour[0] - red) ** 2 + (colour[1] - green) ** 2 + (colour[2] - blue) ** 2

    return min(range(len(_PALETTE)), key=lambda place: far(_PALETTE[place]))
