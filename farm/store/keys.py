"""Idempotency: who asks twice with the same key gets the same run.

A key is claimed before the work begins, and becomes the run's in the transaction that stores it. Until then a lease
tells which process works on it; several servers may share a store.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, and_, delete, insert, select, update

from farm.errors import BusyError, ConflictError
from farm.store import tables as t
from farm.store.database import writing
from farm.store.events import text_of
from farm.store.leases import begin, new_owner, there

_STALE = timedelta(days=1)
"""A claim this old without a run belongs to nobody, however slow its source was. Those of a server of this machine that
is no more are released when the next one has its turn."""


class Claim(NamedTuple):
    """A key of somebody's, for one request."""

    owner: str
    key: str
    digest: str
    """Of the request, by a key (`Store.mark`), for it may hold secrets: the same key for another one is a mistake."""

    @property
    def lease(self) -> str:
        """The name of the lease that tells who works on it."""
        return "key:" + hashlib.sha256(f"{self.owner}\0{self.key}".encode()).hexdigest()


class Keys:
    """The keys that have been used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._worker = new_owner()

    def claim(self, claim: Claim, *, now: datetime) -> str | None:
        """The run that this key has made; None: it is claimed now, and nobody else gets it.

        Raises ConflictError where it was used for another request, BusyError where that one is still being worked on.
        """
        with writing(self._engine, "claim an idempotency key") as db:
            old = and_(_is(claim), t.idempotency.c.run.is_(None), t.idempotency.c.created < text_of(now - _STALE))
            if db.execute(delete(t.idempotency).where(old)).rowcount:
                _unlease(db, claim)
            found = db.execute(select(t.idempotency).where(_is(claim))).mappings().one_or_none()
            if found is None:
                row = {"owner": claim.owner, "key": claim.key, "digest": claim.digest, "created": text_of(now)}
                db.execute(insert(t.idempotency), row)
                begin(db, claim.lease, self._worker, now=now)
                return None
        if found["digest"] != claim.digest:
            raise ConflictError(
                f"cannot use the idempotency key {claim.key!r}: it was used for another request",
                hint="take a new key for each run",
            )
        if found["run"] is None:
            raise BusyError(
                f"cannot use the idempotency key {claim.key!r}: the first request with it is still being worked on",
                hint="ask again in a moment",
            )
        return str(found["run"])

    def release(self, claim: Claim) -> None:
        """Nothing came of it: the key is free again."""
        with writing(self._engine, "release an idempotency key") as db:
            if db.execute(delete(t.idempotency).where(_is(claim), t.idempotency.c.run.is_(None))).rowcount:
                _unlease(db, claim)

    def release_dead(self) -> None:
        """Nobody works on what a process of this machine has claimed that is no more: who asks again need not wait.

        What other machines have claimed is left alone, for nobody here knows; what has no lease was claimed by an older
        farm, which had a store for itself.
        """
        with writing(self._engine, "release the idempotency keys") as db:
            leases = {row.name: row.owner for row in db.execute(select(t.leases.c.name, t.leases.c.owner))}
            for row in db.execute(select(t.idempotency).where(t.idempotency.c.run.is_(None))).mappings().all():
                claim = Claim(row["owner"], row["key"], row["digest"])
                worker = leases.get(claim.lease)
                if worker is None or there(worker) is False:
                    db.execute(delete(t.idempotency).where(_is(claim)))
                    _unlease(db, claim)


def settle(db: Connection, claim: Claim, run_id: str) -> None:
    """The key has made this run; in the transaction that stores it."""
    db.execute(update(t.idempotency).where(_is(claim)).values(run=run_id))
    _unlease(db, claim)


def _unlease(db: Connection, claim: Claim) -> None:
    db.execute(delete(t.leases).where(t.leases.c.name == claim.lease))


def _is(claim: Claim) -> ColumnElement[bool]:
    return and_(t.idempotency.c.owner == claim.owner, t.idempotency.c.key == claim.key)
