"""The program in a terminal's place: on the machine of a server, and on another one that only knows its address."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.service.serving import PROGRAM, Serving

END_S = 120.0


@dataclass(frozen=True)
class Ended:
    """A command that has come to its end."""

    status: int
    out: str
    err: str


@dataclass
class Terminal:
    """A folder with a matrix in it, and what the commands find in their environment."""

    folder: Path
    environment: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def matrix(self, *, name: str = "m", test: str = "echo hello", **changes: Any) -> str:
        """Write a matrix of two scripted cells and its source; returns the file's name."""
        (self.folder / "source").mkdir(exist_ok=True)
        (self.folder / "source/hello.txt").write_text(f"hello {name}\n")
        axes = {"image": ["debian-13"], "arch": ["amd64", "s390x"], "hypervisor": ["fake"]}
        values = {"name": name, "source": {"folder": "source"}, "axes": axes, "guest": {"memory": "128M"}, "test": test}
        (self.folder / f"{name}.yaml").write_text(json.dumps(values | changes))  # JSON is YAML
        return f"{name}.yaml"

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        """Run a command to its end."""
        return self.end(self.start(*arguments, **environment))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to files."""
        number = len(self.started)
        with self._file(number, "out").open("wb") as out, self._file(number, "err").open("wb") as err:
            process = subprocess.Popen(
                [PROGRAM, *arguments],
                cwd=self.folder,
                env=os.environ | dict(self.environment) | environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> Ended:
        """The end of a command."""
        process.wait(END_S)
        ended = Ended(process.returncode, self.read(process, "out"), self.read(process, "err"))
        assert "Traceback" not in ended.out + ended.err, ended.err
        return ended

    def read(self, process: subprocess.Popen[bytes], which: str) -> str:
        """What a command has printed so far: `out` or `err`."""
        return self._file(self.started.index(process), which).read_text(errors="replace")

    def _file(self, number: int, which: str) -> Path:
        return self.folder / f"{number}.{which}"


@contextmanager
def terminals(folder: Path, server: Serving, scope: str = "submit") -> Iterator[tuple[Terminal, Terminal]]:
    """One on the server's machine, on its store; and one elsewhere, with a token."""
    with tempfile.TemporaryDirectory(prefix="ft-", dir="/tmp") as runtime:
        there = {
            "FARM_STATE": str(folder / "state"),
            "FARM_RUNTIME": runtime,
            "FARM_SERVER": server.url,
            "FARM_TOKEN": server.token(scope),
        }
        made = []
        for name, environment in (("here", server.variables), ("there", there)):
            (folder / name).mkdir()
            made.append(Terminal(folder / name, environment))
        try:
            yield made[0], made[1]
        finally:
            for process in made[0].started + made[1].started:
                if process.poll() is None:
                    process.kill()
                    process.wait()


def normal(text: str) -> list[str]:
    """Output without what no two runs have in common; its lines sorted, since cells run side by side."""
    text = re.sub(r"\b([a-z]+)-\d+\b(?!/)", r"\1-N", text)
    text = re.sub(r"(--only \S+?)/(amd64|s390x)", r"\1/ARCH", text)  # the one that took longest goes first
    text = re.sub(r" *\b\d+(\.\d+)? s\b", " T", text)
    return sorted(re.sub(r" +$", "", line) for line in text.splitlines())
