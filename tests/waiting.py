"""Waiting for what is to come, for as long as that may take and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LEAST_S, _MOST_S = 0.02, 0.1
"""Between two looks."""


def eventually(
    value: Callable[[], T | None],
    *,
    what: str | Callable[[], str],
    within_s: float = 60.0,
    as_long_as: Callable[[], object] = lambda: True,
) -> T:
    """The value as soon as it is a true one.

    It has to become one within so many seconds, and while something holds without which it cannot come any more. `what`
    says what is waited for; where it also says what there is instead, it is a function, called at the failure only.
    Raises AssertionError.
    """
    until = time.monotonic() + within_s
    while True:
        began = time.monotonic()
        can_come = as_long_as()  # asked first: what came just before the end has come
        if found := value():
            return found
        assert can_come, f"it cannot come any more: {_words(what)}"
        assert time.monotonic() < until, f"not within {within_s:g} s: {_words(what)}"
        # A look that is expensive is not to slow down what is waited for: it may take half of the time.
        time.sleep(min(max(_LEAST_S, time.monotonic() - began), _MOST_S))


def _words(what: str | Callable[[], str]) -> str:
    return what if isinstance(what, str) else what()
