"""What a guest has used: libvirt's numbers, and the guest's own word on its network."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import DeadlineError, FarmError, LostError
from farm.model import Stream
from runners.counters import Traffic, read, traffic
from runners.deadline import Deadline
from runners.guest import Chunk, Work, wait_for
from runners.libvirt.usage import from_stats

DEV = (Path(__file__).parents[1] / "data/proc-net-dev").read_bytes()
STATS: dict[str, int | str] = {
    "cpu.time": 1_500_000_000,
    "block.count": 2,
    "block.0.name": "vdb",
    "block.0.rd.bytes": 512,
    "block.0.wr.bytes": 0,
    "block.1.name": "vda",
    "block.1.rd.bytes": 4096,
    "block.1.wr.bytes": 8192,
}


class Answering:
    """A shell that says the same to everything, or fails."""

    def __init__(self, answers: Iterable[bytes | FarmError]) -> None:
        self._answers = answers
        self.open = 0

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        assert (command, stdin) == ("cat /proc/net/dev", None)
        deadline.check()
        self.open += 1
        try:
            yield Chunk(Stream.STDERR, b"eth9: 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0 0\n")
            for answer in self._answers:
                if isinstance(answer, FarmError):
                    raise answer
                yield Chunk(Stream.STDOUT, answer)
        finally:
            self.open -= 1
        return 0

    def close(self) -> None:
        """Nothing is open."""


def asked(*answers: bytes | FarmError) -> Traffic | None:
    shell = Answering(answers)
    found = wait_for(traffic(shell, Deadline.after(5, "ask")))
    assert shell.open == 0
    return found


def test_the_cards_are_added_up_without_the_loopback() -> None:
    assert read(DEV) == Traffic(received=12345678901 + 14388, sent=4730 + 70)


def test_an_answer_may_come_in_pieces_and_what_is_said_besides_does_not_count() -> None:
    assert asked(DEV[:100], DEV[100:]) == read(DEV)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"cat: can't open '/proc/net/dev': No such file or directory\n",
        b"eth0: 1 2 3\n",
        b"eth0: -1 0 0 0 0 0 0 0 1 0\n",
        b"eth0: " + b"9" * 400 + b" 0 0 0 0 0 0 0 1 0\n",
        b"eth0: 1e9 0 0 0 0 0 0 0 1 0\n",
        DEV[: DEV.index(b"  eth0")],
    ],
)
def test_what_is_no_counter_is_none(answer: bytes) -> None:
    assert asked(answer) is None


@given(st.binary(max_size=400))
def test_no_answer_does_harm(answer: bytes) -> None:
    found = read(answer)
    assert found is None or (found.received >= 0 and found.sent >= 0)


@pytest.mark.parametrize("error", [LostError("cannot: gone"), DeadlineError("cannot: not done within 3 s")])
def test_a_guest_that_does_not_answer_is_no_failure(error: FarmError) -> None:
    assert asked(DEV[:200], error) is None


def test_a_flood_is_not_listened_to() -> None:
    shell = Answering(itertools.repeat(b"x" * 4096))
    assert wait_for(traffic(shell, Deadline.after(5, "ask"))) is None
    assert shell.open == 0


def test_libvirt_s_numbers_are_those_of_the_root_disk() -> None:
    assert from_stats(STATS) == {"cpu_s": 1.5, "disk_read_bytes": 4096, "disk_written_bytes": 8192}


@pytest.mark.parametrize(
    ("without", "left"),
    [
        ("cpu.time", {"disk_read_bytes", "disk_written_bytes"}),
        ("block.count", {"cpu_s"}),
        ("block.1.wr.bytes", {"cpu_s"}),
    ],
)
def test_what_libvirt_does_not_say_is_not_known(without: str, left: set[str]) -> None:
    assert set(from_stats({key: value for key, value in STATS.items() if key != without})) == left
