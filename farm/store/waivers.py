"""Waivers: failures that somebody has agreed to live with."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, select, update

from farm.errors import NotFoundError
from farm.model.waiver import Waiver, WaiverRequest
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of


class Waivers:
    """The waivers of all projects. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, project: str, request: WaiverRequest, *, by: str, now: datetime) -> Waiver:
        """Accept failures from now on."""
        row = {"project": project, **_columns(request), "created": text_of(now), "created_by": by}
        with writing(self._engine, "store the waiver") as db:
            (id_,) = db.execute(insert(t.waivers).values(row)).inserted_primary_key or (0,)
        return self.get(project, id_)

    def list(self, project: str) -> tuple[Waiver, ...]:
        """Those of a project, the oldest first, also those whose time is over."""
        query = select(t.waivers).where(t.waivers.c.project == project).order_by(t.waivers.c.id)
        with reading(self._engine, f"read the waivers of {project}") as db:
            return tuple(Waiver.model_validate(dict(row)) for row in db.execute(query).mappings())

    def get(self, project: str, id_: int) -> Waiver:
        """One of them. Raises NotFoundError."""
        with reading(self._engine, f"read the waiver {id_}") as db:
            row = db.execute(select(t.waivers).where(_is(project, id_))).mappings().one_or_none()
        if row is None:
            raise NotFoundError(
                f"cannot find the waiver {id_} of {project}: there is none", hint=f"see `farm waiver list {project}`"
            )
        return Waiver.model_validate(dict(row))

    def change(self, project: str, id_: int, request: WaiverRequest) -> Waiver:
        """Have a waiver say something else. Raises NotFoundError."""
        with writing(self._engine, f"change the waiver {id_}") as db:
            db.execute(update(t.waivers).where(_is(project, id_)).values(_columns(request)))
        return self.get(project, id_)

    def remove(self, project: str, id_: int) -> Waiver:
        """What it named is no longer accepted; gives what it was. Raises NotFoundError."""
        waiver = self.get(project, id_)
        with writing(self._engine, f"remove the waiver {id_}") as db:
            db.execute(delete(t.waivers).where(_is(project, id_)))
        return waiver


def _is(project: str, id_: int) -> ColumnElement[bool]:
    return and_(t.waivers.c.project == project, t.waivers.c.id == id_)


def _columns(request: WaiverRequest) -> dict[str, str | None]:
    return {
        **request.model_dump(include={"cells", "tests", "reason", "link"}),
        "expires": text_of(request.expires) if request.expires else None,
    }
