"""Waiting for what is to come, for as long as that may take and no longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LOOK_S = 0.02


def eventually(value: Callable[[], T], *, within_s: float = 60.0, what: str = "what is waited for") -> T:
    """The value as soon as it is a true one; it has to become one within this time."""
    until = time.monotonic() + within_s
    while not (found := value()):
        assert time.monotonic() < until, f"not within {within_s:g} s: {what}"
        time.sleep(_LOOK_S)
    return found
