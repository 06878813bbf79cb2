"""What attempts say, taken down: what many of them say within some hundredths of a second is stored together.

One transaction costs as much as several events in one. Nobody is told of an event before the store has it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from farm.errors import FencedError
from farm.model import AttemptKey, Event
from farm.pace import Pace
from farm.store import Store
from farm.store.events import Heard

_MOST = 256
"""Events that wait to be stored; who has more to say waits, too."""
_PAUSE = 4.0
_LONGEST_S = 0.05


class Recorder:
    """Lives in one event loop; ends itself when nothing is left to be stored."""

    def __init__(self, store: Store, told: Callable[[AttemptKey, Event], None]) -> None:
        """`told` hears of each event when it is stored."""
        self._store = store
        self._told = told
        self._heard: list[Heard] = []
        self._waiting: Counter[AttemptKey] = Counter()
        """How many events of an attempt are not yet stored."""
        self._refused: dict[AttemptKey, Exception] = {}
        self._stored = asyncio.Event()
        """Set, and replaced, when there is room again."""
        self._pace = Pace(pause=_PAUSE, longest_s=_LONGEST_S)
        self._task: asyncio.Task[None] | None = None

    async def take(self, key: AttemptKey, event: Event) -> None:
        """Have an event stored soon, after all that were taken before it.

        Raises what became of what the attempt said before: FencedError, UntrustedError, HostError, ConfigError, or
        a defect.
        """
        while len(self._heard) >= _MOST:
            await self._stored.wait()
        self._check(key)
        self._heard.append(Heard(key, event, datetime.now(UTC)))
        self._waiting[key] += 1
        if self._task is None:
            self._task = asyncio.create_task(self._store_all())

    async def settled(self, key: AttemptKey) -> None:
        """Return when all is stored that an attempt has said. Raises the same."""
        while self._waiting[key]:
            await self._stored.wait()
        self._check(key)

    def forget(self, key: AttemptKey) -> None:
        """An attempt says no more."""
        self._refused.pop(key, None)
        self._waiting.pop(key, None)

    def _check(self, key: AttemptKey) -> None:
        if error := self._refused.get(key):
            raise error

    async def _store_all(self) -> None:
        try:
            while self._heard:
                await self._pace.rest()
                self._store_some()
        finally:
            self._task = None

    def _store_some(self) -> None:
        heard, self._heard = self._heard, []
        self._waiting.clear()
        try:
            with self._pace.working():
                refused = self._store.record_all(heard)
            self._refused |= {key: error or _fenced(key) for key, error in refused.items()}
            for key, event, _ in heard:
                if key not in refused:
                    self._told(key, event)
        except Exception as error:  # noqa: BLE001 - it is raised where each of these attempts is followed
            self._refused |= {one.key: error for one in heard}
        finally:
            stored, self._stored = self._stored, asyncio.Event()
            stored.set()


def _fenced(key: AttemptKey) -> FencedError:
    return FencedError(f"cannot take what {key} says: it has ended")
