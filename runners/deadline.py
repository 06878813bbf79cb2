"""A point on the monotonic clock by which something has to be done."""

from __future__ import annotations

import time
from dataclasses import dataclass

from farm.errors import DeadlineError


@dataclass(frozen=True)
class Deadline:
    """What is being done, and until when (seconds of `time.monotonic`)."""

    what: str
    at: float
    allowed_s: float
    reason: str = ""
    """Where it is not as the matrix says, why: "30 s × 14.2 for emulation"."""

    @classmethod
    def after(cls, seconds: float, what: str, reason: str = "") -> Deadline:
        """A deadline this many seconds from now; `what` is a verb and a thing: "boot the guest"."""
        return cls(what, time.monotonic() + seconds, seconds, reason)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def check(self) -> None:
        """Raise DeadlineError if it has passed."""
        if self.remaining == 0.0:
            why = f" ({self.reason})" if self.reason else ""
            raise DeadlineError(f"cannot {self.what}: not done within {self.allowed_s:g} s{why}")
