"""Who does what only one may do at a time: serve a store, or carry out a run of `farm run`.

A lease says until when that is certain. Whoever has it prolongs it; where its owner was a process of this machine and
is no more, nobody has to wait for its end. Clocks of machines that share a store may differ by some seconds.
"""

from __future__ import annotations

import os
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, RowMapping, and_, delete, insert, select, update

from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of

LASTS = timedelta(seconds=30)
PROLONGED_S = 5.0
"""Seconds after which a lease is to be prolonged."""
SERVING = "serving"
_PROC = Path("/proc")


def of_run(run_id: str) -> str:
    """The name of the lease of a run."""
    return f"run:{run_id}"


def new_owner() -> str:
    """A name for somebody in this process; it tells whether the process is still there."""
    return f"{_process(os.getpid())} {uuid.uuid4().hex}"


def there(owner: str) -> bool | None:
    """Whether the process of an owner is there; None: it is of another machine or container, and nobody knows."""
    place, _, _ = owner.rpartition(" ")
    here, _, pid = place.rpartition("/")
    number = pid.partition("@")[0]
    return _process(int(number)) == place if here == _here() and number.isdigit() else None


def begin(db: Connection, name: str, owner: str, *, now: datetime) -> None:
    """A new lease, in the transaction that makes what it is of."""
    db.execute(insert(t.leases), _row(name, owner, now))


class Leases:
    """The table of leases. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, name: str, owner: str, *, now: datetime) -> bool:
        """Have a lease from now on; False: somebody else has it."""
        with writing(self._engine, f"take the lease {name}") as db:
            found = db.execute(select(t.leases).where(t.leases.c.name == name)).mappings().one_or_none()
            if found and found["owner"] != owner and not _free(found, now):
                return False
            db.execute(delete(t.leases).where(t.leases.c.name == name))
            begin(db, name, owner, now=now)
        return True

    def prolong(self, name: str, owner: str, *, now: datetime) -> bool:
        """Keep a lease that one has for longer; False: it is somebody else's by now, or nobody's."""
        mine = and_(t.leases.c.name == name, t.leases.c.owner == owner)
        with writing(self._engine, f"prolong the lease {name}") as db:
            return db.execute(update(t.leases).where(mine).values(_row(name, owner, now))).rowcount == 1

    def held(self, name: str, *, now: datetime) -> bool:
        """Whether somebody has a lease."""
        with reading(self._engine, f"read the lease {name}") as db:
            found = db.execute(select(t.leases).where(t.leases.c.name == name)).mappings().one_or_none()
        return found is not None and not _free(found, now)

    def give_back(self, name: str, owner: str) -> None:
        """Whoever wants it may have it; nothing happens where it is somebody else's."""
        with writing(self._engine, f"give the lease {name} back") as db:
            db.execute(delete(t.leases).where(and_(t.leases.c.name == name, t.leases.c.owner == owner)))

    def drop(self, name: str) -> None:
        """There is nothing left that anybody could have a lease of."""
        with writing(self._engine, f"drop the lease {name}") as db:
            db.execute(delete(t.leases).where(t.leases.c.name == name))

    def dead_runs(self, *, now: datetime) -> tuple[str, ...]:
        """The runs that somebody was to carry out who is no more; one that only stands still goes on some time."""
        query = select(t.leases).where(t.leases.c.name.startswith(of_run("")))
        with reading(self._engine, "read the leases") as db:
            rows = db.execute(query.order_by(t.leases.c.name)).mappings().all()
        dead = [row["name"] for row in rows if _nobodys(row, now)]
        return tuple(name.removeprefix(of_run("")) for name in dead)


def _row(name: str, owner: str, now: datetime) -> dict[str, str]:
    return {"name": name, "owner": owner, "expires": text_of(now + LASTS)}


def _free(lease: RowMapping, now: datetime) -> bool:
    return there(lease["owner"]) is False or _over(lease, now)


def _nobodys(lease: RowMapping, now: datetime) -> bool:
    found = there(lease["owner"])
    return _over(lease, now) if found is None else not found


def _over(lease: RowMapping, now: datetime) -> bool:
    return bool(lease["expires"] < text_of(now))


def _here() -> str:
    """Where a number of a process means one process: a machine since its start, and in it a container."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink(_PROC / 'self/ns/pid')}"  # noqa: PTH115 - it is no path


def _process(pid: int) -> str:
    """A process, also where its number was another's before; without its start where there is none."""
    try:
        started = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        started = ""
    return f"{_here()}/{pid}@{started}"
