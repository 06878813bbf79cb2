"""Clones that stand ready: restored ahead of time, as far as that can be done without knowing for whom.

They belong to the process that makes them and end with it. Each is given away once.
"""

from __future__ import annotations

import atexit
import functools
import threading
from collections import defaultdict
from collections.abc import Callable

from farm.errors import FarmError
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.libvirt.guest import LibvirtGuest

_MOST = 16
"""Of one process, whatever they are clones of."""
_LOAD_S = 60.0

Make = Callable[[], LibvirtGuest]
"""Makes a clone that is not started yet. Raises FarmError."""


class Pool:
    """The clones that stand ready in this process, by what they are clones of, and their limits."""

    def __init__(self) -> None:
        self._ready: defaultdict[str, list[LibvirtGuest]] = defaultdict(list)
        self._lock = threading.Lock()
        self._filling: threading.Thread | None = None
        self._closed = False
        self._problem = ""

    def take(self, name: str) -> LibvirtGuest | None:
        """A clone that stands ready, if there is one; it is the caller's now."""
        with self._lock:
            while self._ready[name]:
                guest = self._ready[name].pop(0)
                if guest.stands_ready:
                    return guest
                guest.destroy()
        return None

    def problem(self) -> str:
        """Why the last clone could not be made ready; empty, and nothing is asked twice."""
        problem, self._problem = self._problem, ""
        return problem

    def fill(self, name: str, make: Make, count: int) -> None:
        """See to it, beside whatever else goes on, that this many stand ready."""
        with self._lock:
            if self._closed or (self._filling and self._filling.is_alive()):
                return
            self._filling = threading.Thread(target=self._fill, args=(name, make, count), name="pool", daemon=True)
            self._filling.start()

    def close(self) -> None:
        """Destroy what stands ready."""
        with self._lock:
            self._closed = True
            filling = self._filling
        if filling:
            filling.join()
        for guest in [guest for guests in self._ready.values() for guest in guests]:
            guest.destroy()
        self._ready.clear()

    def _fill(self, name: str, make: Make, count: int) -> None:
        try:
            while not self._closed and len(self._ready[name]) < count:
                self._make_room(name)
                guest = make()
                try:
                    wait_for(guest.load(Deadline.after(_LOAD_S, "make a clone ready")))
                except BaseException:
                    guest.destroy()
                    raise
                with self._lock:
                    self._ready[name].append(guest)
        except FarmError as error:
            self._problem = error.message

    def _make_room(self, name: str) -> None:
        """Where there are too many, one of another snapshot goes."""
        with self._lock:
            others = [guests for other, guests in self._ready.items() if guests and other != name]
            if sum(map(len, self._ready.values())) >= _MOST and others:
                others[0].pop(0).destroy()


@functools.cache
def pool() -> Pool:
    """This process' pool; closed when the process ends."""
    made = Pool()
    atexit.register(made.close)
    return made
