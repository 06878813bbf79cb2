"""The files beside the database: logs and artifacts of attempts, one folder each."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from farm.errors import NotFoundError
from farm.model import ArtifactFound, ArtifactRecord, AttemptKey, LogChunk, Phase, Stream
from farm.text import safe_path

_SLUG_CHARS = 60
_CONSOLE = "console"


class Files:
    """The folder of a store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "runs"
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def of(self, key: AttemptKey) -> Path:
        """The folder of an attempt."""
        return self._folder / slug(key.run) / slug(key.cell) / str(key.number)

    def write_log(self, key: AttemptKey, chunk: LogChunk) -> None:
        """Append to the phase's log, or to the console's."""
        name = _CONSOLE if chunk.stream is Stream.CONSOLE else chunk.phase.value
        _append(self.of(key) / "logs" / f"{name}.log", chunk.data)

    def write_artifact(self, key: AttemptKey, found: ArtifactFound) -> ArtifactRecord:
        """Append to an artifact; gives it as it is now. Raises UntrustedError for a name that leads away."""
        path = self.of(key) / "artifacts" / safe_path(found.path)
        _append(path, found.data)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return ArtifactRecord(path=found.path, bytes=path.stat().st_size, sha256=digest)

    def log(self, key: AttemptKey, name: str) -> bytes:
        """A log as it was written. Raises NotFoundError."""
        there = self.logs(key)
        if name not in there:
            raise NotFoundError(f"cannot find a log {name!r} of {key}", hint=f"there are: {', '.join(there) or 'none'}")
        return (self.of(key) / "logs" / f"{name}.log").read_bytes()

    def logs(self, key: AttemptKey) -> tuple[str, ...]:
        """The names of the logs there are, in the order of the phases, the console last."""
        names = (*(phase.value for phase in Phase), _CONSOLE)
        return tuple(name for name in names if (self.of(key) / "logs" / f"{name}.log").exists())


def slug(name: str) -> str:
    """A safe and unique name of a folder for a run or a cell."""
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "_", name)[:_SLUG_CHARS].lstrip(".") or "_"
    return readable if readable == name else f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)
