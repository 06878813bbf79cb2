"""What is known of Ray's head while nobody waits for it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from farm import head
from farm.errors import HostError
from farm.head import HeadWatch
from farm.latest import Latest
from tests.waiting import eventually

SOON_S = 20.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_PERIOD_S", 0.02)
    monkeypatch.setattr(head, "REFUSED_S", 0.2)


def test_a_head_that_ends_is_told_once_and_one_that_stands_still_is_not() -> None:
    told: list[str] = []
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:  # it accepts nothing, as one that is stopped
        port = listener.getsockname()[1]
        watch = HeadWatch(f"127.0.0.1:{port}", lambda what: (told.append(what), gone.set())[1])
        watch.start()
        assert not gone.wait(1)
    assert gone.wait(SOON_S)
    watch._thread.join(SOON_S)
    assert told == [f"Ray's head is gone: 127.0.0.1:{port} does not answer (Connection refused)"]


def test_who_wants_to_know_no_more_is_told_nothing() -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch = HeadWatch(f"127.0.0.1:{listener.getsockname()[1]}", told.append)
        watch.start()
    watch.stop()
    watch._thread.join(SOON_S)
    assert told == []


def test_the_last_answer_is_there_while_the_next_is_waited_for() -> None:
    waits, asked = threading.Event(), threading.Event()

    def ask() -> int:
        if asked.is_set():
            waits.wait()
        asked.set()
        return 7

    latest = Latest(ask, "ask", every_s=0.01, silent_s=0.5)
    with pytest.raises(HostError, match="cannot ask: there was no answer at all"):
        latest.get()
    latest.start()
    assert latest.get() == 7
    time.sleep(0.6)
    with pytest.raises(HostError, match=r"cannot ask: there was no answer for \d+ s"):
        latest.get()
    waits.set()
    eventually(lambda: not problem(latest), within_s=SOON_S, what=lambda: f"it answers; it does not: {problem(latest)}")
    assert latest.get() == 7
    latest.stop()


def problem(latest: Latest[int]) -> str:
    """Why there is no answer, where there is none."""
    try:
        latest.get()
    except HostError as error:
        return error.message
    return ""


def test_a_problem_is_told_until_there_is_an_answer_again() -> None:
    broken = threading.Event()

    def ask() -> int:
        if broken.is_set():
            raise HostError("no")
        return 7

    latest = Latest(ask, "ask", every_s=0.01)
    latest.start()
    broken.set()
    assert eventually(lambda: problem(latest), within_s=SOON_S, what="there is a problem") == "no"
    broken.clear()
    eventually(lambda: not problem(latest), within_s=SOON_S, what="there is an answer again")
    latest.stop()
