"""What is decided about hosts: which of them get nothing new, and when they are tested."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, delete, insert, select, update

from farm.model import AttemptKey, Blame, HostMark, Mark, State
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of

_LOOKED_AT = 50
"""Of the attempts on a host, to find one that was no failure of infrastructure."""
_ALL = select(t.hosts).order_by(t.hosts.c.name)


class HostMarks:
    """The hosts that take no new work. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def all(self) -> tuple[HostMark, ...]:
        """Every one of them, by name."""
        with reading(self._engine, "read which hosts take no work") as db:
            return tuple(map(_mark, db.execute(_ALL).mappings()))

    def why(self) -> dict[str, str]:
        """The same, and why: what a person said, or when the host is tested."""
        return {mark.name: _words(mark) for mark in self.all()}

    def drain(self, host: str, reason: str, *, now: datetime) -> None:
        """A host gets nothing new from now on, for somebody wants it so; what runs there goes on."""
        with writing(self._engine, f"drain the host {host}") as db:
            _replace(db, HostMark(name=host, mark=Mark.DRAINED, reason=reason, since=now))

    def enable(self, host: str) -> None:
        """A host gets work again."""
        with writing(self._engine, f"enable the host {host}") as db:
            _forget(db, host)

    def put(self, mark: HostMark) -> bool:
        """A host gets nothing new from now on; False where a person has drained it: that stays as it is."""
        with writing(self._engine, f"mark the host {mark.name}") as db:
            kind = db.scalar(select(t.hosts.c.kind).where(t.hosts.c.name == mark.name))
            if kind == Mark.DRAINED and mark.mark is not Mark.DRAINED:
                return False
            _replace(db, mark)
            return True

    def tested(self, mark: HostMark, reason: str, *, due: datetime) -> None:
        """A host has not passed its test; nothing changes where somebody has decided otherwise meanwhile."""
        values = {"reason": reason, "due": text_of(due), "tries": mark.tries + 1}
        with writing(self._engine, f"mark the host {mark.name}") as db:
            db.execute(update(t.hosts).where(_same(mark)).values(values))

    def passed(self, mark: HostMark) -> None:
        """A host has passed its test and takes work again; nothing changes where somebody has decided otherwise."""
        with writing(self._engine, f"enable the host {mark.name}") as db:
            db.execute(delete(t.hosts).where(_same(mark)))

    def sound(self, host: str) -> AttemptKey | None:
        """The newest attempt there that infrastructure has not spoilt; else the newest at all; None: there was none."""
        ended = and_(t.attempts.c.host == host, t.attempts.c.state == State.FINISHED)
        columns = (t.attempts.c.run, t.attempts.c.cell, t.attempts.c.number, t.attempts.c.outcome)
        newest = select(*columns).where(ended).order_by(t.attempts.c.finished.desc()).limit(_LOOKED_AT)
        with reading(self._engine, f"read the attempts on {host}") as db:
            rows = db.execute(newest).mappings().all()
        good = [row for row in rows if (row["outcome"] or {}).get("blame") != Blame.INFRA]
        row = next(iter(good or rows), None)
        return AttemptKey(run=row["run"], cell=row["cell"], number=row["number"]) if row else None


def _words(mark: HostMark) -> str:
    """What a person said; of a host that was taken out by itself, why, and when it is tested."""
    if mark.due is None:
        return mark.reason
    return f"{mark.reason}; it is tested at {mark.due:%H:%M:%S} UTC, and takes work again when that goes well"


def _forget(db: Connection, name: str) -> None:
    db.execute(delete(t.hosts).where(t.hosts.c.name == name))


def _replace(db: Connection, mark: HostMark) -> None:
    _forget(db, mark.name)
    row = {
        "name": mark.name,
        "drained": text_of(mark.since),
        "reason": mark.reason,
        "kind": mark.mark,
        "due": text_of(mark.due) if mark.due else None,
        "tries": mark.tries,
    }
    db.execute(insert(t.hosts), row)


def _same(mark: HostMark) -> ColumnElement[bool]:
    return and_(t.hosts.c.name == mark.name, t.hosts.c.kind == mark.mark, t.hosts.c.drained == text_of(mark.since))


def _mark(row: RowMapping) -> HostMark:
    return HostMark(
        name=row["name"],
        mark=Mark(row["kind"]),
        reason=row["reason"],
        since=datetime.fromisoformat(row["drained"]),
        due=datetime.fromisoformat(row["due"]) if row["due"] else None,
        tries=row["tries"],
    )
