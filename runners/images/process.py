"""Programs of the host, run so that their caller can beat, cancel and look at the clock."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from farm.errors import ImageError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work

_TICK_S = 0.5
_KEPT_LINES = 40

_WATCH = "exec 3<&0; (read -r _ <&3; kill -KILL -$$) &"
"""Leaves a watcher in this shell's process group: at the end of the standard input it kills the group, itself included.

Nothing ever comes through that pipe. Its other end is held by whoever started this, and the kernel closes it however
that one ends. A parent-death signal would be bound to a thread, and would reach a program but none of its children.
"""


class Ended(NamedTuple):
    """How a program ended: its exit status, and the last lines it wrote."""

    status: int
    lines: tuple[str, ...]


def run(
    argv: Sequence[str], *, deadline: Deadline, env: Mapping[str, str] | None = None, keep_fds: Sequence[int] = ()
) -> Work[Ended]:
    """Run a program and yield what it writes; comes to how it ended.

    `env` is added to this process's own. The program and its descendants keep `keep_fds` open. If the
    generator is left early, for whatever reason, or this process is killed, they are all killed. Raises
    DeadlineError, and ImageError where the program cannot be started.
    """
    tail = bytearray()
    with _group() as group:
        process = _start(argv, env or {}, keep_fds, group)
        try:
            assert process.stdout is not None  # noqa: S101 -- asked for in _start
            for data in _read(process.stdout):
                deadline.check()
                yield Chunk(Stream.STDOUT, data) if data else TICK
                tail = (tail + data)[-64 * 1024 :]
            status = process.wait()
        finally:
            _end(process, group)
    return Ended(status, tuple(tail.decode(errors="replace").splitlines()[-_KEPT_LINES:]))


@contextmanager
def _group() -> Iterator[int]:
    """A process group whose members are killed at the end, or when this process is no more."""
    # The watcher has no parent: Ray kills the children of its workers, and it has to outlive them.
    with subprocess.Popen(
        ["/bin/sh", "-c", _WATCH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as shell:
        shell.wait()
        yield shell.pid


def _start(argv: Sequence[str], env: Mapping[str, str], keep_fds: Sequence[int], group: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", **env},
            pass_fds=keep_fds,
            process_group=group,
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


def _end(process: subprocess.Popen[bytes], group: int) -> None:
    """Kill what is left of a program and of its descendants."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
