"""Webhooks that came: none is taken twice, and none that was taken is lost where the server ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    and_,
    delete,
    exists,
    insert,
    null,
    or_,
    select,
    update,
)

from farm.model import FailedPush, Triggered
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of

_KEPT = {"push", "also"}
FAILED: Final = "hook.fail"
"""The action of the audit log: a webhook came to nothing."""


class Hooks:
    """The webhooks that have been taken. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, hook: Triggered, *, now: datetime) -> bool:
        """Note a webhook, to be worked on; False, and nothing changes, where it came before, under any of its names."""
        names = [hook.delivery, *hook.also]
        with writing(self._engine, "take the webhook") as db:
            if db.scalar(select(t.hooks.c.delivery).where(_is(hook.trigger, names)).limit(1)) is not None:
                return False
            for name in names:
                push = hook.model_dump(mode="json", include=_KEPT) if name == hook.delivery else null()
                row = {"source": hook.trigger, "delivery": name, "at": text_of(now), "push": push}
                db.execute(insert(t.hooks).values(row))
        return True

    def waiting(self) -> tuple[Triggered, ...]:
        """Those that have been taken, but not worked on to the end; the oldest first."""
        open_ = and_(t.hooks.c.push.is_not(None), t.hooks.c.run.is_(None))
        with reading(self._engine, "read the webhooks") as db:
            return tuple(
                _hook(row) for row in db.execute(select(t.hooks).where(open_).order_by(t.hooks.c.at)).mappings()
            )

    def failed(self, *, before: int | None = None, limit: int = 100) -> tuple[FailedPush, ...]:
        """Those that came to nothing, the newest first, as the audit log has them; `before` is the last of a page."""
        query = select(t.audit).where(t.audit.c.action == FAILED).order_by(t.audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(t.audit.c.id < before)
        with reading(self._engine, "read the webhooks that failed") as db:
            return tuple(_failed(row) for row in db.execute(query).mappings())

    def submitted(self, hook: Triggered, run_id: str) -> None:
        """A webhook has become a run."""
        with writing(self._engine, "note the run of a webhook") as db:
            db.execute(update(t.hooks).where(_is(hook.trigger, [hook.delivery])).values(run=run_id))

    def release(self, hook: Triggered) -> None:
        """Nothing came of it: it may come again."""
        with writing(self._engine, "forget a webhook") as db:
            db.execute(delete(t.hooks).where(_is(hook.trigger, [hook.delivery, *hook.also])))


def triggered(db: Connection, run_id: str) -> Triggered | None:
    """The push that a run was made for; None where it was made for none.

    Also while the run has just been stored, and `submitted` has not been called: its idempotency key, which is
    settled in the transaction that stores it, is the delivery, of the owner `trigger NAME`.
    """
    keys = t.idempotency.c
    settled = exists().where(
        keys.run == run_id, keys.key == t.hooks.c.delivery, keys.owner == "trigger " + t.hooks.c.source
    )
    mine = and_(t.hooks.c.push.is_not(None), or_(t.hooks.c.run == run_id, settled))
    row = db.execute(select(t.hooks).where(mine).limit(1)).mappings().one_or_none()
    return _hook(row) if row else None


def _failed(row: RowMapping) -> FailedPush:
    detail = {name: row["detail"].get(name, "") for name in ("repository", "commit", "delivery", "problem")}
    return FailedPush(id=row["id"], at=datetime.fromisoformat(row["at"]), trigger=row["target"], **detail)


def _hook(row: RowMapping) -> Triggered:
    return Triggered.model_validate({"trigger": row["source"], "delivery": row["delivery"], **row["push"]})


def _is(trigger: str, deliveries: Sequence[str]) -> ColumnElement[bool]:
    return and_(t.hooks.c.source == trigger, t.hooks.c.delivery.in_(deliveries))
