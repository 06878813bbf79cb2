"""Numbers, times and verdicts as the pages show them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from farm.model import RunSummary, State, Verdict
from farm.report import words
from farm.text import clean, shorten

SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "passed": "✓",
        "flaky": "≈",
        "failed": "✕",
        "error": "!",
        "skipped": "–",
        "cancelled": "⊘",
        "queued": "·",
        "running": "▸",
        "unknown": "?",
    }
)
"""Colour is never the only sign."""

_OF_RUNS = {0: "passed", 1: "failed", 2: "error", 3: "skipped", 130: "cancelled"}
"""What a run came to, by its exit status."""
_AGES = ((timedelta(days=2), timedelta(days=1), "days"), (timedelta(hours=2), timedelta(hours=1), "h"))
_JUST_NOW = timedelta(seconds=10)
_MINUTE = timedelta(minutes=1)
_MONTH = timedelta(days=60)


class Stated(Protocol):
    """A cell, an attempt or a run, of any shape."""

    @property
    def state(self) -> State:
        """Where it is in its life."""


def word(thing: Stated) -> str:
    """The verdict in one word, `flaky` for a pass after a failure; without one `queued`, `running` or `unknown`."""
    verdict: Verdict | None = getattr(thing, "verdict", None)
    outcome = getattr(thing, "outcome", None)
    found = verdict or (outcome.verdict if outcome else None)
    if getattr(outcome or thing, "flaky", False):
        return words.FLAKY
    if found:
        return found.value
    return "unknown" if thing.state is State.FINISHED else thing.state.value


def run_word(run: RunSummary) -> str:
    """The same for a line of the list of runs."""
    return run.state.value if run.exit_code is None else _OF_RUNS.get(run.exit_code, "unknown")


def ago(time: datetime | None, now: datetime) -> str:
    """`just now`, `42 s ago`, `5 min ago`, `3 h ago`, `4 days ago`; a date where that is long ago."""
    if time is None:
        return ""
    age = now - time
    if age < _JUST_NOW:
        return "just now"
    if age > _MONTH:
        return time.astimezone(UTC).strftime("%Y-%m-%d")
    for least, unit, name in _AGES:
        if age >= least:
            return f"{age // unit} {name} ago"
    if age < _MINUTE:
        return f"{age.seconds} s ago"
    return f"{age // _MINUTE} min ago"


def iso(time: datetime) -> str:
    """For the attribute `datetime`."""
    return time.astimezone(UTC).isoformat(timespec="seconds")


def number(count: float) -> str:
    """`12 345`, with a space that does not break."""
    return f"{count:,}".replace(",", " ")


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago,
    "clean": lambda text, limit=2000: clean(text, limit=limit),
    "duration": words.duration,
    "iso": iso,
    "moment": words.moment,
    "number": number,
    "shorten": lambda text, limit: shorten(text, limit=limit),
    "size": words.size,
    "slowness": words.slowness,
    "start": words.start,
    "limits": words.limits,
    "disk": words.disk,
    "network": words.network,
    "tests": words.tests,
    "run_word": run_word,
    "word": word,
}
