"""A shell in a guest through paramiko: one connection, strict host keys, a deadline on everything.

paramiko's errors are mapped here and nowhere else: what fails before a command has answered is a
ConnectError, what fails afterwards a LostError.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import BinaryIO

import paramiko

from farm.errors import ConnectError, LostError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.keys import KeyPair

_TICK_S = 0.5
_RETRY_S = 0.1
_READ_BYTES = 256 * 1024
_SEND_BYTES = 64 * 1024
_LINGER_S = 1.0
_KEEPALIVE_S = 15
# The cheapest that both ends have: in an emulated guest the handshake costs a second, or three.
_ALGORITHMS = {
    "kex": ("curve25519-sha256@libssh.org",),
    "ciphers": ("aes128-gcm@openssh.com", "aes128-ctr"),
    "digests": ("hmac-sha2-256",),
    "key_types": ("ssh-ed25519",),
}
_NO_STATUS = -1
_KILLED = 137
_OPENERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="ssh-open")
_FAILURES = (paramiko.SSHException, OSError, EOFError)


class SshShell:
    """A shell of a connection."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        """Run a command line of the guest's `/bin/sh`; see `runners.guest.Shell`."""
        channel = yield from self._open(command, deadline)
        try:
            if stdin is None:
                channel.shutdown_write()
            else:
                threading.Thread(target=_send, args=(channel, stdin), daemon=True).start()
            yield from _output(channel, deadline)
            return self._status(channel)
        finally:
            channel.close()

    def close(self) -> None:
        """Close the connection; no harm if it is gone."""
        self._transport.close()

    def _open(self, command: str, deadline: Deadline) -> Work[paramiko.Channel]:
        """A channel in which the command runs. paramiko waits for the guest's answers without a word."""
        deadline.check()
        opening = _OPENERS.submit(_open_channel, self._transport, command, max(1.0, deadline.remaining))
        while not wait((opening,), _TICK_S).done:
            yield TICK
            if deadline.remaining == 0:
                self._transport.close()  # which ends the waiting
        try:
            return opening.result()
        except _FAILURES as error:
            deadline.check()
            raise LostError(f"cannot run a command in the guest: the connection is gone ({_say(error)})") from error

    def _status(self, channel: paramiko.Channel) -> int:
        status = int(channel.recv_exit_status()) if channel.exit_status_ready() else _NO_STATUS
        if status == _NO_STATUS and not self._transport.is_active():
            raise LostError("cannot finish the command: the connection to the guest went away")
        # paramiko does not read `exit-signal` (RFC 4254, 6.10): a shell that was killed has no number.
        return _KILLED if status == _NO_STATUS else status


def connect(host: str, port: int, *, client: KeyPair, server: KeyPair, deadline: Deadline) -> Work[SshShell]:
    """Connect as root, check the host key strictly, and run a command; comes to a shell that works.

    A guest that does not answer yet is asked again until the deadline. Raises ConnectError at once where
    the guest shows another host key or does not know ours.
    """
    while True:
        try:
            transport = yield from _handshake(host, port, client, server, deadline)
            return (yield from _tried(SshShell(transport), deadline))
        except _FAILURES as error:
            if deadline.remaining == 0:
                raise ConnectError(
                    f"cannot connect to the guest: {_say(error)} (tried for {deadline.allowed_s:g} s)"
                ) from error
            yield TICK
            time.sleep(_RETRY_S)


def _tried(shell: SshShell, deadline: Deadline) -> Work[SshShell]:
    """The shell, after it has run a command; closed where it has not."""
    try:
        status = yield from shell.execute(":", deadline=deadline)
        if status != 0:
            raise ConnectError(f"cannot connect to the guest: its shell returned {status} for an empty command")
    except BaseException:
        shell.close()
        raise
    return shell


def _open_channel(transport: paramiko.Transport, command: str, timeout_s: float) -> paramiko.Channel:
    channel = transport.open_session(timeout=timeout_s)
    channel.exec_command(command)
    return channel


def _handshake(host: str, port: int, client: KeyPair, server: KeyPair, deadline: Deadline) -> Work[paramiko.Transport]:
    sock = socket.create_connection((host, port), timeout=max(0.1, min(5.0, deadline.remaining)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # paramiko does not; 48 ms a command against 4
    transport = paramiko.Transport(sock)
    try:
        for name, wanted in _ALGORITHMS.items():
            setattr(transport.get_security_options(), name, wanted)
        transport.banner_timeout = transport.auth_timeout = max(1.0, deadline.remaining)
        transport.set_keepalive(_KEEPALIVE_S)
        yield from _event(transport, lambda done: transport.start_client(event=done), deadline)
        if transport.get_remote_server_key().asbytes() != server.paramiko().asbytes():
            raise ConnectError("cannot connect to the guest: it shows another host key than the one it was given")
        try:
            yield from _event(
                transport, lambda done: transport.auth_publickey("root", client.paramiko(), done), deadline
            )
        except paramiko.AuthenticationException as error:
            raise ConnectError("cannot connect to the guest: it does not accept its own client's key") from error
    except BaseException:
        transport.close()
        raise
    return transport


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


def _output(channel: paramiko.Channel, deadline: Deadline) -> Work[None]:
    """Yield what comes until the command is over and nothing more can come."""
    over_at: float | None = None
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
        if not select.select([channel], [], [], min(_TICK_S, max(0.01, deadline.remaining)))[0]:
            yield TICK


def _send(channel: paramiko.Channel, stdin: BinaryIO) -> None:
    # A command that ends without reading all its input closes the channel: its status tells what happened.
    with contextlib.suppress(*_FAILURES):
        while data := stdin.read(_SEND_BYTES):
            channel.sendall(data)
        channel.shutdown_write()


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
