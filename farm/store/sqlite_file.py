"""SQLite's file: it is made once, and a connection to one that is no longer there is no connection.

SQLite itself goes on with a file that was moved away or removed, and makes an empty one where it finds none.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError

from farm.errors import ConfigError

_FILE = "file"
"""In a connection's record: which file it is on."""


def path_of(url: URL) -> Path | None:
    """The file of a database; None: it is in no file, or in one that a URI of SQLite's own names."""
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name not in ("", ":memory:") and not name.startswith("file:")
    return Path(name) if is_file else None


def make(path: Path, *, is_used: bool) -> None:
    """Make the file of a new store. Raises ConfigError where there is none though the store has files."""
    if is_used and not path.exists():
        raise ConfigError(
            f"cannot open the store: {path} is gone, though there are files of runs beside it",
            hint="put it back where it was, or set FARM_STATE to another folder to begin anew",
        )
    with suppress(OSError):  # SQLite says why it cannot be opened
        path.touch(exist_ok=True)


def only_there(url: URL, path: Path) -> URL:
    """The URL for a file that is there: none is made."""
    return url.set(database=f"file:{quote(str(path.absolute()))}").update_query_dict({"uri": "true", "mode": "rw"})


def watch(engine: Engine, path: Path) -> None:
    """From now on a connection is only used while its file is where it was."""

    def connected(_connection: Any, record: Any) -> None:
        record.info[_FILE] = _identity(path)

    def checked_out(_connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get(_FILE) != _identity(path):
            raise DisconnectionError(f"{path} is another file now, or gone")

    event.listen(engine, "connect", connected)
    event.listen(engine, "checkout", checked_out)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
