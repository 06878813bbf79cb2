"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farm.model import (
    AttemptKey,
    Ending,
    Event,
    GuestCreated,
    Held,
    LogChunk,
    Outcome,
    PhaseEnded,
    PhaseStarted,
    Start,
    Stream,
    TestsFound,
    TestStatus,
    Verdict,
)
from farm.report.words import FLAKY
from farm.text import clean

STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.SKIPPED: "dim",
    Verdict.CANCELLED: "yellow",
}
FLAKY_STYLE = "bold yellow"
_BAD = frozenset({TestStatus.FAILED, TestStatus.ERROR})
_NOTE_CHARS = 100
_ASK = "its owner gets in: farm reservations"


class Guest(Protocol):
    """What a guest was, in a record or in a report."""

    @property
    def hypervisor(self) -> str:
        """`kvm`, `qemu`."""

    @property
    def emulated(self) -> bool:
        """Whether its CPU is not the host's."""

    @property
    def start(self) -> Start:
        """Whether it has booted."""


def guest_words(facts: Guest) -> str:
    """`kvm`, `qemu (emulated, restored)`."""
    how = [word for word, so in (("emulated", facts.emulated), ("restored", facts.start is Start.RESTORED)) if so]
    return f"{facts.hypervisor} ({', '.join(how)})" if how else facts.hypervisor


def verdict_word(outcome: Outcome) -> tuple[str, str]:
    """What an outcome is called, and in which style: a pass after a failure is none like the others."""
    return (FLAKY, FLAKY_STYLE) if outcome.flaky else (outcome.verdict.value, STYLES[outcome.verdict])


@dataclass
class _Row:
    """What is shown of a cell; times are seconds since the beginning."""

    started_s: float | None = None
    phase: str = "queued"
    attempt: int = 1
    hypervisor: str = ""
    tests: int = 0
    failed: int = 0
    note: str = ""
    outcome: Outcome | None = None
    ended_s: float | None = None


class Display:
    """Shows the cells of a run. A Watcher, for a run that this program carries out."""

    def __init__(self, cells: Iterable[str], console: Console, clock: Callable[[], float] | None = None) -> None:
        """`clock` gives the seconds since the run began; by default it begins now."""
        began = time.monotonic()
        self._console = console
        self._rows = {cell: _Row() for cell in cells}
        self._clock = clock or (lambda: time.monotonic() - began)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table for as long as this lasts; does nothing where there is no terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=4):
            yield

    def event(self, key: AttemptKey, event: Event) -> None:
        """An attempt says something now."""
        match event:
            case TestsFound():
                self.tested(key.cell, len(event.tests), sum(test.status in _BAD for test in event.tests))
            case LogChunk(stream=Stream.FARM):
                self._note(key.cell, event.data)
            case _:
                self.happened(key, event, at_s=self._clock())

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """A cell has its verdict now."""
        self.conclude(cell, outcome, at_s=self._clock())

    def happened(self, key: AttemptKey, event: Event, *, at_s: float) -> None:
        """An attempt said something at a time."""
        row = self._rows[key.cell]
        match event:
            case PhaseStarted():
                row.started_s = at_s if row.started_s is None else row.started_s
                row.attempt, row.phase, row.note = key.number, event.phase.value, ""
            case PhaseEnded() if event.ending is not Ending.OK:
                what = f"{event.phase.value} {event.ending.value} after {event.duration_s:.1f} s"
                self._say(key.cell, what, event.detail, at_s=at_s)
            case PhaseEnded():
                self._say(key.cell, f"{event.phase.value} {event.duration_s:.1f} s", at_s=at_s)
            case GuestCreated():
                row.hypervisor = guest_words(event.facts)
            case Held():
                self._say(key.cell, f"held until {event.until:%H:%M:%S} UTC", event.command or _ASK, at_s=at_s)
            case _:
                pass

    def tested(self, cell: str, tests: int, failed: int) -> None:
        """Results of tests came in, so many of them bad."""
        self._rows[cell].tests += tests
        self._rows[cell].failed += failed

    def conclude(self, cell: str, outcome: Outcome, *, at_s: float) -> None:
        """A cell had its verdict at a time."""
        row = self._rows[cell]
        row.outcome, row.ended_s, row.phase, row.note = outcome, at_s, "", ""
        word, style = verdict_word(outcome)
        self._say(cell, word.upper(), outcome.summary, at_s=at_s, style=style, always=True)

    def _note(self, cell: str, data: bytes) -> None:
        row = self._rows[cell]
        row.note = (clean(data, limit=4096).strip().splitlines() or [""])[-1][:_NOTE_CHARS]
        if row.note and not self._console.is_terminal:
            self._say(cell, row.note, at_s=self._clock())

    def _say(
        self, cell: str, what: str, detail: str = "", *, at_s: float, style: str = "", always: bool = False
    ) -> None:
        if self._console.is_terminal and not always and not detail:
            return
        line = Text(f"{at_s:7.1f} s  ", style="dim")
        line.append(f"{cell:<{self._width()}}  ", style="default")
        line.append(what, style=style or "default")
        if detail:
            line.append(f"  {clean(detail, limit=500)}", style="default")
        self._console.print(line, soft_wrap=True)

    def _width(self) -> int:
        return max(map(len, self._rows), default=0)

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("cell", "phase", "time", "guest", "tests", "result"):
            table.add_column(column, no_wrap=column != "result", justify="right" if column == "time" else "left")
        now_s = self._clock()
        for cell, row in self._rows.items():
            table.add_row(cell, *_columns(row, now_s))
        return table


def _columns(row: _Row, now_s: float) -> Iterator[RenderableType]:
    until_s = now_s if row.ended_s is None else row.ended_s
    retry = f" (attempt {row.attempt})" if row.attempt > 1 else ""
    yield f"{row.phase}{retry}" if row.started_s is not None else Text(row.phase, style="dim")
    yield f"{until_s - row.started_s:.0f} s" if row.started_s is not None else ""
    yield row.hypervisor
    yield f"{row.tests - row.failed}/{row.tests}" if row.tests else ""
    if row.outcome:
        word, style = verdict_word(row.outcome)
        yield Text(word, style=style)
    else:
        yield Text(row.note, style="dim", overflow="ellipsis")
