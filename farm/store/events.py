"""What each event of an attempt changes: its rows, its files, and a line in the append-only table of events.

Logs go to files, and heartbeats only change what an attempt's guest has used so far; neither is a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, Update, and_, bindparam, insert, select, tuple_, update

from farm.errors import UntrustedError
from farm.model import (
    ArtifactFound,
    AttemptEnded,
    AttemptKey,
    Event,
    GuestCreated,
    Heartbeat,
    Held,
    LogChunk,
    PhaseEnded,
    PhaseStarted,
    Placed,
    State,
    TestsFound,
    TestStatus,
    Usage,
)
from farm.store import tables as t
from farm.store.files import Files

_BAD = frozenset({TestStatus.FAILED, TestStatus.ERROR})


class Heard(NamedTuple):
    """What an attempt said."""

    key: AttemptKey
    event: Event
    at: datetime
    """When it was heard."""


def take(db: Connection, files: Files, heard: Sequence[Heard]) -> dict[AttemptKey, UntrustedError | None]:
    """Store what attempts said, in its order; gives those of which something was not taken.

    None: the attempt is fenced off, it has ended. UntrustedError: one of its artifacts cannot be kept; what it said
    before that is stored, and nothing after it. Raises OSError.
    """
    refused: dict[AttemptKey, UntrustedError | None] = dict.fromkeys(_fenced(db, heard))
    lines: list[dict[str, Any]] = []
    for key, event, _ in heard:
        if key not in refused:
            try:
                lines += _take_one(db, files, key, event)
            except UntrustedError as error:
                refused[key] = error
    if lines:
        db.execute(_NOTE, lines)
    return refused


def _fenced(db: Connection, heard: Iterable[Heard]) -> set[AttemptKey]:
    """Note when the attempts were last heard of; gives those that have ended."""
    seen = {key: at for key, _, at in heard}
    rows = [{**_which(key), "seen": text_of(at)} for key, at in seen.items()]
    if db.execute(_SEEN, rows).rowcount == len(rows):
        return set()
    place = [t.attempts.c[name] for name in _KEY]
    mine = tuple_(*place).in_([(key.run, key.cell, key.number) for key in seen])
    alive = db.execute(select(*place).where(_ALIVE, mine)).mappings()
    return set(seen) - {AttemptKey(**row) for row in alive}


def _take_one(db: Connection, files: Files, key: AttemptKey, event: Event) -> tuple[dict[str, Any], ...]:
    """Store one event of an attempt that is not fenced off; gives its line, if it is to have one."""
    match event:
        case Heartbeat():
            _note_usage(db, key, event.usage)
            return ()
        case LogChunk():
            files.write_log(key, event)
            return ()
        case PhaseStarted():
            _put(db, t.phases, key, {"phase": event.phase}, {"started": text_of(event.at)})
        case PhaseEnded():
            _end_phase(db, key, event)
        case Placed() | GuestCreated():
            _change(db, t.attempts, key, {}, _whereabouts(event))
        case TestsFound() if event.tests:
            db.execute(insert(t.tests), [{**names(key), **test.model_dump(mode="json")} for test in event.tests])
        case ArtifactFound():
            artifact = files.write_artifact(key, event).model_dump()
            _put(db, t.artifacts, key, {"path": artifact.pop("path")}, artifact)
        case Held():
            _note_usage(db, key, event.usage)
            _keep(db, key, event)
        case AttemptEnded():
            _note_usage(db, key, event.usage)
        case _:
            pass
    return (_line(event.kind, _payload(event), at=text_of(event.at), **names(key)),)


def note(
    db: Connection,
    kind: str,
    payload: Mapping[str, Any],
    *,
    at: str,
    run: str,
    cell: str | None = None,
    number: int | None = None,
) -> None:
    """A line of the table of events that no worker said: of a run, a cell or an attempt."""
    db.execute(_NOTE, _line(kind, payload, at=at, run=run, cell=cell, number=number))


def _line(
    kind: str, payload: Mapping[str, Any], *, at: str, run: str, cell: str | None, number: int | None
) -> dict[str, Any]:
    return {"run": run, "cell": cell, "number": number, "at": at, "kind": kind, "payload": payload}


def names(key: AttemptKey) -> dict[str, Any]:
    """The columns that name an attempt."""
    return {"run": key.run, "cell": key.cell, "number": key.number}


def change_alive(db: Connection, key: AttemptKey, values: Mapping[str, object]) -> bool:
    """Change the row of an attempt that has not ended; whether there is one."""
    return db.execute(_SEEN, {**_which(key), **values}).rowcount > 0


def is_(table: Table, key: AttemptKey) -> ColumnElement[bool]:
    """The rows of an attempt."""
    return and_(*(table.c[name] == value for name, value in names(key).items()))


def text_of(at: datetime) -> str:
    """A time as the tables hold it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _whereabouts(event: Placed | GuestCreated) -> dict[str, Any]:
    """What a guest says of its host is no more than a fact of the guest: a scripted one has none."""
    if isinstance(event, Placed):
        return {"host": event.host}
    return {"facts": event.facts.model_dump(mode="json")}


def _note_usage(db: Connection, key: AttemptKey, usage: Usage | None) -> None:
    if usage:
        _change(db, t.attempts, key, {}, {"usage": usage.model_dump(mode="json")})


def _keep(db: Connection, key: AttemptKey, event: Held) -> None:
    """The guest is kept from now on, for whom its run is."""
    row = {
        **names(key),
        "owner": db.scalar(select(t.runs.c.owner).where(t.runs.c.id == key.run)),
        "command": event.command,
        "since": text_of(event.at),
        "until": text_of(event.until),
        "evidence": event.evidence.model_dump(mode="json"),
    }
    db.execute(insert(t.holds), row)


def _end_phase(db: Connection, key: AttemptKey, event: PhaseEnded) -> None:
    values = event.model_dump(mode="json", include={"duration_s", "ending", "exit_status", "detail"})
    if not _change(db, t.phases, key, {"phase": event.phase}, values):
        started = text_of(event.at - timedelta(seconds=event.duration_s))
        db.execute(insert(t.phases), {**names(key), "phase": event.phase, "started": started, **values})


def _put(
    db: Connection, table: Table, key: AttemptKey, which: Mapping[str, object], values: Mapping[str, object]
) -> None:
    """Change the row of an attempt that `which` tells from its others, or add it."""
    if not _change(db, table, key, which, values):
        db.execute(insert(table), {**names(key), **which, **values})


def _change(
    db: Connection, table: Table, key: AttemptKey, which: Mapping[str, object], values: Mapping[str, object]
) -> bool:
    """Change the row of an attempt that `which` tells from its others; whether there is one."""
    said = {f"the_{name}": value for name, value in which.items()}
    return db.execute(_changing(table, tuple(which)), {**_which(key), **said, **values}).rowcount > 0


@cache
def _changing(table: Table, which: tuple[str, ...]) -> Update:
    """The statement for that; to build it anew for every event would cost more than to carry it out."""
    return update(table).where(*(table.c[name] == bindparam(f"the_{name}") for name in (*_KEY, *which)))


_KEY = ("run", "cell", "number")
_ALIVE = t.attempts.c.state != State.FINISHED
_SEEN = _changing(t.attempts, ()).where(_ALIVE)
_NOTE = insert(t.events)


def _which(key: AttemptKey) -> dict[str, Any]:
    """The parameters that name an attempt in a statement of `_changing`."""
    return {"the_run": key.run, "the_cell": key.cell, "the_number": key.number}


def _payload(event: Event) -> dict[str, Any]:
    """What a line of the table tells beyond its time and kind; of bytes and tests only how many they are.

    All who may read hear it, so how to get into a guest is not in it: that stands in the table of holds.
    """
    payload = event.model_dump(mode="json", exclude={"at", "kind", "data", "tests", "command"})
    match event:
        case ArtifactFound():
            payload["bytes"] = len(event.data)
        case TestsFound():
            payload["tests"] = len(event.tests)
            payload["failed"] = sum(test.status in _BAD for test in event.tests)
        case _:
            pass
    return payload
