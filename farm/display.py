"""What a person sees while a run goes on: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farm.model import (
    AttemptKey,
    Ending,
    Event,
    GuestCreated,
    GuestFacts,
    Held,
    LogChunk,
    Outcome,
    PhaseEnded,
    PhaseStarted,
    Plan,
    Start,
    Stream,
    TestsFound,
    TestStatus,
    Verdict,
)
from farm.text import clean

STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.ERROR: "bold magenta",
    Verdict.SKIPPED: "dim",
    Verdict.CANCELLED: "yellow",
}
_NOTE_CHARS = 100


def guest_words(facts: GuestFacts) -> str:
    """`kvm`, `qemu (emulated, restored)`."""
    how = [word for word, so in (("emulated", facts.emulated), ("restored", facts.start is Start.RESTORED)) if so]
    return f"{facts.hypervisor} ({', '.join(how)})" if how else facts.hypervisor


@dataclass
class _Row:
    """What is shown of a cell."""

    started: float | None = None
    phase: str = "queued"
    phase_started: float = 0.0
    attempt: int = 1
    hypervisor: str = ""
    tests: int = 0
    failed: int = 0
    note: str = ""
    outcome: Outcome | None = None
    ended: float | None = None


class Display:
    """A Watcher that shows."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._console = console
        self._rows = {placement.cell.id: _Row() for placement in plan.placements}
        self._started = time.monotonic()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the table for as long as this lasts; does nothing where there is no terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=4):
            yield

    def event(self, key: AttemptKey, event: Event) -> None:
        """An attempt said something."""
        row = self._rows[key.cell]
        match event:
            case PhaseStarted():
                now = time.monotonic()
                row.started = row.started or now
                row.attempt, row.phase, row.phase_started, row.note = key.number, event.phase.value, now, ""
            case PhaseEnded() if event.ending is not Ending.OK:
                self._say(
                    key.cell, f"{event.phase.value} {event.ending.value} after {event.duration_s:.1f} s", event.detail
                )
            case PhaseEnded():
                self._say(key.cell, f"{event.phase.value} {event.duration_s:.1f} s")
            case GuestCreated():
                row.hypervisor = guest_words(event.facts)
            case TestsFound():
                row.tests += len(event.tests)
                row.failed += sum(test.status in (TestStatus.FAILED, TestStatus.ERROR) for test in event.tests)
            case LogChunk(stream=Stream.FARM):
                row.note = (clean(event.data, limit=4096).strip().splitlines() or [""])[-1][:_NOTE_CHARS]
                if row.note and not self._console.is_terminal:
                    self._say(key.cell, row.note)
            case Held():
                self._say(key.cell, f"held until {event.until:%H:%M:%S} UTC", event.command)
            case _:
                pass

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """A cell has its verdict."""
        row = self._rows[cell]
        row.outcome, row.ended, row.phase, row.note = outcome, time.monotonic(), "", ""
        self._say(cell, outcome.verdict.value.upper(), outcome.summary, style=STYLES[outcome.verdict], always=True)

    def _say(self, cell: str, what: str, detail: str = "", *, style: str = "", always: bool = False) -> None:
        if self._console.is_terminal and not always and not detail:
            return
        line = Text(f"{time.monotonic() - self._started:7.1f} s  ", style="dim")
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
        for cell, row in self._rows.items():
            table.add_row(cell, *_columns(row))
        return table


def _columns(row: _Row) -> Iterator[RenderableType]:
    now = row.ended or time.monotonic()
    retry = f" (attempt {row.attempt})" if row.attempt > 1 else ""
    yield f"{row.phase}{retry}" if row.started else Text(row.phase, style="dim")
    yield f"{now - row.started:.0f} s" if row.started else ""
    yield row.hypervisor
    yield f"{row.tests - row.failed}/{row.tests}" if row.tests else ""
    if row.outcome:
        yield Text(row.outcome.verdict.value, style=STYLES[row.outcome.verdict])
    else:
        yield Text(row.note, style="dim", overflow="ellipsis")
