"""Work that takes seconds of CPU, done in a process of its own.

Reports and comparisons of runs with hundreds of thousands of results are such; in the server's own process all other
answers would take turns with them.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from farm.errors import HostError

D = TypeVar("D")
P = ParamSpec("P")
T = TypeVar("T")


class Aside(Generic[D]):
    """One process that answers one question after the other; begun with the first. May be used by several threads.

    How many wait is bounded by how many threads ask (`api.apart`).
    """

    def __init__(self, open_: Callable[[], D]) -> None:
        """`open_` makes, in the process and once, what all questions are about. It is pickled, as they are."""
        self._open = open_
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def ask(self, question: Callable[Concatenate[D, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a function of a module comes to. Raises what it raises, and HostError where the process died."""
        process = None
        try:
            process = self._started()
            return process.pool.submit(_answer, question, args, kwargs).result()
        except BrokenProcessPool as error:
            if process:
                self._forget(process)
            raise HostError(
                "cannot work out the answer: the process that does it has died",
                hint="ask again; was it too large for the memory of the server?",
            ) from error

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._lock:
            process, self._process = self._process, None
        if process:
            process.end()

    def _started(self) -> _Process:
        with self._lock:
            if self._process is None:
                self._process = _Process(self._open)
            return self._process

    def _forget(self, process: _Process) -> None:
        with self._lock:
            if self._process is process:
                self._process = None
        process.end()


class _Process:
    """The process, and the pipe by which it knows that the server is there."""

    def __init__(self, open_: Callable[[], object]) -> None:
        """Return when it is there. Raises BrokenProcessPool."""
        spawned = get_context("spawn")  # a copy of a process with threads and Ray in it would not do
        theirs, self.ours = spawned.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(1, spawned, initializer=_begin, initargs=(theirs, open_))
        try:
            self.pool.submit(os.getpid).result()
        except BaseException:
            self.end()
            raise
        finally:
            theirs.close()

    def end(self) -> None:
        """End it, whatever it does; may be called again."""
        self.ours.close()
        self.pool.shutdown(wait=False, cancel_futures=True)


def _begin(server: Connection, open_: Callable[[], object]) -> None:
    """Leave Ctrl-C to the server, and end when it does: then the other end of this is closed, however it ended."""
    global _subject  # noqa: PLW0603 - there is one for each process
    _subject = cache(open_)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        server.poll(None)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


_subject: Callable[[], Any]
"""What all questions to this process are about; opened by the first, so that what is wrong with it is an answer."""


def _answer(question: Callable[..., T], args: tuple[object, ...], kwargs: dict[str, object]) -> T:
    return question(_subject(), *args, **kwargs)
