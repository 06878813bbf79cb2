"""A shell in a guest through paramiko: one connection, strict host keys, a deadline on everything.

Between two commands a shell of the guest waits for the next one. To start a shell takes an emulated guest several times
longer than the way there and back, so that begins as soon as the command before has ended: not earlier, for what that
does to the guest has to be seen.

paramiko's errors are mapped here and nowhere else: what fails before a command has answered is a
ConnectError, what fails afterwards a LostError.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, BinaryIO, TypeVar

import paramiko

from farm.errors import ConnectError, LostError
from farm.model import Stream
from runners import chacha
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.keys import KeyPair
from runners.transport import Transport

_TICK_S = 0.5
_RETRY_S = 0.1
_DIAL_S = 5.0
_READ_BYTES = 256 * 1024
_SEND_BYTES = 64 * 1024
_LINGER_S = 1.0
_KEEPALIVE_S = 15
# The cheapest for an emulated guest that both ends have: its CPU is the slowest part of a connection.
_ALGORITHMS = {
    "kex": ("curve25519-sha256@libssh.org",),
    "ciphers": (chacha.NAME, "aes128-gcm@openssh.com", "aes128-ctr"),
    "digests": ("hmac-sha2-256",),
    "key_types": ("ssh-ed25519",),
}
_NO_STATUS = -1
_KILLED = 137
# Says that it is there, reads a line, byte for byte so that the rest stays, says that it has it, and does what it
# says. Noise that the guest's login makes comes before that.
_WAITING_SHELL = "printf '\\006'; IFS= read -r c; printf '\\006'; eval \"$c\""
_THERE = b"\006"
_BEGINNINGS = 3
_NOISE_BYTES = 64 * 1024
_ESCAPES = str.maketrans({"\\": r"\0134", "\n": r"\0012", "'": r"\0047"})
_FAILURES = (paramiko.SSHException, OSError, EOFError)

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it says there is also raised, or of no interest

T = TypeVar("T")


class SshShell:
    """A shell of a connection."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._next: Future[paramiko.Channel] | None = None

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        """Run a command line of the guest's `/bin/sh`; see `runners.guest.Shell`."""
        deadline.check()
        try:
            channel = yield from self._begin(_line(command), deadline)
        except _FAILURES as error:
            deadline.check()
            raise LostError(f"cannot run a command in the guest: the connection is gone ({say(error)})") from error
        sending = in_background(partial(send, channel, stdin))
        try:
            yield from output(channel, deadline)
            return self._status(channel)
        finally:
            _close(channel)
            self._next = in_background(partial(_start_shell, self._transport, sending))

    def prepare(self, deadline: Deadline) -> Work[None]:
        """Wait until a shell waits for the next command. Raises SSHException, OSError, EOFError."""
        self._next = self._next or self._start()
        yield from self._result(self._next, deadline)

    def close(self) -> None:
        """Close the connection; no harm if it is gone."""
        self._transport.close()

    def _begin(self, line: bytes, deadline: Deadline) -> Work[paramiko.Channel]:
        """A shell that has begun with a command; where one was ended while it waited, another does it."""
        for _ in range(_BEGINNINGS):
            channel = yield from self._take(deadline)
            if (yield from self._result(in_background(partial(_tell, channel, line)), deadline)):
                return channel
            self._next = None
            _close(channel)
        raise paramiko.SSHException("the guest's shells end before they are told what to do")

    def _take(self, deadline: Deadline) -> Work[paramiko.Channel]:
        """The shell that waits; a new one if that could not be started, or has been ended meanwhile."""
        if self._next:
            with contextlib.suppress(paramiko.SSHException):
                channel = yield from self._result(self._next, deadline)
                if not (channel.closed or channel.exit_status_ready()):
                    return channel
        return (yield from self._result(self._start(), deadline))

    def _start(self) -> Future[paramiko.Channel]:
        return in_background(partial(_start_shell, self._transport))

    def _result(self, starting: Future[T], deadline: Deadline) -> Work[T]:
        while not wait((starting,), _TICK_S).done:
            yield TICK
            if deadline.remaining == 0:
                self._transport.close()  # which ends the waiting
        return starting.result()

    def _status(self, channel: paramiko.Channel) -> int:
        status = int(channel.recv_exit_status()) if channel.exit_status_ready() else _NO_STATUS
        if status == _NO_STATUS and not self._transport.is_active():
            raise LostError("cannot finish the command: the connection to the guest went away")
        # paramiko does not read `exit-signal` (RFC 4254, 6.10): a shell that was killed has no number.
        return _KILLED if status == _NO_STATUS else status


Dial = Callable[[Deadline], Any]
"""Opens a connection to an SSH server: what paramiko takes as `sock`. Raises OSError where nobody answers."""


def tcp(host: str, port: int) -> Dial:
    """Straight from here."""

    def dial(deadline: Deadline) -> socket.socket:
        sock = socket.create_connection((host, port), timeout=max(0.1, min(_DIAL_S, deadline.remaining)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko does not; 48 ms a command against 4
        return sock

    return dial


def connect(dial: Dial, *, client: KeyPair, server: KeyPair, deadline: Deadline) -> Work[SshShell]:
    """Connect as root, check the host key strictly, and start a shell; comes to it when it waits for a command.

    A guest that does not answer yet is asked again until the deadline. Raises ConnectError at once where
    the guest shows another host key or does not know ours.
    """
    while True:
        try:
            transport = yield from _handshake(dial, client, server, deadline)
            return (yield from _prepared(SshShell(transport), deadline))
        except _FAILURES as error:
            if deadline.remaining == 0:
                raise ConnectError(
                    f"cannot connect to the guest: {say(error)} (tried for {deadline.allowed_s:g} s)"
                ) from error
            yield TICK
            time.sleep(_RETRY_S)


def _prepared(shell: SshShell, deadline: Deadline) -> Work[SshShell]:
    """The shell, when it waits for a command; closed where it does not."""
    try:
        yield from shell.prepare(deadline)
    except BaseException:
        shell.close()
        raise
    return shell


def in_background(work: Callable[[], T]) -> Future[T]:
    """Begin something that waits for the guest; closing the connection ends the waiting."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _start_shell(transport: paramiko.Transport, after: Future[None] | None = None) -> paramiko.Channel:
    """A channel in which a shell waits for its command; opened when nothing is sent any more to the one before.

    The guest gives the number of a closed channel to the next.
    """
    if after:
        wait((after,))
    channel = transport.open_session()
    channel.exec_command(_WAITING_SHELL)
    for _ in range(_NOISE_BYTES):
        if (said := channel.recv(1)) == _THERE:
            return channel
        if not said:
            break
    _close(channel)
    raise paramiko.SSHException("the guest's shell does not start")


def _close(channel: paramiko.Channel) -> None:
    """Which tells the guest; where the connection breaks at that moment, what the command came to stands."""
    with contextlib.suppress(*_FAILURES):
        channel.close()


def _tell(channel: paramiko.Channel, line: bytes) -> bool:
    """Tell a waiting shell what to do; whether it has heard it. If not, it has done nothing; for `in_background`."""
    with contextlib.suppress(OSError):  # it is closed
        channel.sendall(line)
        return bool(channel.recv(1) == _THERE)
    return False


def send(channel: paramiko.Channel, stdin: BinaryIO | None) -> None:
    """Give a command everything that it is to read; for `in_background`."""
    # A command that ends without reading all its input closes the channel: its status tells what happened.
    # Who has lost interest in the command may close the input as well, which is a ValueError.
    with contextlib.suppress(*_FAILURES, ValueError):
        while stdin and (data := stdin.read(_SEND_BYTES)):
            channel.sendall(data)
        channel.shutdown_write()


def _line(command: str) -> bytes:
    """A command as one line."""
    if "\n" in command:
        command = f"eval \"$(printf %b '{command.translate(_ESCAPES)}')\""
    return command.encode() + b"\n"


def _handshake(dial: Dial, client: KeyPair, server: KeyPair, deadline: Deadline) -> Work[paramiko.Transport]:
    transport = Transport(dial(deadline))
    try:
        for name, wanted in _ALGORITHMS.items():
            setattr(transport.get_security_options(), name, wanted)
        transport.banner_timeout = transport.auth_timeout = max(1.0, deadline.remaining)
        transport.set_keepalive(_KEEPALIVE_S)
        yield from _event(transport, lambda done: transport.start_client(event=done), deadline)
        if transport.get_remote_server_key().asbytes() != server.paramiko().asbytes():
            raise ConnectError("cannot connect to the guest: it shows another host key than the one it was given")
        yield from _logged_in(transport, client, deadline)
    except BaseException:
        transport.close()
        raise
    return transport


def _logged_in(transport: paramiko.Transport, client: KeyPair, deadline: Deadline) -> Work[None]:
    refusal: paramiko.AuthenticationException | None = None
    try:
        yield from _event(transport, lambda done: transport.auth_publickey("root", client.paramiko(), done), deadline)
    except paramiko.AuthenticationException as error:
        refusal = error
    if not transport.is_authenticated():  # paramiko has no exception for every refusal
        raise ConnectError("cannot connect to the guest: it does not accept its own client's key") from refusal


def _event(transport: paramiko.Transport, start: Callable[[threading.Event], object], deadline: Deadline) -> Work[None]:
    """Do one of paramiko's asynchronous steps and raise what it raises."""
    done = threading.Event()
    start(done)
    while not done.wait(_TICK_S):
        yield TICK
        if deadline.remaining == 0 or not transport.is_active():
            break
    if error := transport.get_exception():
        raise error
    if not done.is_set():
        raise TimeoutError("no answer to the SSH handshake")


def output(channel: paramiko.Channel, deadline: Deadline) -> Work[None]:
    """Yield what comes until the command is over and nothing more can come."""
    over_at: float | None = None
    news = select.poll()
    news.register(channel, select.POLLIN)
    while True:
        idle = True
        for stream, ready, read in (
            (Stream.STDOUT, channel.recv_ready, channel.recv),
            (Stream.STDERR, channel.recv_stderr_ready, channel.recv_stderr),
        ):
            if ready():
                idle = False
                yield Chunk(stream, read(_READ_BYTES))
        if not idle:
            deadline.check()
            continue
        if channel.closed or (channel.eof_received and channel.exit_status_ready()):
            return
        if channel.exit_status_ready():
            # Something that the command left running may hold its output open for ever.
            over_at = over_at or time.monotonic()
            if time.monotonic() - over_at > _LINGER_S:
                return
        deadline.check()
        if not news.poll(1000 * min(_TICK_S, max(0.01, deadline.remaining))):
            yield TICK


def say(error: BaseException) -> str:
    """What an error says; its kind where it says nothing."""
    return str(error) or type(error).__name__
