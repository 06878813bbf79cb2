"""The file that a guest's console goes into."""

from __future__ import annotations

import os
from pathlib import Path

_BYTES = 64 * 1024


class ConsoleReader:
    """Reads what a console file has got since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def size(self) -> int:
        """How much has been said, in bytes."""
        return self._path.stat().st_size if self._path.exists() else 0

    def last(self) -> bytes:
        """The last 64 KiB."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _BYTES))
                return file.read()
        except FileNotFoundError:
            return b""

    def new(self) -> bytes:
        """What was said since this was last asked, at most 64 KiB of it; empty if nothing was."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_BYTES)
        except FileNotFoundError:
            return b""
        self._at += len(data)
        return data
