"""A run that somebody else carries out, shown from its events."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from farm.model import EventRecord
from farm.replay import Replay
from tests.unit.records import facts

CREATED = datetime(2025, 3, 14, 9, 26, 53, tzinfo=UTC)
CELLS = ("debian-13/amd64", "debian-13/s390x")


def event(number: int, kind: str, second: float, cell: str | None = CELLS[0], **payload: Any) -> EventRecord:
    at = CREATED + timedelta(seconds=second)
    return EventRecord(id=number, run="r-1", cell=cell, number=1, at=at, kind=kind, payload=payload)


def shown(*events: EventRecord, terminal: bool = False) -> tuple[str, Replay]:
    console = Console(file=io.StringIO(), width=160, force_terminal=terminal, color_system=None, highlight=False)
    replay = Replay(CELLS, CREATED, console, now=lambda: CREATED + timedelta(seconds=60))
    for one in events:
        replay.heard(one)
    if terminal:
        console.print(replay.display._table())
    return console.file.getvalue(), replay  # type: ignore[attr-defined]


PASSED = {"verdict": "passed", "rule": "passed", "summary": "3 tests passed"}


def test_lines_have_the_time_at_which_it_happened() -> None:
    text, replay = shown(
        event(1, "run-submitted", 0, None, cells=2),
        event(2, "attempt-started", 1),
        event(3, "phase-started", 1, phase="boot"),
        event(4, "phase-ended", 3.5, phase="boot", ending="ok", duration_s=2.5),
        event(
            5, "phase-ended", 4, phase="test", ending="failed", duration_s=0.5, exit_status=1, detail="it returned 1"
        ),
        event(6, "cell-finished", 5, **PASSED),
    )
    assert text.splitlines() == [
        "    3.5 s  debian-13/amd64  boot 2.5 s",
        "    4.0 s  debian-13/amd64  test failed after 0.5 s  it returned 1",
        "    5.0 s  debian-13/amd64  PASSED  3 tests passed",
    ]
    assert replay.last == 6


def test_a_table_counts_from_the_beginning_of_the_run() -> None:
    guest = facts("s390x").model_dump(mode="json")
    text, _ = shown(
        event(1, "phase-started", 20, CELLS[1], phase="test"),
        event(2, "guest", 21, CELLS[1], facts=guest),
        event(3, "tests", 22, CELLS[1], tests=5, failed=2),
        terminal=True,
    )
    assert text.splitlines()[-1].split() == [CELLS[1], "test", "40", "s", "qemu", "(emulated,", "restored)", "3/5"]


def test_how_to_get_into_a_guest_is_told_where_those_can_ask_who_may() -> None:
    until = CREATED + timedelta(hours=1)
    text, _ = shown(event(1, "held", 2, until=until.isoformat(), evidence={}))
    assert text == "    2.0 s  debian-13/amd64  held until 10:26:53 UTC  its owner gets in: farm reservations\n"


def test_a_verdict_that_comes_twice_is_shown_once() -> None:
    text, _ = shown(event(1, "cell-finished", 5, **PASSED), event(0, "cell-finished", 0, **PASSED))
    assert text.count("PASSED") == 1


def test_what_a_newer_farm_says_is_left_out() -> None:
    text, _ = shown(
        event(1, "invented-later", 1),
        event(2, "phase-ended", 2, phase="boot", ending="ok", duration_s=1.0, news=1),
        event(3, "phase-ended", 3, phase="invented-later", ending="ok", duration_s=1.0),
        event(4, "cell-finished", 4, **PASSED, news=1),
    )
    assert [line.split()[2:4] for line in text.splitlines()] == [[CELLS[0], "boot"], [CELLS[0], "PASSED"]]
