"""The store: what happened goes in, records come out. Rows in a database, logs and artifacts in files.

The controller is the only one that writes about a run while it goes on; anybody may read, and ask for
its end. What has ended stays as it is: the first outcome counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, Engine, RowMapping, Update, and_, func, insert, select, update

from farm.errors import NotFoundError
from farm.lifecycle import RunState
from farm.model import AttemptKey, Event, Outcome, RunRecord, RunSummary, State, Submission
from farm.store import tables as t
from farm.store.database import open_database, reading, store_errors, writing
from farm.store.events import is_, names, take, text_of
from farm.store.files import Files
from farm.store.records import NEWEST, RUN, read_durations, read_run, read_state, read_summaries

_KEPT_SUBMISSIONS = 16


class Store:
    """Runs and all that belongs to them.

    Every method raises ConfigError, FullError or another HostError where the database or the folder does
    not do its part.
    """

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files
        self._submissions: dict[str, Submission] = {}

    @classmethod
    def open(cls, url: str, folder: Path) -> Store:
        """A store on a database (SQLAlchemy's URL) and a folder, both made and migrated if need be."""
        with store_errors(f"open the store in {folder}"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = Files(folder)
        return cls(open_database(url), files)

    def close(self) -> None:
        """Give the database's connections back."""
        self._engine.dispose()

    # --- runs ---------------------------------------------------------------------------------------

    def create_run(self, submission: Submission, *, now: datetime) -> RunRecord:
        """Store a run with its cells and its plan; its id is the matrix' name and the next number."""
        name = submission.plan.matrix.name
        with writing(self._engine, "store the run") as db:
            number = (db.scalar(select(func.max(t.runs.c.number)).where(t.runs.c.name == name)) or 0) + 1
            run_id = f"{name}-{number}"
            run = {
                "id": run_id,
                "name": name,
                "number": number,
                "submission": submission.model_dump(mode="json", by_alias=True),
                "state": State.QUEUED,
                "created": text_of(now),
            }
            db.execute(insert(t.runs), run)
            cells = [
                {"run": run_id, "cell": placement.cell.id, "position": position, "state": State.QUEUED}
                for position, placement in enumerate(submission.plan.placements)
            ]
            if cells:
                db.execute(insert(t.cells), cells)
        return self.run(run_id)

    def run(self, run_id: str) -> RunRecord:
        """A run in full. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            return read_run(db, _row_of(db, run_id), self._submission(db, run_id))

    def state(self, run_id: str) -> RunState:
        """As much of a run as deciding needs. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            return read_state(db, _row_of(db, run_id), self._submission(db, run_id))

    def latest(self) -> str | None:
        """The id of the newest run."""
        with reading(self._engine, "read the newest run") as db:
            return db.scalar(select(t.runs.c.id).order_by(*NEWEST).limit(1))

    def runs(self, limit: int = 50) -> tuple[RunSummary, ...]:
        """The newest runs, the newest first."""
        with reading(self._engine, "read the runs") as db:
            return read_summaries(db, limit)

    def durations(self, name: str) -> dict[str, float]:
        """Seconds that the last attempt with a result took, by cell, over the runs of a matrix of this name."""
        with reading(self._engine, "read the runs") as db:
            return read_durations(db, name)

    def unfinished(self) -> tuple[str, ...]:
        """The runs that have not come to their end, the oldest first."""
        with reading(self._engine, "read the runs") as db:
            newest_first = db.scalars(select(t.runs.c.id).where(t.runs.c.state != State.FINISHED).order_by(*NEWEST))
            return tuple(newest_first)[::-1]

    def request_cancel(self, run_id: str) -> None:
        """Note that somebody wants the run to end. Raises NotFoundError."""
        with writing(self._engine, f"cancel the run {run_id}") as db:
            _row_of(db, run_id)
            db.execute(update(t.runs).where(t.runs.c.id == run_id).values(cancel_requested=True))

    def finish_run(self, run_id: str, *, now: datetime, cancelled: bool) -> bool:
        """The run has come to its end; False, and nothing changes, where that was known already."""
        values = {"finished": text_of(now), "cancelled": cancelled}
        with writing(self._engine, f"finish the run {run_id}") as db:
            return _finish(db, update(t.runs).where(t.runs.c.id == run_id, t.runs.c.state != State.FINISHED), values)

    # --- cells and attempts -------------------------------------------------------------------------

    def finish_cell(self, run_id: str, cell: str, outcome: Outcome, *, now: datetime) -> bool:
        """The cell has its verdict; False, and nothing changes, where it had one already."""
        values = {"finished": text_of(now), "verdict": outcome.verdict, "outcome": outcome.model_dump(mode="json")}
        mine = and_(t.cells.c.run == run_id, t.cells.c.cell == cell, t.cells.c.state != State.FINISHED)
        with writing(self._engine, f"finish the cell {run_id}/{cell}") as db:
            return _finish(db, update(t.cells).where(mine), values)

    def start_attempt(self, key: AttemptKey, *, now: datetime) -> None:
        """An attempt begins: it, its cell and its run are running.

        Raises NotFoundError where there is no such cell, or it is finished; HostError where this attempt
        has begun before.
        """
        mine = and_(t.cells.c.run == key.run, t.cells.c.cell == key.cell, t.cells.c.state != State.FINISHED)
        with writing(self._engine, f"start {key}") as db:
            if not db.execute(update(t.cells).where(mine).values(state=State.RUNNING)).rowcount:
                raise NotFoundError(f"cannot start {key}: there is no such cell to be run")
            db.execute(update(t.runs).where(t.runs.c.id == key.run).values(state=State.RUNNING))
            row = {"state": State.RUNNING, "created": text_of(now), "seen": text_of(now)}
            db.execute(insert(t.attempts), {**names(key), **row})

    def cancel_asked(self, key: AttemptKey) -> None:
        """The attempt was told to stop."""
        with writing(self._engine, f"cancel {key}") as db:
            db.execute(update(t.attempts).where(is_(t.attempts, key)).values(cancel_asked=True))

    def finish_attempt(self, key: AttemptKey, outcome: Outcome, *, now: datetime, cpu_s: float = 0.0) -> bool:
        """The attempt has ended; False, and nothing changes, where that was known already."""
        values = {"finished": text_of(now), "outcome": outcome.model_dump(mode="json"), "cpu_s": cpu_s}
        mine = and_(is_(t.attempts, key), t.attempts.c.state != State.FINISHED)
        self._files.close(key)
        with writing(self._engine, f"finish {key}") as db:
            return _finish(db, update(t.attempts).where(mine), values)

    def record(self, key: AttemptKey, events: Sequence[Event], *, now: datetime | None = None) -> bool:
        """Take what an attempt says; False, and nothing changes, where the attempt is fenced off: it has ended.

        `now` is when it was heard. Without it the last event's own time counts, by the worker's clock, which
        is good enough only where that is the controller's too.
        Raises UntrustedError for an artifact that cannot be kept. Rows are written all or none; of logs and
        artifacts, pieces may stay behind.
        """
        if not events:
            return True
        seen = text_of(now or max(event.at for event in events))
        alive = and_(is_(t.attempts, key), t.attempts.c.state != State.FINISHED)
        with writing(self._engine, f"record what {key} says") as db:
            if not db.execute(update(t.attempts).where(alive).values(seen=seen)).rowcount:
                return False
            for event in events:
                take(db, self._files, key, event)
        return True

    # --- files --------------------------------------------------------------------------------------

    def log(self, key: AttemptKey, name: str) -> bytes:
        """A log, as the guest wrote it: a phase's, or `console`. Raises NotFoundError."""
        with store_errors(f"read the log {name} of {key}"):
            return self._files.log(key, name)

    def logs(self, key: AttemptKey) -> tuple[str, ...]:
        """The names of an attempt's logs, in the order of the phases."""
        return self._files.logs(key)

    def folder_of(self, key: AttemptKey) -> Path:
        """The folder with an attempt's logs and artifacts."""
        return self._files.of(key)

    # ------------------------------------------------------------------------------------------------

    def _submission(self, db: Connection, run_id: str) -> Submission:
        """What a run was made of: it never changes, and reading it anew at every tick would cost the most."""
        if run_id not in self._submissions:
            found = db.scalar(select(t.runs.c.submission).where(t.runs.c.id == run_id))
            kept = list(self._submissions.items())[1 - _KEPT_SUBMISSIONS :]
            self._submissions = {**dict(kept), run_id: Submission.model_validate(found)}
        return self._submissions[run_id]


def _row_of(db: Connection, run_id: str) -> RowMapping:
    row = db.execute(select(*RUN).where(t.runs.c.id == run_id)).mappings().one_or_none()
    if row is None:
        ids = list(db.scalars(select(t.runs.c.id).order_by(*NEWEST).limit(200)))
        near = get_close_matches(run_id, ids, n=3) or ids[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "there has been no run yet"
        raise NotFoundError(f"cannot find the run {run_id!r}: there is none of this name", hint=hint)
    return row


def _finish(db: Connection, which: Update, values: dict[str, Any]) -> bool:
    changed: CursorResult[Any] = db.execute(which.values(**values, state=State.FINISHED))
    return changed.rowcount > 0
