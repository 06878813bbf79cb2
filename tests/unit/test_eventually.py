"""What the tests themselves wait with: it sees what came last, and says what did not come."""

from __future__ import annotations

import pytest

from tests.waiting import eventually


def test_the_value_comes_back_as_soon_as_it_is_a_true_one() -> None:
    values = iter([None, "", 0, "there"])
    assert eventually(lambda: next(values), what="a value") == "there"


def test_what_does_not_come_is_told_with_what_is_there_at_the_failure() -> None:
    looks: list[int] = []
    with pytest.raises(AssertionError, match=r"^not within 0 s: three; there are 1$"):
        eventually(lambda: looks.append(1), within_s=0, what=lambda: f"three; there are {len(looks)}")


def test_what_can_come_no_more_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"^it cannot come any more: the end$"):
        eventually(lambda: None, within_s=3600, as_long_as=lambda: False, what="the end")


def test_what_came_just_before_the_end_has_come() -> None:
    assert eventually(lambda: "there", as_long_as=lambda: False, what="a value") == "there"
