"""Destroying what has no living owner.

`sweep` looks through the ledgers once; as a program (`python -m runners.reaper RUNTIME`) it does so
several times a second until no ledger is left, one such process for each runtime folder. It touches
nothing but what a ledger lists whose owner is dead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from runners.ledger import Entry, private_folder, read

CGROUPS = Path("/sys/fs/cgroup")
_PERIOD_S = 0.3
_GONE_S = 5.0


class Orphan(NamedTuple):
    """Something whose owner is dead."""

    ledger: Path
    entry: Entry


def ensure_reaper(runtime: Path) -> None:
    """Start the reaper of a runtime folder unless it runs; call it after making a ledger."""
    if is_running(runtime):
        return
    # A session of its own and no parent: Ray kills the children of its workers.
    with (runtime / "reaper.log").open("ab") as log:
        subprocess.run(
            ["setsid", "--fork", sys.executable, "-m", "runners.reaper", str(runtime)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            check=True,
        )


def is_running(runtime: Path) -> bool:
    """Whether a reaper looks after this runtime folder."""
    with (private_folder(runtime) / "reaper.lock").open("a") as lock:
        return not _try_lock(lock.fileno())


def orphans(runtime: Path) -> tuple[Orphan, ...]:
    """What `sweep` would destroy."""
    found: list[Orphan] = []
    for path in _ledgers(runtime):
        with _owned(path) as dead:
            if dead:
                found += [Orphan(path, entry) for entry in read(path)]
    return tuple(found)


def sweep(runtime: Path) -> tuple[Orphan, ...]:
    """Destroy everything whose owner is dead; returns what it was."""
    destroyed: list[Orphan] = []
    for path in _ledgers(runtime):
        with _owned(path) as dead:
            # A kind that is not known here is a newer farm's: its ledger is left to it.
            if dead and all(entry.kind in DESTROYERS for entry in read(path)):
                for entry in read(path):
                    DESTROYERS[entry.kind](entry.value)
                    destroyed.append(Orphan(path, entry))
                path.unlink()
    return tuple(destroyed)


def owners(runtime: Path, session: str) -> int:
    """How many ledgers of a session there are, of living and dead owners."""
    return sum(path.name.startswith(f"{session}-") for path in _ledgers(runtime))


def destroy_root(value: str) -> None:
    """End the QEMU processes whose arguments name this libvirt root, then remove the root and their control groups."""
    _destroy_tree(Path(value), programs=("qemu-system-",))
    _remove_groups(value)


def destroy_ray(value: str) -> None:
    """End the processes of a local Ray whose session lies in this folder, then remove the folder."""
    _destroy_tree(Path(value), programs=("raylet", "gcs_server", "python", "ray::"))


def destroy_folder(value: str) -> None:
    """Remove a temporary folder."""
    shutil.rmtree(value, ignore_errors=True)


DESTROYERS: dict[str, Callable[[str], None]] = {
    "libvirt-root": destroy_root,
    "ray-session": destroy_ray,
    "folder": destroy_folder,
}


def _destroy_tree(tree: Path, programs: tuple[str, ...]) -> None:
    until = time.monotonic() + _GONE_S
    while pids := tuple(_processes_naming(tree, programs)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            break  # one that cannot be killed hangs in the kernel; its files go all the same
        time.sleep(0.02)
    shutil.rmtree(tree, ignore_errors=True)


def _remove_groups(root: str) -> None:
    """Of guests whose CPU was limited; libvirt names them after its root (virDomainDriverGenerateMachineName)."""
    machines = f"qemu-embed-{hashlib.sha256(root.encode()).hexdigest()[:8]}-*.libvirt-qemu"
    until = time.monotonic() + _GONE_S
    for group in (group for pattern in (f"*/{machines}", f"*/*/{machines}") for group in CGROUPS.glob(pattern)):
        for folder in (*sorted(group.glob("*/"), reverse=True), group):
            while not _removed(folder) and time.monotonic() < until:
                time.sleep(0.02)


def _removed(group: Path) -> bool:
    """False where a process that is about to end is in it."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        return error.errno != errno.EBUSY
    return True


def _processes_naming(tree: Path, programs: tuple[str, ...]) -> Iterator[int]:
    needle = os.fsencode(tree) + b"/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            if needle not in arguments or process.stat().st_uid != os.geteuid():
                continue
        except (FileNotFoundError, ProcessLookupError):
            continue
        program = Path(os.fsdecode(arguments.split(b"\0", 1)[0])).name
        if program.startswith(programs) and int(process.name) != os.getpid():
            yield int(process.name)


def _ledgers(runtime: Path) -> list[Path]:
    return sorted((runtime / "ledger").glob("*.jsonl"))


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Whether the owner of a ledger is dead; nobody else can find it so meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        # A ledger that another reaper has just removed is locked by nobody, and has no name.
        yield _try_lock(descriptor) and os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(runtime: Path) -> None:
    """Sweep until no ledger is left."""
    while _ledgers(runtime):
        with (runtime / "reaper.lock").open("a") as lock:
            if not _try_lock(lock.fileno()):
                return
            while _ledgers(runtime):
                sweep(runtime)
                time.sleep(_PERIOD_S)
        # A ledger made just before the lock was given back is seen by the outer loop.


if __name__ == "__main__":
    main(Path(sys.argv[1]))
