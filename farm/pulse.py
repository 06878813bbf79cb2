"""Whether the controller's loop goes round, how often and how fast. Written by the loop, read from any thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from farm.metrics import Histogram, seconds


class Pulse:
    """Counts the rounds of a loop; each number is whole at any time, though two may be of different rounds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._last = clock()
        self.failures = 0
        """Rounds that could not be ended, since this process began."""
        self.durations = Histogram(seconds(0.001, 60))
        """Of the rounds, in seconds."""

    @contextmanager
    def beat(self) -> Iterator[None]:
        """One round."""
        began = self._clock()
        yield
        self._last = self._clock()
        self.durations.observe(self._last - began)

    def failed(self) -> None:
        """A round could not be ended."""
        self.failures += 1

    @property
    def age_s(self) -> float:
        """Seconds since the end of the last round, or since the beginning of all."""
        return self._clock() - self._last
