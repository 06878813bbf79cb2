"""Things that are to be done at some time, for several threads."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiting(Generic[T]):
    """A queue whose entries may come out later than at once."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._entries: list[tuple[float, int, T]] = []
        self._count = itertools.count()

    def put(self, thing: T, *, after_s: float = 0.0) -> None:
        """Have it come out after so many seconds, if a thread is free then."""
        with self._news:
            # The number keeps the order of what is due at the same time, and things from being compared.
            heapq.heappush(self._entries, (time.monotonic() + after_s, next(self._count), thing))
            self._news.notify()

    def get(self) -> T:
        """The first that is due; waits for it."""
        with self._news:
            while (wait_s := self._wait_s()) is None or wait_s > 0:
                self._news.wait(wait_s)
            return heapq.heappop(self._entries)[2]

    def _wait_s(self) -> float | None:
        return self._entries[0][0] - time.monotonic() if self._entries else None
