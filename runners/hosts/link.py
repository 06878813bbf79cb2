"""A link to a hypervisor's machine: commands run there, and connections go out from there.

All that the farm does on a host beside libvirt goes through one, on this machine as on others. Commands are lines of
`/bin/sh` with a known environment; what they cannot do is said in their own last words.
"""

from __future__ import annotations

import functools
import os
import selectors
import signal
import socket
import subprocess
import threading
from contextlib import suppress
from typing import IO, Any, BinaryIO, Protocol

from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work, wait_for
from runners.hosts.command import Ended, with_environment
from runners.hosts.ssh import SshLink
from runners.hosts.uri import HostUri

_TICK_S = 0.5
_TIDY_S = 5.0
_SEND_BYTES = 256 * 1024


class Link(Protocol):
    """See the module. One may be used by several threads."""

    @property
    def place(self) -> str:
        """How errors call the machine."""

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[bytes]:
        """Run a command; yields what it says on standard error, comes to its standard output (64 MiB at most).

        Leaving early closes its input and output: a command must not take the end of its input for success. Raises
        CommandError where it ends with another status than 0, FullError where the machine has no space left,
        DeadlineError, and HostError where the machine cannot be reached.
        """

    def run(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> bytes:
        """The same for what is short, without listening."""

    def dial(self, address: str, port: int, *, deadline: Deadline) -> Any:
        """A connection from there: what paramiko takes as `sock`.

        Raises OSError where nobody answers, as `socket.create_connection` does, and HostError where the machine itself
        cannot be reached or forbids it.
        """

    def close(self) -> None:
        """Close it; it opens again when it is used."""


class LocalLink:
    """This machine."""

    place = "this machine"

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[bytes]:
        """See `Link`."""
        deadline.check()
        ended = Ended(self.place)
        process = subprocess.Popen(
            ["/bin/sh", "-c", with_environment(command)],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        pipes = _Pipes(process)
        try:
            if stdin:
                threading.Thread(target=_send, args=(process, stdin), daemon=True).start()
            while (chunk := pipes.read()) is not None:
                deadline.check()
                yield ended.take(chunk)
            return ended.result(process.wait())
        finally:
            _end(process)

    def run(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> bytes:
        """See `Link`."""
        return wait_for(self.execute(command, deadline=deadline, stdin=stdin))

    def dial(self, address: str, port: int, *, deadline: Deadline) -> socket.socket:
        """See `Link`."""
        sock = socket.create_connection((address, port), timeout=max(0.1, deadline.remaining))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def close(self) -> None:
        """See `Link`."""


class _Pipes:
    """The output and the errors of a program, as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout  # noqa: S101 - asked for by who starts it
        assert process.stderr  # noqa: S101
        self._news = selectors.DefaultSelector()
        self._news.register(process.stdout, selectors.EVENT_READ, Stream.STDOUT)
        self._news.register(process.stderr, selectors.EVENT_READ, Stream.STDERR)

    def read(self) -> Chunk | None:
        """The next piece, an empty one after half a second; None: there is no more."""
        while self._news.get_map():
            ready = self._news.select(_TICK_S)
            if not ready:
                return TICK
            key = ready[0][0]
            if data := os.read(key.fd, _SEND_BYTES):
                return Chunk(key.data, data)
            self._news.unregister(key.fileobj)
        self._news.close()
        return None


def _send(process: subprocess.Popen[bytes], stdin: BinaryIO) -> None:
    """Everything that a command is to read; one that ends early says itself why."""
    pipe: IO[bytes] | None = process.stdin
    assert pipe  # noqa: S101 - asked for by who starts it
    with suppress(OSError, ValueError):
        while data := stdin.read(_SEND_BYTES):
            pipe.write(data)
    with suppress(OSError):
        pipe.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a command and of its descendants; they may tidy up."""
    if process.poll() is None:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(_TIDY_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


@functools.cache
def link_to(uri: HostUri) -> Link:
    """This process' link to a hypervisor's machine, shared by all who ask for it."""
    return SshLink(uri) if uri.remote else LocalLink()
