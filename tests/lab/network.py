"""Machines that are none: network namespaces, each with an address of its own on one bridge.

What runs in one reaches the others by the bridge and nothing else; this machine itself is at the bridge's own address,
so that what listens there (an emulated lab host) is reached as well. Needs root.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A namespace."""

    name: str
    address: str

    def command(self, *argv: str | Path) -> list[str | Path]:
        """A command line that runs in it."""
        return ["ip", "netns", "exec", self.name, *argv]

    def processes(self) -> tuple[int, ...]:
        """What runs in it."""
        return tuple(map(int, _ip("netns", "pids", self.name).split()))

    def kill(self) -> None:
        """End all that runs in it, as a power cut does."""
        while pids := self.processes():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@dataclass
class Network:
    """A bridge, and its machines."""

    stack: ExitStack
    bridge: str
    prefix: str
    machines: int = 0

    @property
    def address(self) -> str:
        """This machine's."""
        return f"{self.prefix}.1"

    def machine(self, name: str) -> Machine:
        """Another one, with nothing in it. It is killed at the end."""
        self.machines += 1
        here = f"{self.bridge}{self.machines}"
        made = Machine(f"{self.bridge}-{name}", f"{self.prefix}.{self.machines + 1}")
        _ip("netns", "add", made.name)
        self.stack.callback(_ip, "netns", "del", made.name)
        self.stack.callback(made.kill)
        _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        _ip("link", "set", here, "master", self.bridge, "up")
        _ip("-n", made.name, "link", "set", "lo", "up")
        _ip("-n", made.name, "address", "add", f"{made.address}/24", "dev", "eth0")
        _ip("-n", made.name, "link", "set", "eth0", "up")
        return made


@contextmanager
def network() -> Iterator[Network]:
    """An empty one; nothing of it is left at the end."""
    with ExitStack() as stack:
        tag = secrets.randbelow(200) + 20
        made = Network(stack, f"fn{tag}", f"10.83.{tag}")
        _ip("link", "add", made.bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", made.bridge)
        _ip("address", "add", f"{made.address}/24", "dev", made.bridge)
        _ip("link", "set", made.bridge, "up")
        yield made


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
