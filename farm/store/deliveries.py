"""What others are to be told: each delivery is tried until it was taken, or given up; also by the next process.

Which events have been turned into deliveries is remembered in the transaction that stores those, so that no event is
left out, and none is told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, insert, select, update

from farm.errors import ConflictError, NotFoundError
from farm.model import DeliveryRecord, NewDelivery, Triggered
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of
from farm.store.hooks import triggered

DeliveryState = Literal["waiting", "done", "failed"]
Replaces = Callable[[NewDelivery, DeliveryRecord], bool]
"""Whether a new delivery makes an older one, which waits, pointless."""

_MARK = "deliveries"
_LONGEST_PROBLEM = 1000


class Deliveries:
    """The deliveries of a store. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # --- from events to deliveries ------------------------------------------------------------------

    def mark(self) -> int:
        """The last event that has been turned into deliveries; the first time, the newest that there is."""
        with writing(self._engine, "read how far deliveries are") as db:
            found = db.scalar(select(t.marks.c.event).where(t.marks.c.name == _MARK))
            if found is None:
                found = db.scalar(select(func.max(t.events.c.id))) or 0
                db.execute(insert(t.marks), {"name": _MARK, "event": found})
            return found

    def plan(
        self, run_id: str, event: int, new: Sequence[NewDelivery], *, replaces: Replaces, now: datetime
    ) -> tuple[str, ...]:
        """Store what an event has others told; the targets that have something to do now."""
        with writing(self._engine, f"store the deliveries of {run_id}") as db:
            db.execute(update(t.marks).where(t.marks.c.name == _MARK).values(event=event))
            for one in new:
                _replace(db, one, replaces, now)
                row = {"run": run_id, "created": text_of(now), "due": text_of(now), "tries": 0, "problem": ""}
                db.execute(insert(t.deliveries), row | one.model_dump(mode="json"))
        return tuple({one.target for one in new})

    def triggered(self, run_id: str) -> Triggered | None:
        """The push that a run was made for; None where it was made for none."""
        with reading(self._engine, f"read the push of {run_id}") as db:
            return triggered(db, run_id)

    # --- trying them --------------------------------------------------------------------------------

    def next(self, target: str) -> DeliveryRecord | None:
        """What is to be told to a target first; it may be due only later."""
        query = select(t.deliveries).where(_waiting(), t.deliveries.c.target == target)
        with reading(self._engine, "read the deliveries") as db:
            row = db.execute(query.order_by(t.deliveries.c.due, t.deliveries.c.id).limit(1)).mappings().one_or_none()
        return DeliveryRecord.model_validate(dict(row)) if row else None

    def delivered(self, id_: int, *, now: datetime) -> None:
        """It was taken."""
        self._change(id_, {"done": text_of(now), "due": None, "problem": "", "tries": t.deliveries.c.tries + 1})

    def failed(self, id_: int, problem: str, *, due: datetime | None) -> None:
        """It was not; it is due again then, or never."""
        values = {"due": text_of(due) if due else None, "problem": problem[:_LONGEST_PROBLEM]}
        self._change(id_, values | {"tries": t.deliveries.c.tries + 1})

    def drop_others(self, targets: Collection[str]) -> int:
        """Give up what is for targets that there are no more; how many those are."""
        gone = and_(_waiting(), t.deliveries.c.target.not_in(targets))
        values = {"due": None, "problem": "farm.toml has no such target any more"}
        with writing(self._engine, "give up deliveries") as db:
            return db.execute(update(t.deliveries).where(gone).values(values)).rowcount

    # --- for people ---------------------------------------------------------------------------------

    def list(
        self,
        *,
        run_id: str | None = None,
        state: DeliveryState | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> tuple[DeliveryRecord, ...]:
        """The newest first; `before` is the last of the page before."""
        query = select(t.deliveries).order_by(t.deliveries.c.id.desc()).limit(limit)
        if run_id is not None:
            query = query.where(t.deliveries.c.run == run_id)
        if state is not None:
            query = query.where(_STATES[state]())
        if before is not None:
            query = query.where(t.deliveries.c.id < before)
        with reading(self._engine, "read the deliveries") as db:
            return tuple(DeliveryRecord.model_validate(dict(row)) for row in db.execute(query).mappings())

    def retry(self, id_: int, *, now: datetime) -> DeliveryRecord:
        """Have it tried at once, and as often as a new one. Raises NotFoundError, ConflictError where it was taken."""
        with writing(self._engine, f"retry the delivery {id_}") as db:
            found = _read(db, id_)
            if found.done:
                raise ConflictError(f"cannot retry the delivery {id_}: it was taken at {found.done:%Y-%m-%d %H:%M} UTC")
            mine = t.deliveries.c.id == id_
            db.execute(update(t.deliveries).where(mine).values(due=text_of(now), tries=0))
            return _read(db, id_)

    # ------------------------------------------------------------------------------------------------

    def _change(self, id_: int, values: dict[str, Any]) -> None:
        with writing(self._engine, f"note what became of the delivery {id_}") as db:
            db.execute(update(t.deliveries).where(t.deliveries.c.id == id_, _waiting()).values(values))


def _waiting() -> ColumnElement[bool]:
    return and_(t.deliveries.c.due.is_not(None), t.deliveries.c.done.is_(None))


def _failed() -> ColumnElement[bool]:
    return and_(t.deliveries.c.due.is_(None), t.deliveries.c.done.is_(None))


def _done() -> ColumnElement[bool]:
    return t.deliveries.c.done.is_not(None)


_STATES: dict[DeliveryState, Callable[[], ColumnElement[bool]]] = {
    "waiting": _waiting,
    "done": _done,
    "failed": _failed,
}


def _replace(db: Connection, new: NewDelivery, replaces: Replaces, now: datetime) -> None:
    waiting = select(t.deliveries).where(_waiting(), t.deliveries.c.target == new.target)
    old = [DeliveryRecord.model_validate(dict(row)) for row in db.execute(waiting).mappings()]
    pointless = [one.id for one in old if replaces(new, one)]
    values = {"done": text_of(now), "due": None, "problem": "a newer one was to be told instead"}
    db.execute(update(t.deliveries).where(t.deliveries.c.id.in_(pointless)).values(values))


def _read(db: Connection, id_: int) -> DeliveryRecord:
    row = db.execute(select(t.deliveries).where(t.deliveries.c.id == id_)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"cannot find the delivery {id_}: there is none of this number")
    return DeliveryRecord.model_validate(dict(row))
