"""The console's classification, on real consoles in tests/data/console."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.console import find_crash, tail

CONSOLES = Path(__file__).parents[1] / "data/console"


@pytest.mark.parametrize("file", sorted(CONSOLES.glob("*/*.log")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_real_console_shows_the_crash_that_its_folder_is_named_after(file: Path) -> None:
    crash = find_crash(file.read_bytes())
    assert (crash.rule if crash else "none") == file.parent.name


def test_there_are_real_consoles_of_three_architectures() -> None:
    assert {file.stem.split("-")[0] for file in CONSOLES.glob("kernel-panic/*.log")} >= {"amd64", "riscv64", "s390x"}


def test_the_gravest_rule_wins_and_its_line_comes_first() -> None:
    crash = find_crash(b"Oops: 0002 [#1]\r\nKernel panic - not syncing: Attempted to kill init! exitcode=0x0b\r\n")
    assert crash
    assert crash.rule == "init-died"
    assert crash.lines[0].startswith("Kernel panic")


def test_a_quiet_console_shows_no_crash() -> None:
    assert find_crash(b"farm-guest: ready\n") is None
    assert find_crash(b"") is None


def test_rubbish_is_no_crash_and_no_error() -> None:
    assert find_crash(bytes(range(256)) * 100) is None


def test_the_tail_is_the_last_lines_that_say_something() -> None:
    assert tail(b"one\n\n\ntwo \r\n\nthree\n\n", lines=2) == ("two", "three")
