"""Opening a database: its settings, its migrations, and the mapping of SQLAlchemy's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from farm.errors import ConfigError, FullError, HostError

MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_MS = 20_000


def open_database(url: str) -> Engine:
    """An engine on an up-to-date schema. Raises ConfigError, HostError."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    with database_errors(f"open the store {url}"), engine.begin() as connection:
        _migrate(connection, url)
    return engine


@contextmanager
def database_errors(what: str) -> Iterator[None]:
    """Turn SQLAlchemy's errors into the farm's."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error)
        kind, hint = _meaning(error, cause)
        raise kind(f"cannot {what}: {cause}", hint=hint) from error


def _meaning(error: SQLAlchemyError, cause: str) -> tuple[type[ConfigError | HostError], str]:
    code = getattr(getattr(error, "orig", None), "sqlite_errorname", "")
    meanings: dict[str, tuple[type[ConfigError | HostError], str]] = {
        "SQLITE_FULL": (FullError, "free some disk space"),
        "SQLITE_NOTADB": (ConfigError, "this file is no database of the farm; set FARM_STATE to another folder"),
        "SQLITE_BUSY": (HostError, "another program keeps the store locked"),
        "SQLITE_CANTOPEN": (ConfigError, "set FARM_STATE to a folder that can be written"),
        "SQLITE_READONLY": (ConfigError, "set FARM_STATE to a folder that can be written"),
    }
    if code in meanings:
        return meanings[code]
    wrong_place = isinstance(error, OperationalError | DatabaseError) and "unable to open" in cause
    return (ConfigError, "set FARM_STATE to a folder that can be written") if wrong_place else (HostError, "")


def _migrate(connection: Connection, url: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"cannot open the store {url}: it was written by a newer version of the farm ({error})",
            hint="update the farm, or set FARM_STATE to another folder",
        ) from error


def _set_up_sqlite(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")
