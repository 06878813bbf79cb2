"""Files in a cache that several processes share: written under another name, then renamed; and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import IO

from farm.errors import SourceError

BLOCK_BYTES = 256 * 1024
_NEW = ".new-"
_BEGINNING_S = 60.0
"""What is younger may not be locked yet by whoever is just making it."""


def _made(folder: Path) -> Path:
    """The folder, made if need be. Raises SourceError if it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(
            f"cannot use the cache {folder}: {error.strerror}", hint="FARM_CACHE may name another"
        ) from error
    return folder


@contextmanager
def written(folder: Path, suffix: str = "") -> Iterator[tuple[BufferedRandom, Callable[[str], Path]]]:
    """A new file in `folder`, and the function that gives it its name once it is complete.

    A file that has not been named is removed at the end, or, where this process is killed, when the next one is
    written. Raises SourceError if the folder cannot be used.
    """
    _sweep(_made(folder))
    number, made = tempfile.mkstemp(prefix=_NEW, suffix=suffix, dir=folder)
    new = Path(made)
    with os.fdopen(number, "w+b") as file:
        fcntl.flock(number, fcntl.LOCK_EX)

        def name(stem: str) -> Path:
            file.flush()
            return new.rename(folder / f"{stem}{suffix}")

        try:
            yield file, name
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """An empty folder in the cache that is removed at the end, or, as a file that is written, when the next is made."""
    _sweep(_made(cache))
    with tempfile.TemporaryDirectory(prefix=_NEW, dir=cache) as made, _lock(Path(made)):
        yield Path(made)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """The folder, made if need be, for this process alone; waits for others."""
    with (_made(folder) / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left unfinished in a folder: nobody holds its lock any more."""
    for rest in folder.glob(f"{_NEW}*"):
        with suppress(OSError), _lock(rest, fcntl.LOCK_NB) as status:
            if time.time() - status.st_mtime < _BEGINNING_S:
                continue
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            else:
                rest.unlink()


@contextmanager
def _lock(path: Path, how: int = 0) -> Iterator[os.stat_result]:
    """Hold the lock of a file or a folder; gives what it is. Raises BlockingIOError with LOCK_NB, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | how)
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def copy(blocks: Iterator[bytes], file: IO[bytes], *, limit: int, to: str) -> str:
    """Write the blocks to the file; the SHA-256 of them all.

    Raises SourceError past `limit` bytes; `to` is what is being done, a verb and a thing.
    """
    digest = hashlib.sha256()
    total = 0
    for block in blocks:
        total += len(block)
        if total > limit:
            raise SourceError(f"cannot {to}: it is larger than {limit} bytes")
        digest.update(block)
        try:
            file.write(block)
        except OSError as error:
            raise SourceError(f"cannot {to}: {error.strerror}", hint="free some space on the disk") from error
    return digest.hexdigest()


def blocks_of(file: IO[bytes]) -> Iterator[bytes]:
    """The content of a file in pieces."""
    while block := file.read(BLOCK_BYTES):
        yield block
