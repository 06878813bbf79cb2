"""Opening a database: its migrations, its transactions, and the mapping of errors to the farm's."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from farm.errors import ConfigError, FarmError
from farm.store import sqlite_file
from farm.store.dialects import DIALECTS, DISK, ELSEWHERE, FULL, Dialect, Meaning, meaning_of

MIGRATIONS = Path(__file__).with_name("migrations")
NEWEST = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""The revision of the schema that this version works with: its file's name begins with it."""

_WRITES = "farm_writes"

_SYSTEM: Mapping[int, Meaning] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EROFS: ELSEWHERE,
}


def open_database(url: str, *, is_used: bool = False) -> Engine:
    """An engine on an up-to-date schema; `is_used`: it is no new one. Raises ConfigError, HostError."""
    parsed, dialect = _supported(url)
    path = sqlite_file.path_of(parsed)
    if path:
        sqlite_file.make(path, is_used=is_used)
    engine = create_engine(sqlite_file.only_there(parsed, path) if path else parsed, **dialect.options)
    if path:
        sqlite_file.watch(engine, path)

    def begin(connection: Connection) -> None:
        dialect.begin(connection, connection.get_execution_options().get(_WRITES, False))

    event.listen(engine, "do_connect", dialect.connect)
    event.listen(engine, "begin", begin)
    try:
        _migrate(engine, f"open the store {parsed.set(query={}).render_as_string()}")
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


def size_of(connection: Connection) -> int:
    """The bytes that the database takes."""
    return int(connection.exec_driver_sql(DIALECTS[connection.dialect.name].size).scalar_one())


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn errors of SQLAlchemy and the file system into the farm's; `what` is a verb and a thing."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        meaning = meaning_of(cause)
        raise meaning.kind(f"cannot {what}: {_first_line(cause)}", hint=meaning.hint) from error
    except OSError as error:
        meaning = _SYSTEM.get(error.errno or 0, DISK)
        raise meaning.kind(f"cannot {what}: {error.strerror or error}", hint=meaning.hint) from error


def _first_line(cause: BaseException) -> str:
    """What went wrong; what follows may be half a page of a query."""
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _supported(url: str) -> tuple[URL, Dialect]:
    """The URL of a database that the farm knows, with what it leaves open."""
    hint = "write for example sqlite:////var/lib/farm/farm.db or postgresql://farm@db.example.org/farm"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"cannot open the store: {error}", hint=hint) from error
    dialect = DIALECTS.get(parsed.get_backend_name())
    if dialect is None:
        raise ConfigError(f"cannot open the store: {parsed.get_backend_name()} is not supported", hint=hint)
    return dialect.address(parsed), dialect


def _migrate(engine: Engine, what: str) -> None:
    with reading(engine, what) as connection:
        if _revision(connection) == NEWEST:
            return
    from farm.store.migrating import migrate  # noqa: PLC0415 - Alembic takes long to import, and most stores are new enough

    with writing(engine, what) as connection, DIALECTS[connection.dialect.name].take_time(connection):
        migrate(connection, MIGRATIONS, what)


def _revision(connection: Connection) -> str | None:
    """Of its schema, as Alembic has written it down; None: there is none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
