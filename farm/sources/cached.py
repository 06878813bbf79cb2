"""Files in a cache that several processes share: written under another name, then renamed; and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import IO

from farm.errors import SourceError

BLOCK_BYTES = 256 * 1024


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

    A file that has not been named is removed at the end. Raises SourceError if the folder cannot be used.
    """
    number, made = tempfile.mkstemp(prefix=".new-", suffix=suffix, dir=_made(folder))
    new = Path(made)
    with os.fdopen(number, "w+b") as file:

        def name(stem: str) -> Path:
            file.flush()
            return new.rename(folder / f"{stem}{suffix}")

        try:
            yield file, name
        finally:
            new.unlink(missing_ok=True)


@contextmanager
def scratch(cache: Path) -> Iterator[Path]:
    """An empty folder in the cache that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=_made(cache)) as made:
        yield Path(made)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """The folder, made if need be, for this process alone; waits for others."""
    with (_made(folder) / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


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
