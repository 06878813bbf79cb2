"""The tables. Values of the model that are only read back whole are kept as JSON."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# Times are text, ISO 8601 in UTC with microseconds: they sort as they are, and are the same in every database.
Time = String(32)
# SQLite counts by itself only what is called INTEGER there, which has 64 bits anyway.
Id = BigInteger().with_variant(Integer, "sqlite")


class Beginning(FunctionElement[str]):
    """As much of a test's name as an index may hold: PostgreSQL has room for 2704 bytes in an entry, SQLite for all."""

    inherit_cache = True


@compiles(Beginning)
def _whole(element: Beginning, compiler: SQLCompiler, **how: object) -> str:
    return compiler.process(element.clauses, **how)


@compiles(Beginning, "postgresql")
def _left(element: Beginning, compiler: SQLCompiler, **how: object) -> str:
    return f"left({compiler.process(element.clauses, **how)}, 200)"


runs = Table(
    "runs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Time, nullable=False, index=True),
    Column("finished", Time),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("cancelled", Boolean, nullable=False, default=False),
    Column("version", String(200), nullable=False, default="", server_default=""),
    Column("priority", Integer, nullable=False, default=50, server_default="50"),
    Column("owner", String(80), nullable=False, default="", server_default=""),
    Column("served", Boolean, nullable=False, default=False, server_default=false()),
    Column("rerun_of", String(80)),
    Column("exit_code", Integer),
    UniqueConstraint("name", "number"),
    Index("ix_runs_state", "state"),
)

submissions = Table(
    "submissions",
    metadata,
    # What runs were made of: large, and never changed. Beside the runs, so that reading those passes nothing by.
    Column("run", ForeignKey(runs.c.id), primary_key=True),
    Column("submission", JSON, nullable=False),
)

labels = Table(
    "labels",
    metadata,
    Column("run", ForeignKey(runs.c.id), primary_key=True),
    Column("key", String(63), primary_key=True),
    Column("value", String(200), nullable=False),
    Index("ix_labels_key_value", "key", "value"),
)

cells = Table(
    "cells",
    metadata,
    Column("run", ForeignKey(runs.c.id), primary_key=True),
    Column("cell", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("outcome", JSON),
    Column("finished", Time),
    Column("cancel_requested", Boolean, nullable=False, default=False, server_default=false()),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run", String(80), primary_key=True),
    Column("cell", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("created", Time, nullable=False),
    Column("seen", Time, nullable=False),
    Column("finished", Time),
    Column("cancel_asked", Boolean, nullable=False, default=False),
    Column("facts", JSON),
    Column("outcome", JSON),
    Column("cpu_s", Float, nullable=False, default=0.0),
    Column("usage", JSON),
    Column("host", String(200), nullable=False, default="", server_default=""),  # where it is; empty: not known yet
    ForeignKeyConstraint(["run", "cell"], [cells.c.run, cells.c.cell]),
    Index("ix_attempts_host", "host", "finished"),
    Index("ix_attempts_state", "run", "state"),
)


def _of_attempt(name: str, *columns: Column[object]) -> Table:
    """A table of things that an attempt has, in the order in which they came."""
    return Table(
        name,
        metadata,
        Column("id", Id, primary_key=True, autoincrement=True),
        Column("run", String(80), nullable=False),
        Column("cell", Text, nullable=False),
        Column("number", Integer, nullable=False),
        *columns,
        ForeignKeyConstraint(["run", "cell", "number"], [attempts.c.run, attempts.c.cell, attempts.c.number]),
    )


phases = _of_attempt(
    "phases",
    Column("phase", String(16), nullable=False),
    Column("started", Time, nullable=False),
    Column("duration_s", Float),
    Column("ending", String(16)),
    Column("exit_status", Integer),
    Column("detail", Text, nullable=False, default=""),
)

tests = _of_attempt(
    "tests",
    Column("suite", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("classname", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

artifacts = _of_attempt(
    "artifacts",
    Column("path", Text, nullable=False),
    Column("bytes", Id, nullable=False),
    Column("sha256", String(64), nullable=False),
)

events = Table(
    "events",
    metadata,
    # What happened, in its order. One of a run has no cell, one of a cell no attempt.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("run", ForeignKey(runs.c.id), nullable=False),
    Column("cell", Text),
    Column("number", Integer),
    Column("at", Time, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Index("ix_events_run", "run", "id"),
    sqlite_autoincrement=True,  # an id is never given twice: it is what a listener comes back with
)

for _table in (phases, artifacts):
    Index(f"ix_{_table.name}_attempt", _table.c.run, _table.c.cell, _table.c.number)
# Counting the results of a run reads nothing but the first; the history of a test, and what it came to in one
# attempt, start at the second.
Index("ix_tests_attempt", tests.c.run, tests.c.cell, tests.c.number, tests.c.status)
Index("ix_tests_name", Beginning(tests.c.name), tests.c.run, tests.c.cell, tests.c.number)

tallies = Table(
    "tallies",
    metadata,
    # What a finished run says of each test, over all its cells, in the attempts that count.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("run", ForeignKey(runs.c.id), nullable=False, index=True),
    Column("suite", Text, nullable=False),
    Column("classname", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("passed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("flaked", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("longest_s", Float, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(80), nullable=False),
    Column("hash", String(64), nullable=False),  # SHA-256 of a secret of 256 random bits
    Column("scope", String(16), nullable=False),
    Column("created", Time, nullable=False),
    Column("created_by", String(80), nullable=False),
    Column("expires", Time),
    Column("revoked", Time),
    Column("used", Time),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("token", ForeignKey(tokens.c.id), nullable=False),
    Column("expires", Time, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False, index=True),
    Column("actor", String(80), nullable=False),
    Column("action", String(63), nullable=False),
    Column("target", Text, nullable=False),
    Column("detail", JSON, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", String(80), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("run", ForeignKey(runs.c.id)),
    Column("created", Time, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("run", ForeignKey(runs.c.id), primary_key=True),
    Column("name", String(80), primary_key=True),
    Column("sealed", Text, nullable=False),
)

waivers = Table(
    "waivers",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("project", String(63), nullable=False, index=True),
    Column("cells", Text, nullable=False),
    Column("tests", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("link", Text, nullable=False),
    Column("expires", Time),
    Column("created", Time, nullable=False),
    Column("created_by", String(80), nullable=False),
    sqlite_autoincrement=True,  # the audit log names waivers that are no more
)

baselines = Table(
    "baselines",
    metadata,
    Column("project", String(63), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("run", ForeignKey(runs.c.id), nullable=False),
    Column("set", Time, nullable=False),
    Column("set_by", String(80), nullable=False),
)

holds = Table(
    "holds",
    metadata,
    # Guests that are kept for a person: reserved ones, and those of cells that failed.
    Column("run", String(80), primary_key=True),
    Column("cell", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("command", Text, nullable=False),
    Column("since", Time, nullable=False),
    Column("until", Time, nullable=False),
    Column("ended", Time),
    Column("evidence", JSON),
    ForeignKeyConstraint(["run", "cell", "number"], [attempts.c.run, attempts.c.cell, attempts.c.number]),
)

deliveries = Table(
    "deliveries",
    metadata,
    # What is to be told to others: each is tried until it was taken, or given up.
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("run", ForeignKey(runs.c.id), nullable=False),
    Column("target", String(80), nullable=False),
    Column("event", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created", Time, nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("due", Time),
    Column("done", Time),
    Column("problem", Text, nullable=False, default=""),
    Index("ix_deliveries_target", "target", "due"),
)

hooks = Table(
    "hooks",
    metadata,
    # Webhooks that came, so that none is taken twice.
    Column("source", String(80), primary_key=True),
    Column("delivery", String(200), primary_key=True),
    Column("at", Time, nullable=False),
    Column("run", String(80)),
    Column("push", JSON),  # what it told; one without was noted only so that it does not come again
)

marks = Table(
    "marks",
    metadata,
    # How far somebody has come who takes up the events where they were, also after the farm was ended.
    Column("name", String(40), primary_key=True),
    Column("event", Id, nullable=False),
)

hosts = Table(
    "hosts",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("drained", Time),
    Column("reason", Text, nullable=False, default=""),
    Column("kind", String(16), nullable=False, default="drained", server_default="drained"),
    Column("due", Time),  # when it is tried again; none: a person has to say so
    Column("tries", Integer, nullable=False, default=0, server_default="0"),
)

leases = Table(
    "leases",
    metadata,
    # Who does what only one may do at a time, and until when that is certain.
    Column("name", String(200), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("expires", Time, nullable=False),
)
