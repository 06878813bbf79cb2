"""A real `farm serve` in a process of its own, with its own state and runtime folders."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.waiting import eventually

PROGRAM = Path(sys.executable).with_name("farm")
START_S = 240.0
"""The first start on a machine tries its hypervisors."""
END_S = 60.0
MATRIX = """\
name: {name}
axes:
  image: [debian-13]
  arch: [amd64, s390x]
  hypervisor: [fake]
guest: {{memory: 128M, vcpus: {vcpus}}}
test: {test}
"""


@dataclass
class Serving:
    """A server and its clients."""

    folder: Path
    runtime: Path
    settings: str = ""
    """More lines of farm.toml."""
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    process: subprocess.Popen[bytes] | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """Where its store is."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.folder / "serve.log"

    def start(self, port: int = 0) -> None:
        """Start it, and wait until it says where it listens."""
        before = self.log.stat().st_size if self.log.exists() else 0
        process = self.spawn(port)
        found = eventually(
            lambda: re.search(rb"serving on (http://\S+)", self.log.read_bytes()[before:]),
            within_s=START_S,
            as_long_as=lambda: process.poll() is None,
            what=lambda: f"the server listens; it said: {self.log.read_text()}",
        )
        self.url = found[1].decode()

    def spawn(self, port: int = 0) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        (self.folder / "farm.toml").write_text(f"port = {port}\n{self.settings}")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--config", str(self.folder / "farm.toml")],
                env=os.environ | self.variables,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until it has ended."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(END_S)

    def farm(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run another command of the program on the same store."""
        command = [PROGRAM, *arguments]
        return subprocess.run(
            command,
            env=os.environ | self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=check,
            timeout=timeout_s,
        )

    def token(self, scope: str, name: str | None = None) -> str:
        """A token of a scope, the same each time."""
        name = name or f"the-{scope}"
        if name not in self.tokens:
            self.tokens[name] = self.farm("token", "create", name, "--scope", scope).stdout.strip()
        return self.tokens[name]

    def client(self, scope: str = "admin", *, name: str | None = None, timeout_s: float = 60) -> httpx.Client:
        """A client with a token of a scope; an empty scope: without any."""
        headers = {"Authorization": f"Bearer {self.token(scope, name)}"} if scope else {}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s)
        self.clients.append(client)
        return client

    def upload(self, client: httpx.Client, files: Mapping[str, bytes] | None = None) -> str:
        """Upload a source; gives its digest."""
        answer = client.post("/api/v1/sources", content=tar_of(files or {"hello.txt": b"hello\n"}))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["digest"])

    def submit(
        self, client: httpx.Client, test: str = "echo hello", name: str = "hello", vcpus: int = 1, **more: Any
    ) -> str:
        """Submit a run of two scripted cells; gives its id."""
        body = {
            "matrix": MATRIX.format(name=name, test=json.dumps(test), vcpus=vcpus),
            "source": {"upload": self.upload(client)},
        } | more
        answer = client.post("/api/v1/runs", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["run"]["id"])

    def wait_for(self, client: httpx.Client, run: str, state: str = "finished", timeout_s: float = 60) -> Any:
        """The overview of a run as soon as it is in a state."""
        found: Any = None

        def reached() -> bool:
            nonlocal found
            found = client.get(f"/api/v1/runs/{run}").json()
            return bool(found["run"]["state"] == state)

        eventually(reached, within_s=timeout_s, what=lambda: f"{run} is {state}; it is: {found}")
        return found

    @property
    def variables(self) -> dict[str, str]:
        """What its environment has beyond that of the tests: commands on its machine need the same."""
        return {"FARM_STATE": str(self.state), "FARM_RUNTIME": str(self.runtime), **self.environment}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
