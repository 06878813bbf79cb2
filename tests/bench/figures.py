"""Figures: two things done side by side in one run, and what came of it as a row of a table."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

PAIRS = 7
HEAD = "| figure | aim | ours | beside it | ratio | load |\n|---|---|---|---|---|---|"

Arm = Callable[[], float]
"""Does something once, and gives what it took."""


class Aim(NamedTuple):
    """What a figure is to be at most."""

    most: float
    unit: str = ""
    """Of our own arm's median; empty: it is the ratio that counts."""

    def __str__(self) -> str:
        return f"≤ {self.most:.3g} {self.unit}".rstrip()


@dataclass(frozen=True)
class Figure:
    """What two arms took, pair by pair."""

    name: str
    aim: Aim | None
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median by median."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    @property
    def missed(self) -> bool:
        """Whether it is not what it is to be."""
        if self.aim is None:
            return False
        return (statistics.median(self.ours) if self.aim.unit else self.ratio) > self.aim.most

    def row(self) -> str:
        """In Markdown: of each arm the median and, in brackets, the lowest and the highest."""
        load = os.getloadavg()[0]
        ours, theirs = (_spread(values, self.unit) for values in (self.ours, self.theirs))
        aim = f"{self.aim or ''}{', **missed**' if self.missed else ''}"
        return f"| {self.name} | {aim} | {ours} | {theirs} | {self.ratio:.3f} | {load:.1f} |"


def side_by_side(name: str, aim: Aim | None, unit: str, ours: Arm, theirs: Arm, *, pairs: int = PAIRS) -> Figure:
    """Measure two arms in turns: first each once for nothing, so that what is only slow once has been."""
    for arm in (ours, theirs):
        arm()
    both = [(ours(), theirs()) for _ in range(pairs)]
    return Figure(name, aim, unit, tuple(pair[0] for pair in both), tuple(pair[1] for pair in both))


def against(name: str, aim: float, unit: str, ours: Arm, *, times: int = PAIRS) -> Figure:
    """Measure one arm against the aim itself."""
    ours()
    return Figure(name, Aim(aim, unit), unit, tuple(ours() for _ in range(times)), (aim,))


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _spread(values: tuple[float, ...], unit: str) -> str:
    middle = f"{_digits(statistics.median(values))} {unit}"
    return f"{middle} ({_digits(min(values))}–{_digits(max(values))})" if len(values) > 1 else middle


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
