"""An SSH server on the loopback, for tests of the client: real shells behind it, and it can be told to misbehave."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import IO

import paramiko

from runners.keys import KeyPair

_READ_BYTES = 64 * 1024
_GONE = (OSError, EOFError, paramiko.SSHException)


class Server:
    """Listens on `port`; each command runs in `/bin/sh`, after `login`, in a folder of its caller's choice."""

    def __init__(self, host_key: KeyPair, client: KeyPair, make: Callable[[socket.socket], paramiko.Transport]) -> None:
        self.login = ""
        self.connections: list[paramiko.Transport] = []
        self._host_key = host_key
        self._client = client
        self._make = make
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def drop(self) -> None:
        """Hang up on everybody."""
        for connection in self.connections:
            connection.close()

    def close(self) -> None:
        """Hang up, and listen no more."""
        self.drop()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                transport = self._make(self._listener.accept()[0])
                self.connections.append(transport)
                transport.add_server_key(self._host_key.paramiko())
                transport.start_server(server=_Session(self, self._client), event=threading.Event())


class _Session(paramiko.ServerInterface):
    """What is allowed on a connection."""

    def __init__(self, server: Server, client: KeyPair) -> None:
        self._server = server
        self._client = client.paramiko()

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "root" and key == self._client
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

    def check_channel_request(self, _kind: str, _channel: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_serve, args=(channel, self._server.login.encode() + command)).start()
        return True


def _serve(channel: paramiko.Channel, command: bytes) -> None:
    with subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        pumps = [
            threading.Thread(target=_pump, args=(process.stdout, channel.sendall)),
            threading.Thread(target=_pump, args=(process.stderr, channel.sendall_stderr)),
        ]
        feed = threading.Thread(target=_feed, args=(channel, process))
        for thread in (*pumps, feed):
            thread.start()
        for thread in pumps:
            thread.join()
        status = process.wait()
        with contextlib.suppress(*_GONE):
            channel.send_exit_status(status if status >= 0 else 128 - status)
            channel.close()
        feed.join()


def _pump(pipe: IO[bytes], send: Callable[[bytes], object]) -> None:
    with contextlib.suppress(*_GONE):
        while data := pipe.read(_READ_BYTES):
            send(data)


def _feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    """The command's input; whoever hangs up ends it."""
    assert process.stdin
    with contextlib.suppress(*_GONE):
        while data := channel.recv(_READ_BYTES):
            process.stdin.write(data)
    with contextlib.suppress(OSError):
        process.stdin.close()
    if channel.closed:
        process.kill()


@contextlib.contextmanager
def serving(
    host_key: KeyPair, client: KeyPair, make: Callable[[socket.socket], paramiko.Transport]
) -> Iterator[Server]:
    """A server while it is needed."""
    server = Server(host_key, client, make)
    try:
        yield server
    finally:
        server.close()
