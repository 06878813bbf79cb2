"""What is said of a guest while a run goes on, and after it."""

from __future__ import annotations

import pytest

from farm.display import guest_words
from farm.model import Start
from tests.unit.records import facts


@pytest.mark.parametrize(
    ("arch", "start", "words"),
    [
        ("amd64", Start.COLD, "kvm"),
        ("amd64", Start.RESTORED, "kvm (restored)"),
        ("s390x", Start.COLD, "qemu (emulated)"),
        ("s390x", Start.RESTORED, "qemu (emulated, restored)"),
    ],
)
def test_a_guest_in_a_few_words(arch: str, start: Start, words: str) -> None:
    assert guest_words(facts(arch).model_copy(update={"start": start})) == words
