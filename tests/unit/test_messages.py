import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.report.messages import normal

SAME = {
    "tests/test_swap.c:57: expected 0x01020304, got 4": "<path>:N: expected <hex>, got N",
    "/tmp/build-4711/x.o: No such file": "<path>: No such file",
    "../lib/a.c:3:14: error": "<path>:N:N: error",
    "./run failed": "<path> failed",
    r"C:\Temp\x.txt is locked": "<path> is locked",
    "at 2025-03-14T09:26:53.123Z it broke": "at <time> it broke",
    "2025-03-14 09:26:53,123 it broke": "<time> it broke",
    "09:26:53 it broke": "<time> it broke",
    "took 12.5 s, not -3": "took N s, not N",
    "1,024 of 2.5e-10": "N of N",
    "object at 0x7f3a9c00": "object at <hex>",
    "commit 9f2c4e5b1a7d is bad": "commit <hex> is bad",
    "id 123e4567-e89b-12d3-a456-426614174000": "id <id>",
    "load_be32 and sha256 are names": "load_be32 and sha256 are names",
    "decade of facade": "decade of facade",
    "  two   spaces ": "two spaces",
    "": "",
}


@pytest.mark.parametrize(("message", "same"), SAME.items())
def test_what_is_another_in_every_run_goes(message: str, same: str) -> None:
    assert normal(message) == same


@pytest.mark.parametrize("message", ["-" * 2_000, "a/" * 1_000, "f" * 2_000, "1." * 1_000, "~+" * 1_000, "/" * 2_000])
def test_long_messages_of_one_sign_come_back(message: str) -> None:
    assert len(normal(message)) <= 2_000


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_messages_that_differ_in_numbers_are_the_same(one: int, other: int) -> None:
    assert normal(f"expected {one} of tests") == normal(f"expected {other} of tests")
