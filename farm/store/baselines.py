"""Runs that others are compared with, by a name of their project's."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, select

from farm.errors import ConflictError, NotFoundError
from farm.model import State
from farm.model.history import Baseline
from farm.store import tables as t
from farm.store.database import reading, writing
from farm.store.events import text_of


class Baselines:
    """The baselines of all projects. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set(self, project: str, name: str, run_id: str, *, by: str, now: datetime) -> Baseline:
        """Give a run a name, which may have been another one's before.

        Raises NotFoundError where there is no such run, ConflictError where it is not finished or not the project's.
        """
        row = {"project": project, "name": name, "run": run_id, "set": text_of(now), "set_by": by}
        with writing(self._engine, f"set the baseline {name} of {project}") as db:
            found = db.execute(select(t.runs.c.name, t.runs.c.state).where(t.runs.c.id == run_id)).one_or_none()
            if found is None:
                raise NotFoundError(f"cannot set a baseline: there is no run {run_id!r}", hint="see `farm runs`")
            _check(run_id, project, *found)
            db.execute(delete(t.baselines).where(_is(project, name)))
            db.execute(insert(t.baselines), row)
        return Baseline.model_validate(row)

    def list(self, project: str) -> tuple[Baseline, ...]:
        """Those of a project, by name."""
        query = select(t.baselines).where(t.baselines.c.project == project).order_by(t.baselines.c.name)
        with reading(self._engine, f"read the baselines of {project}") as db:
            return tuple(Baseline.model_validate(dict(row)) for row in db.execute(query).mappings())

    def get(self, project: str, name: str) -> Baseline:
        """One of them. Raises NotFoundError."""
        found = self.list(project)
        for baseline in found:
            if baseline.name == name:
                return baseline
        names = ", ".join(baseline.name for baseline in found[:8])
        hint = f"there are: {names}" if names else f"set one: `farm baseline set {project} {name} RUN`"
        raise NotFoundError(f"cannot find the baseline {name!r} of {project}: there is none of this name", hint=hint)

    def remove(self, project: str, name: str) -> None:
        """The name is free again; the run stays. Raises NotFoundError."""
        self.get(project, name)
        with writing(self._engine, f"remove the baseline {name} of {project}") as db:
            db.execute(delete(t.baselines).where(_is(project, name)))


def _is(project: str, name: str) -> ColumnElement[bool]:
    return and_(t.baselines.c.project == project, t.baselines.c.name == name)


def _check(run_id: str, project: str, owner: str, state: str) -> None:
    if owner != project:
        raise ConflictError(
            f"cannot set a baseline of {project}: {run_id} is a run of {owner}", hint=f"name a run of {project}"
        )
    if state != State.FINISHED:
        raise ConflictError(f"cannot set a baseline: {run_id} is not finished", hint="wait for its end")
