"""Opening a database: its settings, its migrations, and the mapping of SQLAlchemy's and the system's errors.

All that is said to SQLite alone is said here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from farm.errors import ConfigError, FarmError, FullError, HostError

MIGRATIONS = Path(__file__).with_name("migrations")

_BUSY_S = "20"
_WRITES = "farm_writes"


class _Meaning(NamedTuple):
    kind: type[FarmError]
    hint: str


_FULL = _Meaning(FullError, "free some disk space")
_ELSEWHERE = _Meaning(ConfigError, "set FARM_STATE to a folder that can be written")
_NOT_OURS = _Meaning(ConfigError, "this file is no database of the farm; set FARM_STATE to another folder")
_LOCKED = _Meaning(HostError, "another program keeps the store locked; end it, or try again")
_TWICE = _Meaning(HostError, "another program works on the same run; let only one of them go on")
_DISK = _Meaning(HostError, "look at the disk that the store is on")

_SQLITE: Mapping[int, _Meaning] = {
    3: _ELSEWHERE,  # SQLITE_PERM
    5: _LOCKED,  # SQLITE_BUSY
    6: _LOCKED,  # SQLITE_LOCKED
    8: _ELSEWHERE,  # SQLITE_READONLY
    10: _DISK,  # SQLITE_IOERR
    11: _DISK,  # SQLITE_CORRUPT
    13: _FULL,  # SQLITE_FULL
    14: _ELSEWHERE,  # SQLITE_CANTOPEN
    19: _TWICE,  # SQLITE_CONSTRAINT
    26: _NOT_OURS,  # SQLITE_NOTADB
}
"""SQLite's primary result codes, <https://www.sqlite.org/rescode.html>."""

_SYSTEM: Mapping[int, _Meaning] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _ELSEWHERE,
    errno.EPERM: _ELSEWHERE,
    errno.EROFS: _ELSEWHERE,
}


def open_database(url: str) -> Engine:
    """An engine on an up-to-date schema. Raises ConfigError, HostError."""
    parsed = _supported(url)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    try:
        _migrate(engine, f"open the store {parsed.render_as_string()}")
    except FarmError:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine, what: str) -> Iterator[Connection]:
    """A transaction that sees one state of the database throughout, and holds up nobody."""
    with store_errors(what), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine, what: str) -> Iterator[Connection]:
    """A transaction that is alone in writing from its first statement on, so that what it reads stays true."""
    with store_errors(what), engine.connect().execution_options(**{_WRITES: True}) as connection, connection.begin():
        yield connection


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn errors of SQLAlchemy, Alembic and the file system into the farm's; `what` is a verb and a thing."""
    try:
        yield
    except CommandError as error:
        raise ConfigError(
            f"cannot {what}: it was written by a newer version of the farm ({error})",
            hint="update the farm, or set FARM_STATE to another folder",
        ) from error
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        # The low byte of an extended code is the primary one.
        meaning = _SQLITE.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF, _DISK)
        raise meaning.kind(f"cannot {what}: {cause}", hint=meaning.hint) from error
    except OSError as error:
        meaning = _SYSTEM.get(error.errno or 0, _DISK)
        raise meaning.kind(f"cannot {what}: {error.strerror or error}", hint=meaning.hint) from error


def _supported(url: str) -> URL:
    """The URL of a database that the farm knows, with the time to wait for locks (seconds) where it names none."""
    hint = "write for example sqlite:////var/lib/farm/farm.db"
    try:
        parsed = make_url(url)
        dialect = parsed.get_dialect().name
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"cannot open the store: {error}", hint=hint) from error
    if dialect != "sqlite":
        raise ConfigError(f"cannot open the store: {dialect} is not supported", hint=hint)
    return parsed if "timeout" in parsed.query else parsed.update_query_dict({"timeout": _BUSY_S})


def _migrate(engine: Engine, what: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    with reading(engine, what) as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with writing(engine, what) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun below: the driver would begin them after the first reads, too late to rely on those.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
