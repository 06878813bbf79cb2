"""All that is said to one kind of database alone: how it is reached, how a transaction begins, what its errors mean.

Writers come one after the other, in both: SQLite lets only one in, PostgreSQL is told to. So what a writer has read
stays true until it has written, and events have their ids in the order in which they become visible: a listener that
knows one never misses an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.engine import URL

from farm.errors import ConfigError, FarmError, FullError, HostError


class Meaning(NamedTuple):
    """Of an error: which of the farm's it is, and what to do next."""

    kind: type[FarmError]
    hint: str


FULL = Meaning(FullError, "free some disk space")
ELSEWHERE = Meaning(ConfigError, "set FARM_STATE to a folder that can be written")
DISK = Meaning(HostError, "look at the disk that the store is on")
_NOT_OURS = Meaning(ConfigError, "this file is no database of the farm; set FARM_STATE to another folder")
_LOCKED = Meaning(HostError, "another program keeps the store locked; end it, or try again")
_TWICE = Meaning(HostError, "another program works on the same run; let only one of them go on")
_UNREACHABLE = Meaning(HostError, "see whether PostgreSQL runs, and whether FARM_DATABASE says where")
_REFUSED = Meaning(ConfigError, "see whether FARM_DATABASE names a role and a database that are there")
_NO_RIGHT = Meaning(ConfigError, "make the role of FARM_DATABASE the owner of its database")


class Dialect(NamedTuple):
    """How the farm speaks to a kind of database."""

    driver: str
    """The name of SQLAlchemy's dialect and driver."""
    options: Mapping[str, Any]
    """Of the engine."""
    query: Mapping[str, str]
    """What the URL says of itself where it says nothing else."""
    connect: Callable[..., Any]
    """Makes a connection, the driver's; SQLAlchemy's event `do_connect`."""
    take_time: Callable[[Connection], AbstractContextManager[None]]
    """Meanwhile a transaction may take as long as it likes."""
    begin: Callable[[Connection, bool], None]
    """Begins a transaction that writes, or one that only reads and sees one state throughout."""

    size: str
    """Asks for the bytes that the database takes."""

    def address(self, url: URL) -> URL:
        """The URL with everything that it leaves open."""
        missing = {name: value for name, value in self.query.items() if name not in url.query}
        return url.set(drivername=self.driver).update_query_dict(missing)


# --- SQLite -----------------------------------------------------------------------------------------

_SQLITE_ERRORS: Mapping[int, Meaning] = {
    3: ELSEWHERE,  # SQLITE_PERM
    5: _LOCKED,  # SQLITE_BUSY
    6: _LOCKED,  # SQLITE_LOCKED
    8: ELSEWHERE,  # SQLITE_READONLY
    10: DISK,  # SQLITE_IOERR
    11: DISK,  # SQLITE_CORRUPT
    13: FULL,  # SQLITE_FULL
    14: ELSEWHERE,  # SQLITE_CANTOPEN
    19: _TWICE,  # SQLITE_CONSTRAINT
    26: _NOT_OURS,  # SQLITE_NOTADB
}
"""SQLite's primary result codes, <https://www.sqlite.org/rescode.html>."""


def _connect_sqlite(dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
    connection = dialect.connect(*arguments, **options)
    # Transactions are begun below: the driver would begin them after the first reads, too late to rely on those.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _begin_sqlite(connection: Connection, writes: bool) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_meaning(error: BaseException) -> Meaning | None:
    # The low byte of an extended code is the primary one.
    return _SQLITE_ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)


# --- PostgreSQL -------------------------------------------------------------------------------------

WRITERS = 0x6661726D
"""The advisory lock that one writer after the other has; its number means nothing to anybody else."""

_POSTGRES_ERRORS: Mapping[str, Meaning] = {
    "08": _UNREACHABLE,  # connection exception
    "23": _TWICE,  # integrity constraint violation
    "28": _REFUSED,  # invalid authorization specification
    "3D": _REFUSED,  # invalid catalog name: there is no such database
    "42501": _NO_RIGHT,  # insufficient privilege
    "53": Meaning(FullError, "PostgreSQL has no disk, memory or connection left; see its log"),
    "54": Meaning(ConfigError, "a name is too long, most likely a cell's: give its axes shorter values"),
    "55P03": _LOCKED,  # lock not available
    "57014": Meaning(HostError, "PostgreSQL has taken too long; see what else it does"),  # query canceled
    "57": _UNREACHABLE,  # operator intervention: it is being stopped or started
}
"""SQLSTATEs or their classes, <https://www.postgresql.org/docs/15/errcodes-appendix.html>."""


def _connect_postgres(_dialect: object, _record: object, arguments: Any, options: Any) -> Any:
    from farm.store.postgres import Text, Watchful  # noqa: PLC0415 - its driver is of no use to whoever has SQLite

    connection = Watchful.connect(*arguments, **options)
    connection.adapters.register_dumper(str, Text)
    return connection


@contextmanager
def _take_time_postgres(connection: Connection) -> Iterator[None]:
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver: Any = connection.connection.driver_connection
    with driver.patience():
        yield


def _begin_postgres(connection: Connection, writes: bool) -> None:
    if writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def _postgres_meaning(error: BaseException) -> Meaning | None:
    state = getattr(error, "sqlstate", None)
    if state is None:  # it said nothing at all
        return _UNREACHABLE
    return _POSTGRES_ERRORS.get(state) or _POSTGRES_ERRORS.get(state[:2])


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "sqlite": Dialect(
            driver="sqlite",
            # More connections than there are threads to ask for one: waiting for one would be waiting for a disk.
            options={"pool_size": 16, "max_overflow": 112},
            query={"timeout": "20"},
            connect=_connect_sqlite,
            take_time=lambda _connection: nullcontext(),  # it has no such limits
            begin=_begin_sqlite,
            size="SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        ),
        "postgresql": Dialect(
            driver="postgresql+psycopg",
            # Two servers have room in the hundred connections that PostgreSQL takes if nobody says otherwise.
            options={"pool_size": 16, "max_overflow": 24, "pool_pre_ping": True},
            query={
                # Who has stopped in the middle of writing must not keep the others from it for ever; nothing else that
                # the farm asks takes long. `farm.store.postgres` sees to a server that does not keep to it.
                "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=20s -c statement_timeout=30s",
                "connect_timeout": "10",
                # A machine that is away, or the network to it.
                "tcp_user_timeout": "20000",
                "keepalives_idle": "20",
                "keepalives_interval": "5",
                "keepalives_count": "4",
            },
            connect=_connect_postgres,
            take_time=_take_time_postgres,
            begin=_begin_postgres,
            size="SELECT pg_database_size(current_database())",
        ),
    }
)
"""By the names that SQLAlchemy has for them."""

_MEANINGS: Mapping[str, Callable[[BaseException], Meaning | None]] = {
    "sqlite3": _sqlite_meaning,
    "psycopg": _postgres_meaning,
}
"""By the package that an error is of."""


def meaning_of(error: BaseException) -> Meaning:
    """Of an error of a driver, or of SQLAlchemy itself."""
    of_driver = _MEANINGS.get(type(error).__module__.partition(".")[0])
    return (of_driver(error) if of_driver else None) or DISK
