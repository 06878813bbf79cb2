"""What attempts have, in pages: reading all of a run at once would be hundreds of thousands of rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select

from farm.errors import NotFoundError
from farm.model import ArtifactRecord, AttemptKey, Model, State, TestResult, TestStatus
from farm.store import tables as t
from farm.store.database import reading
from farm.store.events import is_


class TestQuery(Model):
    """Which results of tests are asked for; what is None does not matter."""

    __test__ = False

    run: str
    cell: str | None = None
    number: int | None = None
    """Of the attempt; None: the one that counts."""
    status: TestStatus | None = None
    text: str | None = None
    """In the name of the test, its suite, or its message; without regard to case for ASCII letters."""
    after: int = 0
    """Only those that come after this one: the last of the page before."""
    limit: int = 100


class TestRow(Model):
    """The result of a test, and where it was found."""

    __test__ = False

    id: int
    """In the order in which they were found."""
    cell: str
    number: int
    result: TestResult


class GuestRow(Model):
    """An attempt that has a guest now."""

    key: AttemptKey
    host: str
    since: datetime


class Details:
    """Reads. Every method raises HostError where the database does not do its part."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def state(self, key: AttemptKey) -> State:
        """Where an attempt is in its life. Raises NotFoundError."""
        with reading(self._engine, f"read {key}") as db:
            state = db.scalar(select(t.attempts.c.state).where(is_(t.attempts, key)))
        if state is None:
            raise NotFoundError(
                f"cannot find the attempt {key}: there is none", hint="attempts are numbered from 1; look at the cell"
            )
        return State(state)

    def run_state(self, run_id: str) -> State:
        """Where a run is in its life. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            state = db.scalar(select(t.runs.c.state).where(t.runs.c.id == run_id))
        if state is None:
            raise NotFoundError(f"cannot find the run {run_id!r}: there is none of this name")
        return State(state)

    def tests(self, query: TestQuery) -> tuple[TestRow, ...]:
        """The results that are asked for, in the order in which they were found."""
        found = select(t.tests).where(*_conditions(query)).order_by(t.tests.c.id).limit(query.limit)
        with reading(self._engine, f"read the tests of {query.run}") as db:
            return tuple(
                TestRow(
                    id=row["id"],
                    cell=row["cell"],
                    number=row["number"],
                    result=TestResult.model_construct(
                        **{name: row[name] for name in TestResult.model_fields if name != "status"},
                        status=TestStatus(row["status"]),
                    ),
                )
                for row in db.execute(found).mappings()
            )

    def artifact(self, key: AttemptKey, path: str) -> ArtifactRecord:
        """A file that an attempt has left, by exactly this name. Raises NotFoundError."""
        mine = and_(is_(t.artifacts, key), t.artifacts.c.path == path)
        with reading(self._engine, f"read the artifacts of {key}") as db:
            row = db.execute(select(t.artifacts).where(mine)).mappings().first()
        if row is None:
            raise NotFoundError(f"cannot find the artifact {path!r} of {key}: there is none of this name")
        return ArtifactRecord(path=row["path"], bytes=row["bytes"], sha256=row["sha256"])

    def guests(self) -> tuple[GuestRow, ...]:
        """The guests that there are now, the oldest first."""
        unfinished = and_(t.runs.c.state != State.FINISHED, t.attempts.c.state != State.FINISHED)
        query = (
            select(t.attempts)
            .join(t.runs, t.runs.c.id == t.attempts.c.run)
            .where(unfinished)
            .order_by(t.attempts.c.created, t.attempts.c.cell)
        )
        with reading(self._engine, "read what runs now") as db:
            rows = db.execute(query).mappings().all()
        return tuple(
            GuestRow(
                key=AttemptKey(run=row["run"], cell=row["cell"], number=row["number"]),
                host=row["facts"]["host"],
                since=datetime.fromisoformat(row["created"]),
            )
            for row in rows
            if row["facts"]
        )


def _conditions(query: TestQuery) -> Iterator[ColumnElement[bool]]:
    tests, attempts = t.tests.c, t.attempts.c
    yield tests.run == query.run
    yield tests.id > query.after
    if query.cell is not None:
        yield tests.cell == query.cell
    if query.status is not None:
        yield tests.status == query.status
    if query.text:
        columns = (tests.name, tests.suite, tests.message)
        yield or_(*(column.icontains(query.text, autoescape=True) for column in columns))
    if query.number is not None:
        yield tests.number == query.number
    else:
        same = and_(attempts.run == tests.run, attempts.cell == tests.cell)
        yield tests.number == select(func.max(attempts.number)).where(same).scalar_subquery()
