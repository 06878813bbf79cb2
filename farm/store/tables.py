"""The tables. Values of the model that are only read back whole are kept as JSON."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
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
)

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

runs = Table(
    "runs",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("name", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("submission", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Time, nullable=False, index=True),
    Column("finished", Time),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("cancelled", Boolean, nullable=False, default=False),
    UniqueConstraint("name", "number"),
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
    ForeignKeyConstraint(["run", "cell"], [cells.c.run, cells.c.cell]),
)


def _of_attempt(name: str, *columns: Column[object]) -> Table:
    """A table of things that an attempt has, in the order in which they came."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=True),
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
    Column("bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
)

events = _of_attempt(
    "events",
    Column("at", Time, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("payload", JSON, nullable=False),
)

for _table in (phases, tests, artifacts, events):
    Index(f"ix_{_table.name}_attempt", _table.c.run, _table.c.cell, _table.c.number)
