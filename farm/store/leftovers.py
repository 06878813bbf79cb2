"""What the store need not keep for ever: webhooks that are runs, deliveries that have ended, sessions that are over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Engine, Table, and_, delete, or_, select

from farm.model import State
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of

_UNFINISHED = select(t.runs.c.id).where(t.runs.c.state != State.FINISHED)


class Leftovers:
    """Rows that nobody asks for any more. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def forget_pushes(self, before: datetime) -> int:
        """Webhooks that came before, and are not to become a run, nor of one that goes on; gives how many."""
        waiting = and_(t.hooks.c.push.is_not(None), t.hooks.c.run.is_(None))
        going = t.hooks.c.run.in_(_UNFINISHED)
        return self._forget(
            t.hooks, and_(t.hooks.c.at < text_of(before), ~waiting, or_(t.hooks.c.run.is_(None), ~going))
        )

    def forget_deliveries(self, before: datetime) -> int:
        """Deliveries that were noted before, and were taken or given up."""
        ended = or_(t.deliveries.c.done.is_not(None), t.deliveries.c.due.is_(None))
        return self._forget(t.deliveries, and_(t.deliveries.c.created < text_of(before), ended))

    def forget_sessions(self, now: datetime) -> int:
        """Sessions of browsers whose time is over."""
        return self._forget(t.sessions, t.sessions.c.expires < text_of(now))

    def needed_sources(self) -> frozenset[str]:
        """The digests of the sources of unfinished runs."""
        digest = t.submissions.c.submission["source"]["digest"].as_string()
        with reading(self._engine, "read which sources are needed") as db:
            return frozenset(db.scalars(select(digest).where(t.submissions.c.run.in_(_UNFINISHED))))

    def _forget(self, table: Table, which: ColumnElement[bool]) -> int:
        with writing(self._engine, f"forget old {table.name}") as db:
            return db.execute(delete(table).where(which)).rowcount
