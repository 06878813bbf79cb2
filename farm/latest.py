"""Questions that threads of their own ask: whoever needs the answer waits for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from farm.errors import HostError

T = TypeVar("T")


def in_thread(ask: Callable[[], T]) -> Callable[[], T | None]:
    """Ask once. What is given back gives the answer, None while there is none yet, or raises what `ask` has raised."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(ask())
        except Exception as error:  # noqa: BLE001 - it is raised where somebody asks for the answer
            future.set_exception(error)

    threading.Thread(target=work, name="asks", daemon=True).start()
    return lambda: future.result() if future.done() else None


class Latest(Generic[T]):
    """The last answer to a question that is asked again and again; may be read from any thread."""

    def __init__(self, ask: Callable[[], T], what: str, *, every_s: float = 1.0, silent_s: float = 20.0) -> None:
        """`ask` raises HostError; `what` is a verb and a thing, for who has had no answer for `silent_s`."""
        self._ask = ask
        self._what = what
        self._every_s = every_s
        self._silent_s = silent_s
        self._ends = threading.Event()
        self._told: tuple[T] | None = None
        self._error: HostError | None = None
        self._at = 0.0

    def start(self) -> None:
        """Ask for the first time, and from now on. Raises what `ask` raises."""
        self._told, self._at = (self._ask(),), time.monotonic()
        threading.Thread(target=self._go_on, name=f"asks: {self._what}", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._ends.set()

    def get(self) -> T:
        """What was told last. Raises HostError where that was a problem, or is too long ago."""
        told, error, ago_s = self._told, self._error, time.monotonic() - self._at
        if error:
            raise error
        if told is None or ago_s > self._silent_s:
            since = "at all" if told is None else f"for {ago_s:.0f} s"
            raise HostError(f"cannot {self._what}: there was no answer {since}", hint="see whether Ray's head runs")
        return told[0]

    def _go_on(self) -> None:
        while not self._ends.wait(self._every_s):
            try:
                told = self._ask()
            except HostError as error:
                self._error = error
            else:
                self._told, self._error = (told,), None
                self._at = time.monotonic()
