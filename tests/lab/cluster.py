"""A Ray cluster whose nodes are machines of a network of their own, started as docs/cluster.md says."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farm.config import load_settings
from farm.store import Store
from farm.store.details import Details
from tests.lab.network import Machine, Network
from tests.waiting import eventually

BIN = Path(sys.executable).parent
PORT = 6379
_UP_S, _GONE_S = 180.0, 60.0


@dataclass
class Node:
    """A machine with `farm host start` in it."""

    name: str
    machine: Machine
    runtime: Path
    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> None:
        """End it as a service manager does, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(_GONE_S)


@dataclass
class Cluster:
    """A head without guests, and its nodes."""

    folder: Path
    network: Network
    head: Machine
    environment: Mapping[str, str]
    stack: ExitStack
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """What nodes and programs join it by."""
        return f"{self.head.address}:{PORT}"

    def start(self, name: str, *options: str, variables: Mapping[str, str] | None = None) -> Node:
        """Start a host of this name on a machine of its own."""
        machine = self.network.machine(name)
        runtime = Path(tempfile.mkdtemp(prefix="fc", dir="/tmp"))
        self.stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        log = self.folder / f"{name}.log"
        # A state of its own is an id of its own: two nodes on one hypervisor's machine are two farms there.
        own = {"FARM_RUNTIME": str(runtime), "FARM_STATE": str(self.folder / f"state-{name}")} | dict(variables or {})
        command = machine.command(
            BIN / "farm",
            "host",
            "start",
            "--address",
            self.address,
            "--bind",
            machine.address,
            "--name",
            name,
            *options,
        )
        with log.open("wb") as file:
            process = subprocess.Popen(command, env={**self.environment, **own}, stdout=file, stderr=file)
        node = Node(name, machine, runtime, process, log)
        self.stack.callback(node.end)
        self.nodes[name] = node
        return node

    def cut(self, name: str) -> None:
        """Take the power of a host away: nothing of it is told to anybody, and nothing tidies up."""
        node = self.nodes.pop(name)
        node.machine.kill()
        node.process.wait(_GONE_S)

    def farm(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command on the head's machine; it speaks to `command.log`."""
        with (self.folder / "command.log").open("ab") as file:
            return subprocess.Popen(
                self.head.command(BIN / "farm", *arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
            )

    def ask(self, *arguments: str) -> str:
        """What a command on the head's machine says; it has to end well."""
        command = self.head.command(BIN / "farm", *arguments, "--ray-address", self.address)
        ended = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=_UP_S
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def wait_for(self, *names: str, within_s: float = _UP_S) -> str:
        """The list of hosts as soon as all of these take work."""

        def begun() -> bool:
            self._all_live()
            return all("is a host of" in self.nodes[name].log.read_text() for name in names)

        def listed() -> str:
            self._all_live()
            said = self.ask("host", "list")
            there = {line.split()[0] for line in said.splitlines() if "takes work" in line}
            return said if there >= set(names) else ""

        eventually(
            begun,
            within_s=within_s,
            what=lambda: f"{', '.join(names)} have been probed; they said: {self._logs(names)}",
        )
        return eventually(
            listed,
            within_s=within_s,
            what=lambda: f"{', '.join(names)} take work; the list is: {self.ask('host', 'list')}",
        )

    def _logs(self, names: Sequence[str]) -> dict[str, str]:
        return {name: self.nodes[name].log.read_text() for name in names}

    def _all_live(self) -> None:
        for node in self.nodes.values():
            assert node.process.poll() is None, node.log.read_text()

    def run(self, matrix: Mapping[str, Any], *options: str) -> subprocess.Popen[bytes]:
        """Start a run on the cluster."""
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        (source / "hello.txt").write_text("hello\n")
        (self.folder / "m.yaml").write_text(json.dumps({"name": "cluster", "source": {"folder": "source"}, **matrix}))
        return self.farm("run", "m.yaml", "--ray-address", self.address, *options)

    def guests_on(self, name: str) -> int:
        """How many guests are on a host now, as the store has it."""
        settings = load_settings(dict(self.environment))
        if not (settings.state / "farm.db").exists():
            return 0
        store = Store.open(settings.database, settings.state)
        try:
            return sum(guest.host == name for guest in Details(store.engine).guests())
        finally:
            store.close()

    def report(self) -> dict[str, dict[str, Any]]:
        """The cells of the last run's report, by their ids."""
        document = json.loads((self.folder / "farm-report" / "report.json").read_text())
        return {cell["id"]: cell for cell in document["cells"]}

    def said(self) -> str:
        """What the commands said, for when something is wrong."""
        return (self.folder / "command.log").read_text(errors="replace")


@contextmanager
def cluster(folder: Path, network: Network) -> Iterator[Cluster]:
    """A cluster with nothing but its head; its token is its own."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    runtime = Path(tempfile.mkdtemp(prefix="fc", dir="/tmp"))
    environment = dict(os.environ) | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "FARM_STATE": str(folder / "state"),
        "FARM_RUNTIME": str(runtime),
    }
    head = network.machine("head")
    with ExitStack() as stack, (folder / "head.log").open("wb") as log:
        stack.callback(shutil.rmtree, runtime, ignore_errors=True)
        command = head.command(BIN / "ray", *HEAD, f"--node-ip-address={head.address}", f"--port={PORT}")
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        stack.callback(process.wait, _GONE_S)
        stack.callback(process.terminate)
        made = Cluster(folder, network, head, environment, stack)
        eventually(
            lambda: _listens(made),
            within_s=_UP_S,
            as_long_as=lambda: process.poll() is None,
            what=lambda: f"the head listens; it said: {(folder / 'head.log').read_text()}",
        )
        yield made


def _listens(made: Cluster) -> bool:
    try:
        socket.create_connection((made.head.address, PORT), timeout=1).close()
    except OSError:
        return False
    return True


HEAD = ("start", "--head", "--block", "--num-cpus=0", "--include-dashboard=false", "--disable-usage-stats")
"""A head that runs no guests: as in docs/systemd/farm-head.service."""
