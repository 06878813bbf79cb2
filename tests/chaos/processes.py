"""The processes of one runtime folder: who they are, whether they are still there, and the end of one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.chaos.scene import LONGEST_S, Scene

_SOON_S = 10.0


class Process(NamedTuple):
    """One that has to do with the runtime folder."""

    pid: int
    kind: str
    """A key of KINDS, or empty."""
    words: str
    """Its command line and where its output goes: a worker of Ray hides the first."""
    parent: int


KINDS = {
    "worker": "ray::chaos-",
    "raylet": "/raylet/raylet ",
    "gcs": "/gcs/gcs_server ",
    "reaper": "-m runners.reaper ",
    "controller": "/farm serve ",
    "qemu": "qemu-system-",
}
"""What tells them apart, in this order: a part of the command line. A worker of Ray has the name of its attempt."""


def processes(runtime: Path) -> tuple[Process, ...]:
    """All that name the folder in their arguments or environment, or write into it; this process is none."""
    return tuple(_named(runtime))


def _named(runtime: Path) -> Iterator[Process]:
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if not arguments:
                continue  # it has ended; nobody has asked yet how
            words = f"{arguments} {_ends(folder)}"
            if str(runtime) in words or os.fsencode(runtime) in (folder / "environ").read_bytes():
                kind = next((kind for kind, mark in KINDS.items() if mark in arguments), "")
                # proc(5): after the command's name, the state, then the parent
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                yield Process(int(folder.name), kind, words, parent)


def _ends(folder: Path) -> str:
    """Where a process' output goes, and where it is."""
    ends = []
    for name in ("fd/1", "fd/2", "cwd"):
        with suppress(OSError):
            ends.append(str((folder / name).readlink()))
    return " ".join(ends)


def kill(kind: str) -> Callable[[Scene], bool]:
    """A fault that kills one of a kind."""

    def kill_one(scene: Scene) -> bool:
        pid = _victim(scene, kind)
        return pid is not None and _sent(pid, signal.SIGKILL)

    return kill_one


def freeze(kind: str) -> Callable[[Scene], bool]:
    """A fault that stops one of a kind for a while."""

    def freeze_one(scene: Scene) -> bool:
        pid = _victim(scene, kind)
        if pid is None or not _sent(pid, signal.SIGSTOP):
            return False
        try:
            time.sleep(scene.dice.uniform(0.2, LONGEST_S))
        finally:
            _sent(pid, signal.SIGCONT)
        return True

    return freeze_one


def _sent(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _victim(scene: Scene, kind: str) -> int | None:
    """One of a kind, as soon as there is one."""
    until = time.monotonic() + _SOON_S
    while time.monotonic() < until:
        found = sorted(one.pid for one in processes(scene.runtime) if one.kind == kind)
        if found:
            return scene.dice.choice(found)
        time.sleep(0.05)
    return None
