"""The short run of the fuzzer: where it begins, what it has found before, and the same damage to both each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.targets import DATA, TARGETS, seeds

ROUNDS = 40
PIECES = (b"<", b"&", b"\0", b"\x1b[", b"]]>", b"\xff", b"\n", b"'", b"9" * 20, b"\xe2\x80\xae")


def found_before() -> list[Path]:
    return sorted((DATA / "fuzz").glob("*/*"))


@pytest.mark.parametrize("target", TARGETS)
def test_what_reads_a_guests_bytes_keeps_its_promises_on_damaged_files(target: str) -> None:
    for data in seeds(target):
        TARGETS[target](data)
        for damaged in damages(data, target):
            TARGETS[target](damaged)


@pytest.mark.parametrize("file", found_before(), ids=lambda file: f"{file.parent.name}-{file.name}")
def test_what_the_fuzzer_has_found_stays_mended(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


def damages(data: bytes, target: str) -> Iterator[bytes]:
    chance = random.Random(f"{target}{len(data)}")  # noqa: S311 - the same each time
    for _ in range(ROUNDS):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((0, 1, 8, 600)))
        yield data[:start] + chance.choice(PIECES) + data[end:]
        yield data[:start]
