"""The console's classification, on real consoles in tests/data/console."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.console import RULES, find_crash, tail
from tests.consoles import ARCHITECTURES

CONSOLES = Path(__file__).parents[1] / "data/console"


@pytest.mark.parametrize("file", sorted(CONSOLES.glob("*/*.log")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_real_console_shows_the_crash_that_its_folder_is_named_after(file: Path) -> None:
    crash = find_crash(file.read_bytes())
    assert (crash.rule if crash else "none") == file.parent.name


def test_there_are_real_consoles_of_each_kind_and_of_all_architectures_that_boot_in_seconds() -> None:
    kinds = {folder.name for folder in CONSOLES.iterdir()}
    assert kinds == {"none", *(rule for rule, _ in RULES)} - {"no-root"}
    assert {file.stem.split("-")[0] for file in CONSOLES.glob("kernel-panic/*.log")} == set(ARCHITECTURES)


def test_a_guest_without_its_root_disk_says_so() -> None:
    crash = find_crash(b"[1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n")
    assert crash
    assert crash.rule == "no-root"


@pytest.mark.parametrize("file", sorted(CONSOLES.glob("*/*.log")), ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_console_that_is_cut_anywhere_shows_nothing_graver(file: Path) -> None:
    data, order = file.read_bytes(), [rule for rule, _ in RULES]
    whole = find_crash(data)
    for end in range(0, len(data), max(1, len(data) // 50)):
        if crash := find_crash(data[:end]):
            assert whole
            assert order.index(whole.rule) <= order.index(crash.rule)


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
