"""The real program in a process of its own, with its own state and runtime folders, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import eventually

PROGRAM = Path(sys.executable).with_name("farm")
PACKAGES = ["gcc", "libc6-dev", "make"]
"""The same in every matrix here, so that there is one image of each architecture."""
GONE_S = 30.0
_KEPT = {"ledger", "reaper.lock", "reaper.log"}


@dataclass(frozen=True)
class Ended:
    """A program that has come to its end."""

    status: int
    out: str
    err: str


@dataclass
class Farm:
    """The program `farm`, run in a folder of its own."""

    folder: Path
    runtime: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def state(self) -> Path:
        """Where it keeps its store."""
        return self.folder / "state"

    def __call__(self, *arguments: str, timeout_s: float = 240) -> Ended:
        """Run a command to its end."""
        return self.wait(self.start(*arguments), timeout_s=timeout_s)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command; its output goes to files."""
        number = len(self.started)
        with (self.folder / f"{number}.out").open("wb") as out, (self.folder / f"{number}.err").open("wb") as err:
            process = subprocess.Popen(
                [PROGRAM, *arguments],
                cwd=self.folder,
                env=os.environ | {"FARM_STATE": str(self.state), "FARM_RUNTIME": str(self.runtime)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self.started.append(process)
        return process

    def wait(self, process: subprocess.Popen[bytes], *, timeout_s: float) -> Ended:
        """The end of a command; it has to come within this time."""
        status = process.wait(timeout_s)
        ended = Ended(status, self.read(process, "out"), self.read(process, "err"))
        assert "Traceback" not in ended.err + ended.out, ended.err + ended.out
        return ended

    def read(self, process: subprocess.Popen[bytes], which: str) -> str:
        """What a command has printed so far: `out` or `err`."""
        return (self.folder / f"{self.started.index(process)}.{which}").read_text(errors="replace")

    def matrix(self, *, files: Mapping[str, str | bytes] | None = None, **changes: Any) -> str:
        """Write a matrix (`max_parallel` is its `max-parallel`) and its source; returns the file's name."""
        for name, content in ({"hello.txt": "hello\n"} | dict(files or {})).items():
            path = self.folder / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        values: dict[str, Any] = {"name": "e2e", "source": {"folder": "source"}, "test": "true\n"}
        values |= {key.replace("_", "-"): value for key, value in changes.items()}
        (self.folder / "m.yaml").write_text(json.dumps(values, indent=1))  # JSON is YAML
        return "m.yaml"

    def report(self, folder: str = "farm-report") -> dict[str, Any]:
        """`report.json`, whole."""
        report: dict[str, Any] = json.loads((self.folder / folder / "report.json").read_text())
        return report

    def cells(self, folder: str = "farm-report") -> dict[str, dict[str, Any]]:
        """The cells of `report.json`, by the value of their axis `case`, or else by their architecture."""
        cells = self.report(folder)["cells"]
        return {str(cell["values"].get("case", cell["values"]["arch"])): cell for cell in cells}

    def logs(self, text: bytes) -> int:
        """In how many logs of the store this text stands."""
        return sum(text in path.read_bytes() for path in self.state.rglob("*.log"))

    def processes(self, *words: str) -> dict[int, str]:
        """The processes whose arguments name the runtime folder and all these words."""
        listing = subprocess.run(["pgrep", "-af", str(self.runtime)], capture_output=True, text=True, check=False)
        found = (line.partition(" ") for line in listing.stdout.splitlines())
        return {int(pid): line for pid, _, line in found if all(word in line for word in words)}

    def ledgers(self) -> list[Path]:
        """The ledgers of this runtime folder."""
        return sorted((self.runtime / "ledger").glob("*"))

    def left_behind(self) -> list[str]:
        """What ought not to be there any more."""
        files = [path.name for path in self.runtime.iterdir() if path.name not in _KEPT]
        return [*self.processes().values(), *map(str, self.ledgers()), *files]


def verdict(judged: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Verdict, blame and rule of a cell or an attempt."""
    outcome = judged["outcome"]
    return outcome["verdict"], outcome["blame"], outcome["rule"]


def fake(**axes: Any) -> dict[str, Any]:
    """Axes of cells for scripted guests."""
    return {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["fake"], **axes}


def real(*archs: str, **axes: Any) -> dict[str, Any]:
    """Axes of cells for emulated guests."""
    return {"image": ["debian-13"], "arch": list(archs or ("amd64",)), "hypervisor": ["qemu"], **axes}


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """The program; afterwards nothing of what it made is left."""
    runtime = Path(tempfile.mkdtemp(prefix="fr", dir="/tmp"))
    program = Farm(tmp_path, runtime)
    try:
        yield program
        assert [process for process in program.started if process.poll() is None] == []
        eventually(
            lambda: not program.left_behind(),
            within_s=GONE_S,
            what=lambda: f"nothing is left; there is: {program.left_behind()}",
        )
    finally:
        for process in program.started:
            if process.poll() is None:
                process.send_signal(2)
                process.wait(GONE_S)
        shutil.rmtree(runtime, ignore_errors=True)
