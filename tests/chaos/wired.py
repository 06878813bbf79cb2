"""Scripted guests that are reached by SSH: a real server, real connections, and a wire that can be broken.

The server lives beside its guest in the worker. What goes over the wire between the two ends obeys a file that the
faults write: as long as it says so, connections are reset, or nothing gets through, or a few bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from farm.errors import GuestError
from farm.model import GuestFacts, Offer, Order, Stream
from runners.deadline import Deadline
from runners.fake import FakeBackend, FakeGuest, FakeShell
from runners.guest import Shell, Work
from runners.keys import KeyPair, make_key_pair
from runners.ssh import connect, tcp
from runners.transport import Transport

NAME = "wired"
"""Of the hypervisor."""
WIRE = "CHAOS_WIRE"
"""The environment's name for the file that says how wires are."""
GOOD, BROKEN, SILENT, SLOW = "good", "broken", "silent", "slow"
_SLOW_BYTES, _LOOK_S = 512, 0.05
_LONGEST_S = 3600.0
_EVAL = "eval \"$(printf %b '"
_GONE = (OSError, EOFError, paramiko.SSHException)


class WiredBackend(FakeBackend):
    """Makes them, of one architecture."""

    def look(self) -> tuple[Offer, ...]:
        """As other scripted guests."""
        return (Offer(hypervisor=NAME, arch="amd64", emulated=True, scripted=True),)

    def create(self, order: Order, deadline: Deadline) -> Work[FakeGuest]:
        """A guest whose machine is a server."""
        yield from super().create(order, deadline)
        return WiredGuest(order)


class WiredGuest(FakeGuest):
    """A scripted guest with a network."""

    def __init__(self, order: Order) -> None:
        super().__init__(order)
        self._keys = make_key_pair(), make_key_pair()
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []

    @property
    def facts(self) -> GuestFacts:
        """What it plays."""
        return super().facts.model_copy(update={"hypervisor": NAME})

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Through the wire."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            _in_thread(self._listen)
        client, server = self._keys
        port = self._listener.getsockname()[1]
        return (yield from connect(tcp("127.0.0.1", port), client=client, server=server, deadline=deadline))

    def crash(self) -> None:
        """Panic; who is connected hears nothing more."""
        super().crash()
        self._hang_up()

    def destroy(self) -> None:
        """End, with the server."""
        super().destroy()
        if self._listener:
            with contextlib.suppress(OSError):  # which wakes who waits for connections
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        assert self._listener
        with contextlib.suppress(*_GONE):
            while True:
                outer, _ = self._listener.accept()
                inner, end = socket.socketpair()
                self._open += (outer, inner)
                _in_thread(lambda one=outer, other=inner: _carry(one, other))
                _in_thread(lambda one=inner, other=outer: _carry(one, other))
                transport = Transport(end)
                transport.add_server_key(self._keys[1].paramiko())
                transport.start_server(server=_Session(self, self._keys[0]), event=threading.Event())


class _Session(paramiko.ServerInterface):
    """What is allowed on a connection: what the farm does."""

    def __init__(self, guest: FakeGuest, client: KeyPair) -> None:
        self._shell = FakeShell(guest)
        self._client = client.paramiko()

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL if username == "root" and key == self._client else paramiko.AUTH_FAILED

    def check_channel_request(self, _kind: str, _channel: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, _command: bytes) -> bool:
        _in_thread(lambda: self._serve(channel))
        return True

    def _serve(self, channel: paramiko.Channel) -> None:
        """The shell that `runners.ssh` starts: it says that it is there, reads a line, and does what that says."""
        with contextlib.suppress(*_GONE):
            channel.sendall(b"\006")
            line, rest = _first_line(channel)
            if line is None:
                return
            channel.sendall(b"\006")
            with contextlib.suppress(GuestError):  # it has crashed, and has hung up
                channel.send_exit_status(self._do(channel, _command(line), rest))
            channel.close()

    def _do(self, channel: paramiko.Channel, command: str, said: bytes) -> int:
        while data := channel.recv(1 << 16):
            said += data
        work = self._shell.execute(command, deadline=Deadline.after(_LONGEST_S, "play"), stdin=io.BytesIO(said))
        while not channel.closed:
            try:
                chunk = next(work)
            except StopIteration as end:
                return int(end.value)
            (channel.sendall_stderr if chunk.stream is Stream.STDERR else channel.sendall)(chunk.data)
        return 129


def _first_line(channel: paramiko.Channel) -> tuple[bytes | None, bytes]:
    said = b""
    while b"\n" not in said:
        if not (data := channel.recv(1 << 16)):
            return None, b""
        said += data
    line, _, rest = said.partition(b"\n")
    return line, rest


def _command(line: bytes) -> str:
    """What a line of `runners.ssh` means."""
    text = line.decode()
    if not text.startswith(_EVAL):
        return text
    escaped = text.removeprefix(_EVAL).removesuffix("')\"")
    for code, sign in ((r"\0012", "\n"), (r"\0047", "'"), (r"\0134", "\\")):
        escaped = escaped.replace(code, sign)
    return escaped


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Bytes from one end to the other, as the wire lets them."""
    with contextlib.suppress(OSError):
        while True:
            how = wire()
            if how == BROKEN:
                break
            source.settimeout(_LOOK_S)
            try:
                data = source.recv(_SLOW_BYTES if how == SLOW else 1 << 16)
            except TimeoutError:
                continue
            if not data:
                break
            while wire() == SILENT:
                time.sleep(_LOOK_S)
            if how == SLOW:
                time.sleep(_LOOK_S)
            target.settimeout(None)
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def wire() -> str:
    """How wires are now."""
    with contextlib.suppress(OSError):
        return Path(os.environ[WIRE]).read_text(encoding="ascii").strip() or GOOD
    return GOOD


def _in_thread(work: Callable[[], object]) -> None:
    threading.Thread(target=work, daemon=True).start()
