"""Hypervisors beside each other: the numbers of their trials, and stars to see them at a glance. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from farm.model import Trial
from farm.report.words import duration

MOST = 5
"""Stars of the best; each doubling of what it takes costs one, and one is left to everybody."""


class Figure(NamedTuple):
    """A column: what is measured, how it is written, and below what two are alike."""

    name: str
    value: Callable[[Trial], float]
    text: Callable[[float], str]
    least: float


def _of_guests(name: str, field: str, text: Callable[[float], str], least: float) -> Figure:
    return Figure(name, lambda trial: trial.middle(lambda guest: float(getattr(guest, field))), text, least)


def _times(value: float) -> str:
    return f"{value:.1f}×"


FIGURES = (
    _of_guests("provision", "provision_s", duration, 0.05),
    _of_guests("boot", "boot_s", duration, 0.05),
    _of_guests("connect", "connect_s", duration, 0.02),
    _of_guests("step", "step_s", lambda value: f"{value * 1000:.0f} ms", 0.002),
    Figure("CPU", lambda trial: trial.slowness.cpu if trial.slowness else math.nan, _times, 1.0),
    Figure("fork", lambda trial: trial.slowness.fork if trial.slowness else math.nan, _times, 1.0),
    Figure("disk", lambda trial: trial.slowness.disk if trial.slowness else math.nan, _times, 1.0),
    _of_guests("memory", "taken_mib", lambda value: f"{value:.0f} MiB", 32.0),
    _of_guests("destroy", "destroy_s", duration, 0.02),
)


def rows(trials: Iterable[Trial]) -> list[list[str]]:
    """For each hypervisor its name, how its guests start, and stars and number of each figure, or its problem."""
    every = list(trials)
    good = [trial for trial in every if not trial.problem]
    best = {figure.name: min((figure.value(trial) for trial in good), default=math.nan) for figure in FIGURES}
    return [_row(trial, best) for trial in every]


def header() -> list[str]:
    """The names of the columns."""
    return ["hypervisor", "start", *(figure.name for figure in FIGURES)]


def markdown(trials: Sequence[Trial]) -> str:
    """The table for a page."""
    lines = [header(), ["---"] * len(header()), *rows(trials)]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def stars(value: float, best: float, least: float) -> str:
    """`★★★☆☆`; what is below `least` is as good as that. Nothing for a number that there is not."""
    if math.isnan(value) or math.isnan(best):
        return ""
    doublings = math.log2(max(value, least) / max(best, least))
    count = max(1, MOST - round(doublings))
    return "★" * count + "☆" * (MOST - count)


def _row(trial: Trial, best: dict[str, float]) -> list[str]:
    offer = trial.offer
    name = f"{offer.hypervisor} {offer.version} on {trial.host}".replace("  ", " ")
    if trial.problem:
        return [name, f"no figures: {trial.problem}", *("" for _ in FIGURES)]
    starts = sorted({guest.facts.start.value for guest in trial.guests})
    cells = []
    for figure in FIGURES:
        value = figure.value(trial)
        text = "" if math.isnan(value) else figure.text(value)
        cells.append(f"{stars(value, best[figure.name], figure.least)} {text}".strip())
    return [f"{name}{', emulated' if offer.emulated else ''}", ", ".join(starts), *cells]
