"""Programs of the host, run so that their caller can beat, cancel and look at the clock."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

from farm.errors import ImageError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work

_TICK_S = 0.5
_KEPT_LINES = 40


class Ended(NamedTuple):
    """How a program ended: its exit status, and the last lines it wrote."""

    status: int
    lines: tuple[str, ...]


def run(
    argv: Sequence[str], *, deadline: Deadline, env: Mapping[str, str] | None = None, keep_fds: Sequence[int] = ()
) -> Work[Ended]:
    """Run a program and yield what it writes; comes to how it ended.

    `env` is added to this process's own. The program and its descendants keep `keep_fds` open. If the
    generator is left early, for whatever reason, they are all killed. Raises DeadlineError, and
    ImageError where the program cannot be started.
    """
    process = _start(argv, env or {}, keep_fds)
    tail = bytearray()
    try:
        assert process.stdout is not None  # noqa: S101 -- asked for in _start
        for data in _read(process.stdout):
            deadline.check()
            yield Chunk(Stream.STDOUT, data) if data else TICK
            tail = (tail + data)[-64 * 1024 :]
        status = process.wait()
    finally:
        _end(process)
    return Ended(status, tuple(tail.decode(errors="replace").splitlines()[-_KEPT_LINES:]))


def _start(argv: Sequence[str], env: Mapping[str, str], keep_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", **env},
            pass_fds=keep_fds,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ImageError(
            f"cannot run {argv[0]}: it is not installed", hint="make setup installs what is needed"
        ) from error


def _read(pipe: IO[bytes]) -> Generator[bytes, None, None]:
    """What comes from a pipe until it is closed; empty pieces while nothing comes."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(_TICK_S):
                yield b""
            elif data := os.read(pipe.fileno(), 64 * 1024):
                yield data
            else:
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a program and of its descendants."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
