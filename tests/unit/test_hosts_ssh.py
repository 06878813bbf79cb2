"""What becomes of a command that still begins on another machine, when nobody waits for it any more."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from farm.errors import DeadlineError, HostError
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.hosts import ssh
from runners.hosts.ssh import SshLink
from runners.hosts.uri import parse_uri


@dataclass
class Channel:
    """One that says only whether it was closed."""

    closed: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        self.closed.set()


class Slow(SshLink):
    """The other end answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(parse_uri("qemu+ssh://root@h/system"))
        self.answers = threading.Event()
        self.channel = Channel()
        self.error: HostError | None = None

    def _start(self, command: str, deadline: Deadline) -> Any:  # noqa: ARG002 - it answers all alike
        assert self.answers.wait(20)
        if self.error:
            raise self.error
        return self.channel


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Slow:
    monkeypatch.setattr(ssh, "_TICK_S", 0.01)
    return Slow()


def test_a_command_whose_caller_left_is_ended_once_it_has_begun(link: Slow) -> None:
    work = link.execute("sleep 600", deadline=Deadline.after(600, "sleep"))
    next(work)
    work.close()
    assert not link.channel.closed.is_set()
    link.answers.set()
    assert link.channel.closed.wait(20)


def test_a_command_whose_time_was_over_is_ended_once_it_has_begun(link: Slow) -> None:
    with pytest.raises(DeadlineError):
        wait_for(link.execute("sleep 600", deadline=Deadline.after(0.05, "sleep")))
    link.answers.set()
    assert link.channel.closed.wait(20)


def test_one_that_cannot_begin_says_why(link: Slow) -> None:
    link.error = HostError("cannot reach root@h")
    link.answers.set()
    with pytest.raises(HostError, match="cannot reach root@h"):
        wait_for(link.execute("true", deadline=Deadline.after(600, "do it")))
