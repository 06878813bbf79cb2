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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from farm.errors import HostError
from runners.ledger import Entry, is_owned, private_folder, read, rewrite

CGROUPS = Path("/sys/fs/cgroup")
_PERIOD_S = 0.3
_GONE_S = 5.0
_AGAIN_S = 30.0
"""After which something is tried again that could not be destroyed."""
_AT_A_TIME = 16
_TITLE = b"ray::"
"""How the command line begins of a process of Ray that has written a title over it (setproctitle)."""


class Orphan(NamedTuple):
    """Something whose owner is dead."""

    ledger: Path
    entry: Entry


Tell = Callable[[Orphan, HostError], None]
"""Is told of something that could not be destroyed, and why."""


def _say(orphan: Orphan, error: HostError) -> None:
    """Into the reaper's log, where this is the reaper."""
    print(f"{orphan.entry.kind} {orphan.entry.value}: {error.message}", file=sys.stderr, flush=True)  # noqa: T201


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


def is_needed(runtime: Path) -> bool:
    """Whether there is anything that a reaper would look after."""
    return bool(_ledgers(runtime))


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


def sweep(runtime: Path, tell: Tell = _say) -> tuple[Orphan, ...]:
    """Destroy everything whose owner is dead; returns what it was.

    What lies on a host that cannot be reached stays in its ledger; `tell` is told why.
    """
    return tuple(orphan for path in _ledgers(runtime) for orphan in _swept(path, tell))


def _swept(path: Path, tell: Tell) -> list[Orphan]:
    destroyed: list[Orphan] = []
    with _owned(path) as dead:
        entries = read(path) if dead else ()
        # A kind that is not known here is a newer farm's: its ledger is left to it.
        if not dead or any(entry.kind not in DESTROYERS for entry in entries):
            return destroyed
        left = []
        for orphan in (Orphan(path, entry) for entry in entries):
            try:
                DESTROYERS[orphan.entry.kind](orphan.entry.value)
                destroyed.append(orphan)
            except HostError as error:
                left.append(orphan.entry)
                tell(orphan, error)
        if left:
            rewrite(path, left)
        else:
            path.unlink()
    return destroyed


def owners(runtime: Path, session: str) -> int:
    """How many ledgers of a session there are, of living and dead owners."""
    return sum(path.name.startswith(f"{session}-") for path in _ledgers(runtime))


def destroy_root(value: str) -> None:
    """End the QEMU processes whose arguments name this libvirt root, then remove the root and their control groups."""
    _destroy_tree(Path(value), programs=("qemu-system-",))
    _remove_groups(value)


def destroy_ray(value: str) -> None:
    """End the processes of a local Ray whose session lies in this folder, then remove the folder.

    Also those that hide their arguments: a raylet's agents may outlive it for more than half a minute.
    """
    _destroy_tree(Path(value), programs=("raylet", "gcs_server", "python", "ray::"))


def destroy_bochs(value: str) -> None:
    """End the Bochs whose arguments name this folder, then remove the folder."""
    _destroy_tree(Path(value), programs=("bochs",))


def destroy_folder(value: str) -> None:
    """Remove a temporary folder."""
    shutil.rmtree(value, ignore_errors=True)


def destroy_guest(value: str) -> None:
    """Destroy a guest behind a libvirtd, see `runners.libvirt.remains`. Raises HostError: it may still be there."""
    from runners.libvirt import remains  # noqa: PLC0415 - it makes guests too, and for that it needs this module

    remains.destroy(value)


DESTROYERS: dict[str, Callable[[str], None]] = {
    "libvirt-root": destroy_root,
    "ray-session": destroy_ray,
    "bochs": destroy_bochs,
    "folder": destroy_folder,
    "libvirt-guest": destroy_guest,
}


def _destroy_tree(tree: Path, programs: tuple[str, ...]) -> None:
    until = time.monotonic() + _GONE_S
    while pids := tuple(_processes_of(tree, programs)):
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


def _processes_of(tree: Path, programs: tuple[str, ...]) -> Iterator[int]:
    """Those of this user whose arguments name the tree, or which hide their arguments and have a file of it open."""
    needle = os.fsencode(tree) + b"/"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid != os.geteuid() or int(process.name) == os.getpid():
                continue
            arguments = (process / "cmdline").read_bytes()
            hides = arguments.startswith(_TITLE)
            program = _TITLE.decode() if hides else Path(os.fsdecode(arguments.split(b"\0", 1)[0])).name
            if program.startswith(programs) and (needle in arguments or (hides and _lives_in(process, tree))):
                yield int(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _lives_in(process: Path, tree: Path) -> bool:
    """Whether it has a file of the tree open, and no ledger: what owns something itself ends by itself.

    Its environment and its working folder tell nothing: Ray's do not name the session, and whatever is started there
    inherits both.
    """
    try:
        files = [link.readlink() for link in (process / "fd").iterdir()]
    except PermissionError:
        return False
    there = tree.resolve()
    owner = any(file.parent.name == "ledger" and file.suffix == ".jsonl" for file in files)
    return not owner and any(file.is_relative_to(there) for file in files)


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
            _watch(runtime)
        # A ledger made just before the lock was given back is seen by the outer loop.


def _watch(runtime: Path) -> None:
    """Each ledger for itself: a host that does not answer holds up nobody else's."""
    under_way: dict[Path, Future[list[Orphan]]] = {}
    not_before: dict[Path, float] = {}
    with ThreadPoolExecutor(_AT_A_TIME) as threads:
        while ledgers := _ledgers(runtime):
            now = time.monotonic()
            for path in ledgers:
                if path not in under_way and now > not_before.get(path, 0.0) and not is_owned(path):
                    under_way[path] = threads.submit(_swept, path, _say)
            for path in [path for path, work in under_way.items() if work.done()]:
                under_way.pop(path).result()
                not_before[path] = now + _AGAIN_S  # it is still there if something in it was
            time.sleep(_PERIOD_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
