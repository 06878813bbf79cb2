"""OpenSSH's own server on the loopback, for tests: with keys of its own, and none of this machine's settings."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from runners.hosts.uri import HostUri, parse_uri
from runners.keys import make_key_pair
from tests.waiting import eventually

START_S = 20.0


class Sshd:
    """A server; who has `key` may log in as whoever runs the tests."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are lines of sshd_config(5); the first that says something about a thing counts."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.key = self._write_key("client")
        self.known_hosts = folder / "known_hosts"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._options = options
        self.change_host_key()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        self._process: subprocess.Popen[bytes] | None = None

    def uri(self, driver: str = "qemu", **changed: str) -> HostUri:
        """This machine as another one."""
        given = {"keyfile": str(self.key), "known_hosts": str(self.known_hosts), **changed}
        return parse_uri(f"{driver}+ssh://{getpass.getuser()}@127.0.0.1:{self.port}/system?{urlencode(given)}")

    def change_host_key(self) -> None:
        """From its next start on it shows another one."""
        self._write_key("host")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self.folder / "sshd_config"
        lines = (
            *self._options,
            f"HostKey {self.folder / 'host'}",
            f"AuthorizedKeysFile {self.folder / 'client.pub'}",
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
        )
        config.write_text("\n".join(lines) + "\n")
        log = (self.folder / "log").open("ab")
        process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)], stderr=log)
        log.close()
        self._process = process
        eventually(
            self._listens,
            within_s=START_S,
            as_long_as=lambda: process.poll() is None,
            what=lambda: f"sshd listens; it said: {(self.folder / 'log').read_text()}",
        )

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def hang_up(self) -> None:
        """End every connection; it goes on to listen."""
        for child in self._children():
            subprocess.run(["kill", "-9", str(child)], check=False)

    def stop(self) -> None:
        """End it and every connection."""
        if self._process:
            children = self._children()
            self._process.kill()
            self._process.wait()
            for child in children:
                subprocess.run(["kill", "-9", str(child)], check=False, stderr=subprocess.DEVNULL)
            self._process = None

    def _children(self) -> list[int]:
        """The processes of its connections, not what runs in them."""
        assert self._process
        pid = self._process.pid
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
        monitors = [int(word) for word in found.split()]
        inner = [
            int(word)
            for one in monitors
            for word in subprocess.run(
                ["pgrep", "-P", str(one), "-f", "^sshd"], capture_output=True, text=True, check=False
            ).stdout.split()
        ]
        return [*inner, *monitors]

    def _write_key(self, name: str) -> Path:
        pair = make_key_pair()
        private = self.folder / name
        private.touch(mode=0o600)
        private.write_text(pair.openssh)
        (self.folder / f"{name}.pub").write_text(pair.public + "\n")
        return private


@contextmanager
def sshd(folder: Path, *options: str) -> Iterator[Sshd]:
    """A server while it is needed."""
    server = Sshd(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
