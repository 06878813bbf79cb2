"""A host as a node of a Ray cluster: a `ray start` of its own, that ends when it is told to.

Whoever starts it is its parent for as long as it lives, so that a service manager has one process to look after:
signals are passed on, the end of either is the end of both.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from farm.errors import ConfigError, HostError
from farm.labels import MEMORY, labels_of
from farm.model import Host

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GENTLY_S = 20.0
_LOOK_S = 0.5
_DIAL_S = 10.0
_KILLED_S = 0.02
TOKENS = {"RAY_AUTH_MODE": "token"}
"""A node sends its cluster's token only where this says so; what stands in the environment goes before."""


def ray_command(host: Host, *, address: str | None, port: int, bind: str) -> list[str]:
    """The `ray start` that makes this host a node; without an address, the head of a new cluster."""
    labels = ",".join(f"{key}={value}" for key, value in labels_of(host).items())
    where = [f"--address={address}"] if address else ["--head", f"--port={port}", "--include-dashboard=false"]
    return [
        _ray(),
        "start",
        "--block",
        *where,
        f"--node-ip-address={bind}",
        f"--num-cpus={host.vcpus}",
        f"--resources={json.dumps({MEMORY: host.memory_mib})}",
        f"--labels={labels}",
        "--disable-usage-stats",
    ]


def make_token() -> None:
    """A new cluster needs a token; one that is there is kept. Raises HostError."""
    try:
        subprocess.run(
            [_ray(), "get-auth-token", "--generate"], env=TOKENS | os.environ, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise HostError(f"cannot make the token of a new cluster: {error}", hint="see docs/cluster.md") from error


def check_head(address: str) -> None:
    """Whether somebody listens there: Ray itself would try for minutes. Raises ConfigError, HostError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"cannot join {address!r}: it is no address", hint="the head's, for example head.lan:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_DIAL_S).close()
    except (OSError, OverflowError) as error:
        raise HostError(
            f"cannot join the cluster at {address}: {error}", hint="does its head run, and let this machine in?"
        ) from error


def run_node(command: list[str], environ: Mapping[str, str]) -> None:
    """Run `ray start` until a signal comes. To be called in the main thread.

    Raises HostError where it ends by itself, with its last words.
    """
    with _heard() as told, tempfile.TemporaryFile() as words:
        try:
            # A group of its own: Ctrl-C at a terminal comes to it once, from here.
            node = subprocess.Popen(
                command, env=TOKENS | dict(environ), start_new_session=True, stdout=subprocess.DEVNULL, stderr=words
            )
        except OSError as error:
            raise HostError(f"cannot start {command[0]}: {error.strerror}") from error
        while node.poll() is None and not told:
            with suppress(subprocess.TimeoutExpired):
                node.wait(_LOOK_S)
        if not told:
            _end_session(node.pid)
            words.seek(0)
            raise HostError(
                f"cannot go on as a node: Ray has ended with {node.returncode}: {_last(words.read())}",
                hint="is the head there, and its token here? see docs/cluster.md",
            )
        node.terminate()
        try:
            node.wait(_GENTLY_S)
        except subprocess.TimeoutExpired:
            node.kill()
            node.wait()


def _end_session(leader: int) -> None:
    """Kill what a Ray that has ended has left: its agents may outlive its raylet by more than half a minute."""
    while members := [int(one.name) for one in Path("/proc").glob("[0-9]*") if _is_member(one, leader)]:
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_KILLED_S)


def _is_member(process: Path, leader: int) -> bool:
    """Whether a process is of a session, and has not ended."""
    try:
        # proc_pid_stat(5): after the name its state, its parent, its group, its session
        state, _, _, session, *_ = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended meanwhile
        return False
    return session == str(leader) and state not in "ZX"


def _last(words: bytes) -> str:
    """The last line, which is that of the error."""
    lines = words.decode(errors="replace").strip().splitlines()
    return lines[-1].partition(" Note:")[0] if lines else "it said nothing"


@contextmanager
def _heard() -> Iterator[list[int]]:
    """Signals to end, as they come; nothing is interrupted by them."""
    heard: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ray() -> str:
    return str(Path(sys.executable).with_name("ray"))
