"""How often something is done that is cheaper done seldom: it may take a share of the time, and no more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Pace:
    """After work that took long comes a long pause, in which more gathers; after work that took none, there is none."""

    def __init__(self, *, pause: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`pause` is how many times as long as the work, `longest_s` how long at most; `clock` gives seconds."""
        self._pause = pause
        self._longest_s = longest_s
        self._clock = clock
        self._again = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """The work, whether it goes well or not."""
        began = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self._again = ended + min(self._longest_s, self._pause * (ended - began))

    async def rest(self) -> None:
        """Return when it is time for more; others have their turn in any case."""
        await asyncio.sleep(max(0.0, self._again - self._clock()))
