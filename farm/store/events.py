"""What each event of an attempt changes: its rows, its files, and a line in the append-only table of events.

Logs go to files, and heartbeats only change what an attempt's guest has used so far; neither is a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, insert, update

from farm.model import (
    ArtifactFound,
    AttemptEnded,
    AttemptKey,
    Event,
    GuestCreated,
    Heartbeat,
    LogChunk,
    PhaseEnded,
    PhaseStarted,
    TestsFound,
    Usage,
)
from farm.store import tables as t
from farm.store.files import Files


def take(db: Connection, files: Files, key: AttemptKey, event: Event) -> None:
    """Store one event of an attempt that is not fenced off. Raises UntrustedError, OSError."""
    match event:
        case Heartbeat():
            _note_usage(db, key, event.usage)
            return
        case LogChunk():
            files.write_log(key, event)
            return
        case PhaseStarted():
            _put(db, t.phases, key, {"phase": event.phase}, {"started": text_of(event.at)})
        case PhaseEnded():
            _end_phase(db, key, event)
        case GuestCreated():
            facts = event.facts.model_dump(mode="json")
            db.execute(update(t.attempts).where(is_(t.attempts, key)).values(facts=facts))
        case TestsFound() if event.tests:
            db.execute(insert(t.tests), [{**names(key), **test.model_dump(mode="json")} for test in event.tests])
        case ArtifactFound():
            artifact = files.write_artifact(key, event).model_dump()
            _put(db, t.artifacts, key, {"path": artifact.pop("path")}, artifact)
        case AttemptEnded():
            _note_usage(db, key, event.usage)
        case _:
            pass
    db.execute(
        insert(t.events), {**names(key), "at": text_of(event.at), "kind": event.kind, "payload": _payload(event)}
    )


def names(key: AttemptKey) -> dict[str, Any]:
    """The columns that name an attempt."""
    return {"run": key.run, "cell": key.cell, "number": key.number}


def is_(table: Table, key: AttemptKey) -> ColumnElement[bool]:
    """The rows of an attempt."""
    return and_(*(table.c[name] == value for name, value in names(key).items()))


def text_of(at: datetime) -> str:
    """A time as the tables hold it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _note_usage(db: Connection, key: AttemptKey, usage: Usage | None) -> None:
    if usage:
        values = {"usage": usage.model_dump(mode="json")}
        db.execute(update(t.attempts).where(is_(t.attempts, key)).values(values))


def _end_phase(db: Connection, key: AttemptKey, event: PhaseEnded) -> None:
    values = event.model_dump(mode="json", include={"duration_s", "ending", "exit_status", "detail"})
    phase = and_(is_(t.phases, key), t.phases.c.phase == event.phase)
    if not db.execute(update(t.phases).where(phase).values(values)).rowcount:
        started = text_of(event.at - timedelta(seconds=event.duration_s))
        db.execute(insert(t.phases), {**names(key), "phase": event.phase, "started": started, **values})


def _put(
    db: Connection, table: Table, key: AttemptKey, which: Mapping[str, object], values: Mapping[str, object]
) -> None:
    """Change the row of an attempt that `which` tells from its others, or add it."""
    same = and_(is_(table, key), *(table.c[name] == value for name, value in which.items()))
    if not db.execute(update(table).where(same).values(values)).rowcount:
        db.execute(insert(table), {**names(key), **which, **values})


def _payload(event: Event) -> dict[str, Any]:
    """What a line of the table tells beyond its time and kind; of bytes and tests only how many they are."""
    payload = event.model_dump(mode="json", exclude={"at", "kind", "data", "tests"})
    match event:
        case ArtifactFound():
            payload["bytes"] = len(event.data)
        case TestsFound():
            payload["tests"] = len(event.tests)
        case _:
            pass
    return payload
