"""Measuring how slow a guest is: the program for real, on this host, and with a played guest what is made of it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import HostError, UntrustedError
from farm.model import Slowness, Stream
from runners.calibration import measure
from runners.calibration.measure import LEAST, Rates, calibrate, compare, middle, rate
from runners.calibration.program import KINDS, read_numbers
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work, wait_for
from tests.unit.slowed import HOST, TENFOLD, SlowShell


class RealShell:
    """A shell that runs its commands on this host, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        yield TICK
        sent = stdin.read() if stdin else b""
        environment = os.environ | {"HOME": str(self.home)}
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            input=sent,
            capture_output=True,
            env=environment,
            timeout=deadline.remaining,
            check=False,
        )
        yield Chunk(Stream.STDOUT, ended.stdout)
        yield Chunk(Stream.STDERR, ended.stderr)
        return ended.returncode

    def close(self) -> None:
        """It is no connection."""


def soon() -> Deadline:
    return Deadline.after(60, "measure")


positive = st.floats(0.01, 1e6)
rates = st.builds(Rates, positive, positive, positive)


@given(st.lists(rates, min_size=1, max_size=5), st.lists(rates, min_size=1, max_size=5))
def test_the_middle_of_both_is_compared(host: list[Rates], guest: list[Rates]) -> None:
    found = compare(host, guest)
    for name in KINDS:
        ratio = median(getattr(r, name) for r in host) / median(getattr(r, name) for r in guest)
        assert getattr(found, name) == round(max(LEAST, ratio), 2)
    assert compare([middle(host)], [middle(guest)]) == found


def test_a_round_that_was_disturbed_does_not_count() -> None:
    calm, disturbed = Rates(1000, 100, 10), Rates(100, 10, 1)
    guest = Rates(100, 5, 20)
    assert compare([calm, disturbed, calm], [guest, guest, disturbed]) == Slowness(cpu=10, fork=20, disk=0.5)


def test_who_had_half_a_cpu_would_have_done_twice_as_much_but_for_the_disk() -> None:
    assert [rate(kind, 10.0, 0.5) for kind in KINDS] == [20.0, 20.0, 10.0]
    assert rate("cpu", 10.0, 1.7) == 10.0
    assert rate("cpu", 10.0, 0.0) == rate("cpu", 10.0, 0.05)


@pytest.mark.parametrize(
    "answer", [b"", b"farm-rate 1.0000", b"farm-rate 0.0000 1.0000\n", b"farm-rate inf nan\n", b"\xff" * 4096]
)
def test_an_answer_that_is_no_rate_is_refused(answer: bytes) -> None:
    with pytest.raises(UntrustedError, match="not what was asked for"):
        read_numbers(answer)


def test_what_the_guest_had_of_a_cpu_is_asked_of_its_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_on_host", lambda _folder, _kind: HOST)
    shell = SlowShell()
    used = iter(range(1000))  # a second more at each look: more than can be
    assert wait_for(calibrate(shell, lambda: next(used), tmp_path, soon())).slowness == TENFOLD
    nothing = calibrate(shell, lambda: 0.0, tmp_path, soon())
    assert wait_for(nothing).slowness == Slowness(cpu=0.5, fork=0.5, disk=10)
    assert wait_for(calibrate(shell, lambda: None, tmp_path, soon())).slowness == TENFOLD


def test_the_program_runs_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "ROUND_S", 0.02)
    host, guest = tmp_path / "host", tmp_path / "guest"
    host.mkdir()
    guest.mkdir()
    calibration = wait_for(calibrate(RealShell(guest), time.process_time, host, soon()))
    assert all(done > 0 for done in (*calibration.host, *calibration.guest))
    assert calibration.slowness == compare([calibration.host], [calibration.guest])
    assert [*host.iterdir(), *guest.iterdir()] == []


def test_a_host_on_which_it_cannot_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot measure the host: cannot write"):
        wait_for(calibrate(SlowShell(), lambda: None, tmp_path / "none", soon()))
