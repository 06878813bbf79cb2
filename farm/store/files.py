"""The files beside the database: logs and artifacts of attempts, one folder each."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from farm.errors import NotFoundError, UntrustedError
from farm.model import ArtifactFound, ArtifactRecord, AttemptKey, LogChunk, Phase, Stream
from farm.store.database import store_errors
from farm.text import safe_path

_SLUG_CHARS = 60
_HASH_CHARS = 16
_CONSOLE = "console"
LOGS = (*(phase.value for phase in Phase), _CONSOLE)
"""The names that logs may have."""
_IN_THE_WAY = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG})
"""What the system says of a name that another file of the same attempt, or its own length, rules out."""


class Files:
    """The folder of a store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "runs"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._digests: dict[Path, hashlib._Hash] = {}
        self._lock = threading.Lock()
        """Of the digests: attempts may be written and closed by several threads, though no attempt by two at once."""

    def any(self) -> bool:
        """Whether an attempt has left anything yet."""
        return next(self._folder.iterdir(), None) is not None

    def of(self, key: AttemptKey) -> Path:
        """The folder of an attempt; below the store's whatever the key holds."""
        return self._folder / slug(key.run) / slug(key.cell) / str(key.number)

    def write_log(self, key: AttemptKey, chunk: LogChunk) -> None:
        """Append to the phase's log, or to the console's."""
        name = _CONSOLE if chunk.stream is Stream.CONSOLE else chunk.phase.value
        _append(self._log(key, name), chunk.data)

    def write_artifact(self, key: AttemptKey, found: ArtifactFound) -> ArtifactRecord:
        """Append to an artifact; gives it as it is now.

        Raises UntrustedError for a name that leads away, or that cannot be beside those already there.
        """
        folder, name = self.of(key) / "artifacts", safe_path(found.path)
        path = folder / name
        _refuse_links(folder, name)
        digest = self._digest_so_far(path)
        try:
            _append(path, found.data)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            raise UntrustedError(f"cannot keep the artifact {str(name)!r}: {error.strerror}") from error
        digest.update(found.data)
        with self._lock:
            self._digests[path] = digest
        return ArtifactRecord(path=found.path, bytes=path.stat().st_size, sha256=digest.hexdigest())

    def close(self, key: AttemptKey) -> None:
        """Nothing more comes from this attempt."""
        folder = self.of(key)
        with self._lock:
            self._digests = {path: digest for path, digest in self._digests.items() if not path.is_relative_to(folder)}

    def log(self, key: AttemptKey, name: str) -> bytes:
        """A log, as the guest wrote it: a phase's, or `console`. Raises NotFoundError, HostError."""
        there = self.logs(key)
        if name not in there:
            raise NotFoundError(
                f"cannot find a log {name!r} of {key}: there is none", hint=f"there are: {', '.join(there) or 'none'}"
            )
        with store_errors(f"read the log {name} of {key}"):
            return self._log(key, name).read_bytes()

    def logs(self, key: AttemptKey) -> tuple[str, ...]:
        """The names of the logs there are, in the order of the phases, the console last."""
        return tuple(name for name in LOGS if self._log(key, name).exists())

    def log_sizes(self, key: AttemptKey) -> dict[str, int]:
        """The bytes that each log has by now, in the order of the phases, the console last."""
        return {name: self._log(key, name).stat().st_size for name in self.logs(key)}

    def open_log(self, key: AttemptKey, name: str) -> BinaryIO:
        """A log, to be read as far as it goes. Raises NotFoundError where there is none, or none yet, and HostError."""
        if name not in LOGS:
            raise NotFoundError(f"cannot find a log {name!r} of {key}: there is none", hint=f"known: {', '.join(LOGS)}")
        with store_errors(f"read the log {name} of {key}"):
            return _open(self.of(key), PurePosixPath("logs", f"{name}.log"), f"a log {name!r} of {key}")

    def open_artifact(self, key: AttemptKey, path: str) -> BinaryIO:
        """A file that an attempt has left; whether it is on the attempt's list is for `Details.artifact` to say.

        Raises NotFoundError, UntrustedError for a name that leads away, HostError.
        """
        with store_errors(f"read an artifact of {key}"):
            return _open(self.of(key), "artifacts" / safe_path(path), f"the artifact {path!r} of {key}")

    def _log(self, key: AttemptKey, name: str) -> Path:
        return self.of(key) / "logs" / f"{name}.log"

    def _digest_so_far(self, path: Path) -> hashlib._Hash:
        """Of what the file holds; a large file comes in pieces, and is read again only where writing one went wrong."""
        with self._lock:
            known = self._digests.pop(path, None)
        if known:
            return known
        if not path.is_file():
            return hashlib.sha256()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256")


def slug(name: str) -> str:
    """A safe name of a folder for a run or a cell, of its own for every name.

    Plain short names are themselves; every other one ends in a hash, and in a `~`, which no plain one has.
    """
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "_", name)[:_SLUG_CHARS].lstrip(".")
    if readable == name and name:
        return name
    return f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_CHARS]}"


def _refuse_links(folder: Path, name: PurePosixPath) -> None:
    """Raise UntrustedError where a part of the name is a link: nobody has made one here on purpose."""
    steps = [name, *name.parents]
    if any((folder / step).is_symlink() for step in steps):
        raise UntrustedError(f"cannot keep the artifact {str(name)!r}: a part of its name is a link")


def _open(folder: Path, name: PurePosixPath, what: str) -> BinaryIO:
    """A file below a folder, of which no part is a link, whoever may have put it there."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    *folders, last = name.parts
    try:
        at = os.open(folder, flags | os.O_DIRECTORY)
        for step in folders:
            at = _step(at, step, flags | os.O_DIRECTORY)
        fd = _step(at, last, flags)
    except OSError as error:
        if error.errno in _IN_THE_WAY | {errno.ENOENT}:
            raise NotFoundError(f"cannot find {what}: there is none") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotFoundError(f"cannot find {what}: it is no file")
    return open(fd, "rb", buffering=0)  # noqa: PTH123 it is open already


def _step(at: int, name: str, flags: int) -> int:
    """What a folder that is open has by a name; the folder is closed."""
    try:
        return os.open(name, flags, dir_fd=at)
    finally:
        os.close(at)


def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "ab") as file:  # noqa: PTH123 a path cannot be opened with flags
        file.write(data)
