"""A phase that is not done in time, and a script that fails: what is left to look at afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from farm.errors import LostError
from farm.model import AttemptEnded, Collect, Event, Failure, LogChunk, Phase, PhaseEnded, Stream, Timeouts
from farm.verdict import classify
from runners import lastwords
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.fake import FakeShell
from runners.guest import TICK, Chunk, Work
from tests.orders import make_order, make_source

SOON = Timeouts(test=0.2, scale=False)


def attempt(test: str, **changes: object) -> list[Event]:
    return list(run_attempt(make_order(test, **changes), make_source()))


def farm_said(events: list[Event], phase: Phase) -> str:
    found = (e for e in events if isinstance(e, LogChunk) and e.phase is phase and e.stream is Stream.FARM)
    return b"".join(event.data for event in found).decode()


def failure_of(events: list[Event]) -> Failure:
    last = events[-1]
    assert isinstance(last, AttemptEnded)
    assert last.evidence.failure
    return last.evidence.failure


@pytest.fixture
def dumb(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that does what it was told, and answers no question."""
    execute = FakeShell.execute

    def silent(self: FakeShell, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        if command != lastwords.PROCESSES:
            return (yield from execute(self, command, deadline=deadline, stdin=stdin))
        while True:
            yield TICK
            time.sleep(0.01)

    monkeypatch.setattr(FakeShell, "execute", silent)
    monkeypatch.setattr("runners.attempt.ANSWER_S", 0.1)


def test_the_log_of_a_stuck_phase_ends_with_the_console_and_the_processes() -> None:
    events = attempt("sleep 600\n", timeouts=SOON)
    said = farm_said(events, Phase.TEST)
    assert said.index("the last lines of its console") < said.index("farm-guest: ready") < said.index("its processes")
    assert "1 0 S 00:01 - init" in said
    ended = next(place for place, e in enumerate(events) if isinstance(e, PhaseEnded) and e.phase is Phase.TEST)
    assert not any(isinstance(event, LogChunk) and event.phase is Phase.TEST for event in events[ended:])


@pytest.mark.usefixtures("dumb")
def test_a_guest_that_does_not_answer_stands_still_and_its_results_are_asked_for_all_the_same() -> None:
    script = "echo 'ok 1 - one' > results.tap\nsleep 600\n"
    events = attempt(script, timeouts=SOON, collect=Collect(artifacts=("*.tap",)))
    failure = failure_of(events)
    assert failure.crash == "hung"
    assert failure.lines[-1] == lastwords.NO_ANSWER
    assert "does not tell its processes within" in farm_said(events, Phase.TEST)
    assert any(isinstance(event, PhaseEnded) and event.phase is Phase.COLLECT for event in events)
    assert "(the guest's console: hung)" in classify(events[-1].evidence).summary  # type: ignore[union-attr]


def test_a_guest_that_does_not_come_up_is_not_asked_for_processes() -> None:
    events = attempt("true\n", env={"FAKE_BOOT": "hang"}, timeouts=Timeouts(boot=0.2, scale=False))
    said = farm_said(events, Phase.BOOT)
    assert "fake: booting" in said
    assert "processes" not in said


def test_a_cancel_while_it_is_asked_ends_the_phase_as_cancelled(dumb: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.attempt.ANSWER_S", 60)
    running = run_attempt(make_order("sleep 600\n", timeouts=SOON), make_source())
    for event in running:
        if isinstance(event, LogChunk) and b"its console" in event.data:
            break
    ended = running.throw(KeyboardInterrupt())
    while not isinstance(ended, PhaseEnded):
        ended = next(running)
    assert ended.ending == "cancelled"
    with pytest.raises(KeyboardInterrupt):
        next(running)


class Talker:
    """A shell that answers with these pieces."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self._pieces, self._error = pieces, error

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        assert (command, stdin) == (lastwords.PROCESSES, None)
        deadline.check()
        for piece in self._pieces:
            yield Chunk(Stream.STDOUT, piece)
        if self._error:
            raise self._error
        return 0

    def close(self) -> None:
        """Nothing is open."""


class Quiet:
    """A guest whose console has said nothing."""

    def console(self) -> bytes:
        return b""


def words(shell: Talker) -> tuple[bytes, int | None]:
    work: Iterator[Chunk] = lastwords.last_words(Quiet(), shell, 5)  # type: ignore[arg-type]
    said = b""
    while True:
        try:
            said += next(work).data
        except StopIteration as end:
            return said, end.value


def test_a_console_that_has_said_nothing_is_said_to_have() -> None:
    said, answers = words(Talker(b"1 init\n"))
    assert said == b"[farm: its console has said nothing at all]\n[farm: its processes]\n1 init\n"
    assert answers == 0


def test_an_answer_without_end_is_cut_off() -> None:
    said, answers = words(Talker(*[b"x" * 60_000] * 100))
    assert len(said) < 70_000
    assert answers == 0


def test_a_connection_that_breaks_is_no_answer() -> None:
    assert words(Talker(b"1 in", error=LostError("cannot go on")))[1] == 1


def test_a_script_that_failed_rests_on_its_last_lines() -> None:
    events = attempt("echo one\necho two >&2\nexit 3\n")
    assert failure_of(events).lines == ("one", "two")
    assert classify(events[-1].evidence).lines == ("one", "two")  # type: ignore[union-attr]


def test_the_lines_of_a_script_that_failed_hold_no_secret() -> None:
    events = attempt("echo the $TOKEN is\nexit 3\n", secrets={"TOKEN": "hush-hush"})
    assert failure_of(events).lines == ("the *** is",)
