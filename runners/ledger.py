"""What a process made outside itself, written down before it is made.

Each process that makes guests is an *owner* with one ledger, a file of JSON lines in
`RUNTIME/ledger/`. It holds a lock on that file for as long as it lives; the kernel gives the lock back
when the process ends, however it ends. So whoever gets the lock of somebody else's ledger knows that
the owner is dead, and may destroy what the ledger lists (`runners.reaper`).

A line is `{"op": "add" | "drop", "kind": …, "value": …}`; what was added and not dropped is there.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from farm.errors import ConfigError


class Entry(NamedTuple):
    """A thing: its kind (a key of `runners.reaper.DESTROYERS`) and what names it."""

    kind: str
    value: str


class Ledger:
    """This process' own ledger; close it when all is destroyed."""

    def __init__(self, runtime: Path, session: str = "") -> None:
        """`session` becomes part of the name: `runners.session` waits for the ledgers of its own."""
        folder = private_folder(private_folder(runtime) / "ledger")
        self.path = folder / f"{session or 'alone'}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        # The name appears only once the lock is held: nobody may take it for a dead owner's.
        hidden = self.path.with_suffix(".new")
        self._file = hidden.open("a", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        hidden.rename(self.path)

    def add(self, entry: Entry) -> None:
        """Write down what is about to be made."""
        self._write("add", entry)

    def drop(self, entry: Entry) -> None:
        """Write down that it is gone."""
        self._write("drop", entry)

    def close(self) -> None:
        """Remove the ledger if nothing is left in it; else leave it to the reaper."""
        if not read(self.path):
            self.path.unlink(missing_ok=True)
        self._file.close()

    def _write(self, op: str, entry: Entry) -> None:
        self._file.write(json.dumps({"op": op, "kind": entry.kind, "value": entry.value}) + "\n")
        self._file.flush()


def read(path: Path) -> tuple[Entry, ...]:
    """What a ledger lists, the newest first; an owner killed while writing leaves half a line."""
    there: dict[Entry, None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        entry = Entry(record["kind"], record["value"])
        if record["op"] == "add":
            there[entry] = None
        else:
            there.pop(entry, None)
    return tuple(reversed(there))


def rewrite(path: Path, entries: Iterable[Entry]) -> None:
    """Make a ledger list these and no others, the newest first; for who holds the lock of a dead owner's.

    The file stays the same: a lock is on a file, not on a name.
    """
    lines = [json.dumps({"op": "add", "kind": entry.kind, "value": entry.value}) + "\n" for entry in entries]
    path.write_text("".join(reversed(lines)), encoding="utf-8")


def is_owned(path: Path) -> bool:
    """Whether the owner of a ledger lives."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def private_folder(path: Path) -> Path:
    """The folder, made if need be, for this user alone. Raises ConfigError if it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigError(
            f"cannot use {path}: it belongs to another user", hint="set FARM_RUNTIME to a folder of your own"
        )
    return path
