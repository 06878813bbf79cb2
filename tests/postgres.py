"""A real PostgreSQL for the tests: its own folder, a Unix socket, nobody else's business."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from farm.store.database import open_database
from tests.waiting import eventually

_USER = "nobody"
"""Who runs it where the tests run as root: PostgreSQL refuses to."""
_OPTIONS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200")
_FAST = "synchronous_commit=off"
"""What is committed may be lost when PostgreSQL crashes: not for tests in which it does."""
_TEMPLATE = "template"
START_S = 240.0
"""It may have to recover first, on a machine that is busy."""


def programs() -> Path:
    """The folder of the newest PostgreSQL that is installed; Debian puts it where no PATH leads."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = debian[-1:] or [Path(path) for path in filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.fail("there is no PostgreSQL: see `.ci/setup tests`")
    return found[0].parent


class Postgres:
    """A server that runs; it may be stopped and started again."""

    def __init__(self, folder: Path, bin_: Path, *options: str) -> None:
        self.folder = folder
        self._bin = bin_
        self._options = (f"unix_socket_directories={folder}", *_OPTIONS, *options)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel counts the end of the thread that has started a process as that of its parent.
        self._starter = ThreadPoolExecutor(1)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        data = str(self.folder / "data")
        options = [f"-c{option}" for option in self._options]
        # Also where the tests are killed, it must not stay behind.
        watched = ["setpriv", "--pdeathsig", "INT", "--", str(self._bin / "postgres"), "-D", data, *options]
        with (self.folder / "log").open("ab") as log:
            how = {"cwd": self.folder, "stdout": log, "stderr": log, "user": _user()}
            self._process = self._starter.submit(partial(subprocess.Popen, watched, **how)).result()
        process, ask = self._process, [self._bin / "pg_isready", "-q", "-h", self.folder]
        eventually(
            lambda: subprocess.run(ask, check=False).returncode == 0,
            within_s=START_S,
            as_long_as=lambda: process.poll() is None,
            what=lambda: f"PostgreSQL answers; it said: {(self.folder / 'log').read_text()}",
        )

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, or with SIGINT in good order; returns when it has ended."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(60)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile it stands still: its connections stay open, new ones come about, and nothing is answered."""
        assert self._process
        # First the one that would make more of them.
        family = [self._process.pid]
        os.kill(family[0], signal.SIGSTOP)
        found = subprocess.run(["pgrep", "-P", str(family[0])], capture_output=True, text=True, check=True)
        family += map(int, found.stdout.split())
        try:
            for pid in family[1:]:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """It is not started any more."""
        self._starter.shutdown()

    def create(self, name: str = "", *, of: str = _TEMPLATE) -> str:
        """A database of its own, by default with the farm's tables; gives its URL."""
        name = name or f"farm{next(self._numbers)}"
        with psycopg.connect(host=str(self.folder), user="farm", dbname="postgres", autocommit=True) as connection:
            names = map(sql.Identifier, (name, of))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return f"postgresql://farm@/{name}?host={self.folder}"


@contextmanager
def postgres(bin_: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """For as long as this lasts, one runs; `durable`: it may crash."""
    with tempfile.TemporaryDirectory(prefix="fpg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.getuid() == 0:
            owner = pwd.getpwnam(_USER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data = str(folder / "data")
        _run(folder, bin_ / "initdb", "-D", data, "-U", "farm", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        server = Postgres(folder, bin_, *([] if durable else [_FAST]))
        try:
            server.start()
            open_database(server.create(_TEMPLATE, of="template0")).dispose()
            yield server
        finally:
            server.stop()
            server.close()


def _user() -> str | None:
    return _USER if os.getuid() == 0 else None


def _run(folder: Path, *command: str | Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, user=_user())
