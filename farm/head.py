"""Whether the head of a Ray cluster is there. It is dialled now and then; where it is gone, so is the cluster.

Ray itself waits for a minute, and then ends the process that waits, without a word to anybody.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

GONE = "Ray's head is gone"
_PERIOD_S = 1.0
_DIAL_S = 5.0
REFUSED_S = 3.0
"""For so long nobody listens there, though its machine answers: it has ended. One that is stopped still listens."""
SILENT_S = 45.0
"""For so long nothing answers at all: sooner it may be the network. Less than the minute after which Ray ends us."""


class HeadWatch:
    """Watches one head from a thread of its own, until it is gone or nobody wants to know any more."""

    def __init__(self, address: str, gone: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`gone` is called once, with what has happened."""
        host, _, port = address.rpartition(":")
        self._address = host.strip("[]"), int(port)
        self._gone = gone
        self._clock = clock
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watches Ray's head", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is called any more."""
        self._ends.set()

    def _watch(self) -> None:
        refused: float | None = None
        silent: float | None = None
        while not self._ends.wait(_PERIOD_S):
            now, problem = self._clock(), self._problem()
            if problem is None:
                refused = silent = None
                continue
            refused = (refused or now) if isinstance(problem, ConnectionRefusedError) else None
            silent = silent or now
            if (refused and now - refused >= REFUSED_S) or now - silent >= SILENT_S:
                if not self._ends.is_set():
                    where = ":".join(map(str, self._address))
                    self._gone(f"{GONE}: {where} does not answer ({problem.strerror or problem})")
                return

    def _problem(self) -> OSError | None:
        try:
            socket.create_connection(self._address, timeout=_DIAL_S).close()
        except OSError as error:
            return error
        return None
