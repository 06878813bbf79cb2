"""Guests that are kept for a person: since when, until when, and what was known when that began."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, and_, bindparam, select, update

from farm.model import AttemptKey, HoldRecord
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import is_, names, note, text_of


class Holds:
    """The table of holds. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine, tell: Callable[[], None]) -> None:
        self._engine = engine
        self._tell = tell

    def of(self, key: AttemptKey) -> HoldRecord | None:
        """Of an attempt; None where its guest was not kept."""
        with reading(self._engine, f"read whether {key} is held") as db:
            row = db.execute(select(t.holds).where(is_(t.holds, key))).mappings().one_or_none()
        return _record(row) if row else None

    def last(self, run: str, cell: str) -> HoldRecord | None:
        """Of the last attempt at a cell whose guest was kept."""
        mine = and_(t.holds.c.run == run, t.holds.c.cell == cell)
        query = select(t.holds).where(mine).order_by(t.holds.c.number.desc()).limit(1)
        with reading(self._engine, f"read whether {run}/{cell} is held") as db:
            row = db.execute(query).mappings().one_or_none()
        return _record(row) if row else None

    def open(self, owner: str | None = None) -> tuple[HoldRecord, ...]:
        """Those that have not ended, of somebody or of all, the oldest first."""
        query = select(t.holds).where(t.holds.c.ended.is_(None)).order_by(t.holds.c.since, t.holds.c.run)
        if owner is not None:
            query = query.where(t.holds.c.owner == owner)
        with reading(self._engine, "read which guests are held") as db:
            return tuple(map(_record, db.execute(query).mappings()))

    def move(self, key: AttemptKey, until: datetime, *, now: datetime) -> bool:
        """Another end for one; False, and nothing changes, where it has ended."""
        with writing(self._engine, f"move the end of {key}") as db:
            mine = and_(is_(t.holds, key), t.holds.c.ended.is_(None))
            if not db.execute(update(t.holds).where(mine).values(until=text_of(until))).rowcount:
                return False
            note(db, "hold-moved", {"until": text_of(until)}, at=text_of(now), **names(key))
        self._tell()
        return True

    def end(self, key: AttemptKey, *, now: datetime) -> None:
        """One is over; nothing happens where it was already."""
        with writing(self._engine, f"end the hold of {key}") as db:
            close(db, key, at=text_of(now))
        self._tell()


def close(db: Connection, key: AttemptKey, *, at: str) -> None:
    """The guest of an attempt is not kept any longer, if it ever was."""
    db.execute(_CLOSE, {**{f"the_{name}": value for name, value in names(key).items()}, "ended": at})


_CLOSE = update(t.holds).where(
    *(t.holds.c[name] == bindparam(f"the_{name}") for name in ("run", "cell", "number")), t.holds.c.ended.is_(None)
)


def _record(row: RowMapping) -> HoldRecord:
    values: dict[str, Any] = dict(row)
    key = AttemptKey(**{name: values.pop(name) for name in ("run", "cell", "number")})
    return HoldRecord.model_validate({"key": key, **values})
