"""A link over SSH to another machine: one connection, its host key always checked, opened again when it was lost."""

from __future__ import annotations

import shlex
import socket
import threading
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, BinaryIO

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from farm.errors import HostError
from runners.deadline import Deadline
from runners.guest import TICK, Work, wait_for
from runners.hosts.command import Ended, with_environment
from runners.hosts.credentials import known_keys, private_keys, refused, strange_key
from runners.hosts.uri import HostUri
from runners.ssh import in_background, output, say, send
from runners.transport import Transport

_TICK_S = 0.5
_CONNECT_S = 30.0
_GRACE_S = 5
_KEEPALIVE_S = 15
_SILENCE_MS = 45_000
"""After which a machine that answers nothing at all is lost: three words of keepalive."""
_NO_STATUS = -1
_FORBIDDEN = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, 5.1)."""
_KEY_TYPES = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
"""A kind of key -> the ways in which it signs, where they are called otherwise."""
_FAILURES = (paramiko.SSHException, OSError, EOFError)


class SshLink:
    """See `runners.hosts.link.Link`."""

    def __init__(self, uri: HostUri) -> None:
        """Nothing is opened yet."""
        self._uri = uri
        self._lock = threading.Lock()
        self._open: paramiko.Transport | None = None

    @property
    def place(self) -> str:
        """How errors call the machine."""
        return self._uri.place

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[bytes]:
        """See `Link`."""
        deadline.check()
        ended = Ended(self.place)
        starting = in_background(partial(self._start, command, deadline))
        try:
            while not wait((starting,), _TICK_S).done:
                yield TICK
                deadline.check()
            channel = starting.result()
            in_background(partial(send, channel, stdin))
            for chunk in output(channel, deadline):
                yield ended.take(chunk)
            return ended.result(self._status(channel))
        finally:
            starting.add_done_callback(_close)  # one that still begins, as soon as it has

    def run(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> bytes:
        """See `Link`."""
        return wait_for(self.execute(command, deadline=deadline, stdin=stdin))

    def dial(self, address: str, port: int, *, deadline: Deadline) -> Any:
        """See `Link`."""
        deadline.check()
        try:
            return self._channel("direct-tcpip", deadline, (address, port))
        except paramiko.ChannelException as error:
            if error.code != _FORBIDDEN:
                raise ConnectionRefusedError(f"{self.place} does not reach {address}:{port}: {error.text}") from error
            raise HostError(
                f"cannot reach {address} through {self.place}: its SSH server forwards no connections",
                hint="set AllowTcpForwarding to yes (or local) in its sshd_config",
            ) from error

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            if self._open:
                self._open.close()
                self._open = None

    def _start(self, command: str, deadline: Deadline) -> paramiko.Channel:
        """A command that runs."""
        try:
            channel = self._channel("session", deadline)
            # It ends there too, should the way there be lost without either end being told.
            limit = f"timeout -k {_GRACE_S} {deadline.remaining + _GRACE_S:.0f}"
            channel.exec_command(f"exec {limit} /bin/sh -c {shlex.quote(with_environment(command))}")
        except _FAILURES as error:
            raise self._unreachable(error) from error
        return channel

    def _status(self, channel: paramiko.Channel) -> int:
        status = int(channel.recv_exit_status()) if channel.exit_status_ready() else _NO_STATUS
        if status == _NO_STATUS:
            raise HostError(
                f"cannot finish a command on {self.place}: "
                + ("it was killed" if channel.get_transport().is_active() else "the connection went away"),
                hint="look whether the machine is up",
            )
        return status

    def _channel(self, kind: str, deadline: Deadline, to: tuple[str, int] | None = None) -> paramiko.Channel:
        """A channel of the connection; a connection that turns out to be lost is opened anew, once.

        Raises HostError, and ChannelException where the other end refuses it.
        """
        for transport in (self._transport(deadline), None):
            try:
                return self._opened(transport or self._transport(deadline), kind, deadline, to)
            except paramiko.ChannelException:
                raise
            except _FAILURES as error:
                if transport is None:
                    raise self._unreachable(error) from error
                transport.close()
        raise AssertionError

    def _opened(
        self, transport: paramiko.Transport, kind: str, deadline: Deadline, to: tuple[str, int] | None
    ) -> paramiko.Channel:
        origin = ("127.0.0.1", 0) if to else None
        return transport.open_channel(kind, to, origin, timeout=max(1.0, deadline.remaining))

    def _transport(self, deadline: Deadline) -> paramiko.Transport:
        """The connection, opened if it is not. Raises HostError."""
        with self._lock:
            if not (self._open and self._open.is_active()):
                self._open = self._connected(deadline)
            return self._open

    def _connected(self, deadline: Deadline) -> paramiko.Transport:
        allowed_s = max(0.1, min(_CONNECT_S, deadline.remaining))
        try:
            sock = socket.create_connection((self._uri.host, self._uri.port), timeout=allowed_s)
        except OSError as error:
            raise self._unreachable(error) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
        transport = Transport(sock)
        try:
            transport.banner_timeout = transport.auth_timeout = allowed_s
            self._check_host(transport, allowed_s)
            self._log_in(transport)
            transport.set_keepalive(_KEEPALIVE_S)
        except BaseException as error:
            transport.close()
            sock.close()  # which a transport that has not begun does not
            if isinstance(error, _FAILURES):
                raise self._unreachable(error) from error
            raise
        return transport

    def _check_host(self, transport: paramiko.Transport, allowed_s: float) -> None:
        """Shake hands with the machine that is known by this name. Raises HostError where it is another."""
        known = known_keys(self._uri)
        types = tuple(sign for kind in known for sign in _KEY_TYPES.get(kind, (kind,)))
        transport.get_security_options().key_types = types
        try:
            transport.start_client(timeout=allowed_s)
        except IncompatiblePeer as error:
            if "host key" not in str(error):
                raise
            raise strange_key(self._uri, f"none of the kinds that are known ({', '.join(known)})") from error
        shown = transport.get_remote_server_key()
        if known.get(shown.get_name()) != shown:
            raise strange_key(self._uri, shown.fingerprint)

    def _log_in(self, transport: paramiko.Transport) -> None:
        keys = private_keys(self._uri)
        for key in keys.values():
            try:
                transport.auth_publickey(self._uri.login, key)
            except paramiko.AuthenticationException:
                continue
            if transport.is_authenticated():
                return
        raise refused(self._uri, tuple(keys))

    def _unreachable(self, error: BaseException) -> HostError:
        if isinstance(error, HostError):
            return error
        if isinstance(error, socket.gaierror):
            cause = "its name is not known"
        elif isinstance(error, OSError):
            cause = (error.strerror or say(error)).lower()
        else:
            cause = say(error)
        hint = f"look whether it is up and its SSH server listens: ssh -v -p {self._uri.port} {self._uri.login}"
        return HostError(f"cannot reach {self.place} by SSH: {cause}", hint=f"{hint}@{self._uri.host} true")


def _close(starting: Future[paramiko.Channel]) -> None:
    """Nobody reads what the command says any more; where it did not begin, there is nothing to close."""
    if not starting.exception():
        starting.result().close()
