"""The store: what happened goes in, records come out. Rows in a database, logs and artifacts in files.

The controller is the only one that writes about a run while it goes on; anybody may read, and ask for
its end. What has ended stays as it is: the first outcome counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    RowMapping,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    cast,
    func,
    insert,
    select,
    update,
)

from farm.errors import NotFoundError, UntrustedError
from farm.lifecycle import RunState
from farm.model import (
    AttemptKey,
    CellRecord,
    Event,
    EventRecord,
    Outcome,
    RunQuery,
    RunRecord,
    RunSummary,
    State,
    Submission,
    TestStatus,
)
from farm.store import tables as t
from farm.store.audit import write_run
from farm.store.database import open_database, reading, size_of, store_errors, writing
from farm.store.events import Heard, change_alive, names, note, take, text_of
from farm.store.files import Files
from farm.store.holds import Holds, close
from farm.store.hosts import HostMarks
from farm.store.keys import Claim, settle
from farm.store.leases import Leases, begin, of_run
from farm.store.records import (
    FULL,
    NEWEST,
    OUTLINE,
    News,
    read_bare,
    read_cell,
    read_cells,
    read_durations,
    read_events,
    read_run,
    read_summaries,
    read_test_counts,
)
from farm.store.states import DECIDES_NOTHING, KnownState
from farm.store.tally import read_tallies
from farm.store.vault import Vault
from farm.verdict import exit_code

_KEPT_SUBMISSIONS = 16
_NEWEST = RunQuery()


class Changes(NamedTuple):
    """What is new."""

    last: int
    """The newest of the events that count."""
    runs: frozenset[str]
    """To which anything has happened."""
    whole: bool
    """Whether anything has happened to a run as a whole: one may have come, or ended."""


class Store:
    """Runs and all that belongs to them.

    Every method raises ConfigError, FullError or another HostError where the database or the folder does
    not do its part.
    """

    def __init__(self, engine: Engine, files: Files, vault: Vault) -> None:
        self.engine = self._engine = engine
        self._vault = vault
        self.files = files
        self._submissions: dict[str, Submission] = {}
        self._alive: WeakValueDictionary[str, Submission] = WeakValueDictionary()
        """Those that somebody else keeps, too: the controller those of all runs that it looks after."""
        self._listeners: list[Callable[[], None]] = []
        self.holds = Holds(engine, self._tell)
        self.hosts = HostMarks(engine)
        self.leases = Leases(engine)

    @classmethod
    def open(cls, url: str, folder: Path) -> Store:
        """A store on a database (SQLAlchemy's URL) and a folder, both made and migrated if need be."""
        with store_errors(f"open the store in {folder}"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files, vault = Files(folder), Vault.open(folder)
            is_used = files.any()
        return cls(open_database(url, is_used=is_used), files, vault)

    def size(self) -> int:
        """The bytes that the database takes; logs and artifacts come on top."""
        with reading(self._engine, "ask for the size of the store") as db:
            return size_of(db)

    def close(self) -> None:
        """Give the database's connections back."""
        self._engine.dispose()

    def listen(self, listener: Callable[[], None]) -> None:
        """Have a function called whenever this process has stored an event; it must neither block nor fail."""
        self._listeners.append(listener)

    # --- runs ---------------------------------------------------------------------------------------

    def create_run(
        self,
        submission: Submission,
        *,
        now: datetime,
        claim: Claim | None = None,
        secrets: Mapping[str, str] = MappingProxyType({}),
        owner: str = "",
    ) -> RunRecord:
        """Store a run with its cells and its plan; its id is the matrix' name and the next number.

        `owner` has the lease of a run that it carries out by itself (`farm.store.leases`), `claim` is the idempotency
        key that is used up by it, `secrets` are variables of its scripts, which are sealed and forgotten at its end.
        The audit log has it from the same transaction on.
        """
        name = submission.plan.matrix.name
        with writing(self._engine, "store the run") as db:
            number = (db.scalar(select(func.max(t.runs.c.number)).where(t.runs.c.name == name)) or 0) + 1
            run_id = f"{name}-{number}"
            run = {
                "id": run_id,
                "name": name,
                "number": number,
                "state": State.QUEUED,
                "created": text_of(now),
                **submission.model_dump(include={"version", "priority", "owner", "served", "rerun_of"}),
            }
            db.execute(insert(t.runs), run)
            made_of = {"run": run_id, "submission": submission.model_dump(mode="json", by_alias=True)}
            db.execute(insert(t.submissions), made_of)
            if submission.labels:
                rows = [{"run": run_id, "key": key, "value": value} for key, value in submission.labels.items()]
                db.execute(insert(t.labels), rows)
            cells = [
                {"run": run_id, "cell": placement.cell.id, "position": position, "state": State.QUEUED}
                for position, placement in enumerate(submission.plan.placements)
            ]
            if cells:
                db.execute(insert(t.cells), cells)
            self._vault.put(db, run_id, secrets)
            if claim:
                settle(db, claim, run_id)
            if owner:
                begin(db, of_run(run_id), owner, now=now)
            write_run(db, run_id, submission, key=claim.key if claim else None, now=now)
            note(db, "run-submitted", {"cells": len(cells)}, at=text_of(now), run=run_id)
        self._tell()
        return self.run(run_id)

    def run(self, run_id: str) -> RunRecord:
        """A run in full. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            return read_run(db, _row_of(db, run_id), self._submission(db, run_id))

    def outline(self, run_id: str) -> RunRecord:
        """A run without the tests and artifacts of its attempts. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            return read_run(db, _row_of(db, run_id), self._submission(db, run_id), OUTLINE)

    def cell(self, run_id: str, cell: str, parts: Sequence[Table] = FULL) -> CellRecord:
        """A cell with its attempts, and the parts of those that are asked for (`farm.store.records`).

        Raises NotFoundError.
        """
        with reading(self._engine, f"read the cell {run_id}/{cell}") as db:
            _row_of(db, run_id)
            mine = and_(t.cells.c.run == run_id, t.cells.c.cell == cell)
            row = db.execute(select(t.cells).where(mine)).mappings().one_or_none()
            if row is None:
                cells = list(db.scalars(select(t.cells.c.cell).where(t.cells.c.run == run_id)))
                near = get_close_matches(cell, cells, n=3) or cells[:3]
                raise NotFoundError(f"cannot find the cell {cell!r} of {run_id}", hint=f"there are: {', '.join(near)}")
            return read_cell(db, row, self._submission(db, run_id), parts)

    def news(self, run_id: str, since: int) -> News:
        """The cells of a run with events after one, without tests and artifacts; what they are is true together.

        Raises NotFoundError.
        """
        with reading(self._engine, f"read the news of {run_id}") as db:
            row, submission = _row_of(db, run_id), self._submission(db, run_id)
            mine = t.events.c.run == run_id
            last = db.scalar(select(func.max(t.events.c.id)).where(mine)) or 0
            if since and last == since:
                return News(last, read_bare(row, submission), {}, {})
            changed = select(t.events.c.cell).distinct().where(mine, t.events.c.id > since)
            cells = {cell for cell in db.scalars(changed) if cell is not None} if since else None
            if cells is None:
                cells = {placement.cell.id for placement in submission.plan.placements}
            found = read_cells(db, run_id, submission, cells, OUTLINE)
            return News(last, read_bare(row, submission), found, read_test_counts(db, run_id, cells))

    def bare(self, run_id: str) -> RunRecord:
        """A run without its cells. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            return read_bare(_row_of(db, run_id), self._submission(db, run_id))

    def submission(self, run_id: str) -> Submission:
        """What a run was made of. Raises NotFoundError."""
        with reading(self._engine, f"read the run {run_id}") as db:
            _row_of(db, run_id)
            return self._submission(db, run_id)

    def test_counts(
        self, run_id: str, cells: Collection[str] | None = None
    ) -> dict[tuple[str, int], dict[TestStatus, int]]:
        """How many tests of a run, or of some of its cells, had which result, by cell and number of the attempt."""
        with reading(self._engine, f"count the tests of {run_id}") as db:
            return read_test_counts(db, run_id, cells)

    def events(
        self, after: int, *, run_id: str | None = None, cell: str | None = None, limit: int = 500
    ) -> tuple[EventRecord, ...]:
        """What has happened since an event, 0 being the beginning; of all runs, of one, or of one's cell."""
        with reading(self._engine, "read the events") as db:
            return read_events(db, after, run_id, cell, limit)

    def last_event(self) -> int:
        """The newest event; 0 where there is none."""
        with reading(self._engine, "read the events") as db:
            return db.scalar(select(func.max(t.events.c.id))) or 0

    def state(self, run_id: str, known: KnownState | None = None) -> RunState:
        """As much of a run as deciding needs; of what is known of it, only what has changed is read again.

        Raises NotFoundError.
        """
        with reading(self._engine, f"read the run {run_id}") as db:
            return (known or KnownState()).read(db, _row_of(db, run_id), self._submission(db, run_id))

    def changed(self, since: int) -> Changes:
        """What has happened after an event by which something may be due."""
        with reading(self._engine, "read which runs have changed") as db:
            found = db.execute(_CHANGED, {"since": since}).all()
        return Changes(
            last=max((id_ for id_, *_ in found), default=since),
            runs=frozenset(run for _, run, _ in found),
            whole=any(cell is None for *_, cell in found),
        )

    def secrets(self, run_id: str) -> dict[str, str]:
        """The secrets of a run that is not finished. Raises ConfigError where they cannot be unsealed."""
        with reading(self._engine, f"read the secrets of {run_id}") as db:
            return self._vault.get(db, run_id)

    def mark(self, text: str) -> str:
        """What tells a text from others that may hold secrets; the same for as long as the store has its key."""
        return self._vault.mark(text)

    def latest(self) -> str | None:
        """The id of the newest run."""
        with reading(self._engine, "read the newest run") as db:
            return db.scalar(select(t.runs.c.id).order_by(*NEWEST).limit(1))

    def runs(self, query: RunQuery = _NEWEST) -> tuple[RunSummary, ...]:
        """The runs that are asked for, the newest first."""
        with reading(self._engine, "read the runs") as db:
            return read_summaries(db, query)

    def durations(self, name: str) -> dict[str, float]:
        """Seconds that the last attempt with a result took, by cell, over the runs of a matrix of this name."""
        with reading(self._engine, "read the runs") as db:
            return read_durations(db, name)

    def unfinished(self) -> tuple[str, ...]:
        """The runs that have not come to their end, the oldest first."""
        with reading(self._engine, "read the runs") as db:
            newest_first = db.scalars(select(t.runs.c.id).where(t.runs.c.state != State.FINISHED).order_by(*NEWEST))
            return tuple(newest_first)[::-1]

    def served(self) -> tuple[str, ...]:
        """The unfinished runs that `farm serve` has to carry out: by priority, then the oldest first."""
        with reading(self._engine, "read the runs") as db:
            return tuple(db.scalars(_SERVED))

    def request_cancel(self, run_id: str, *, now: datetime) -> bool:
        """Note that somebody wants the run to end; False where it has ended. Raises NotFoundError."""
        with writing(self._engine, f"cancel the run {run_id}") as db:
            if _row_of(db, run_id)["state"] == State.FINISHED:
                return False
            db.execute(update(t.runs).where(t.runs.c.id == run_id).values(cancel_requested=True))
            note(db, "run-cancelling", {}, at=text_of(now), run=run_id)
        self._tell()
        return True

    def request_cancel_cells(self, run_id: str, cells: Sequence[str], *, now: datetime) -> tuple[str, ...]:
        """Note that somebody wants cells of a run to end; gives those that have not ended. Raises NotFoundError."""
        with writing(self._engine, f"cancel cells of {run_id}") as db:
            _row_of(db, run_id)
            wanted = []
            for cell in cells:
                mine = and_(t.cells.c.run == run_id, t.cells.c.cell == cell, t.cells.c.state != State.FINISHED)
                if db.execute(update(t.cells).where(mine).values(cancel_requested=True)).rowcount:
                    note(db, "cell-cancelling", {}, at=text_of(now), run=run_id, cell=cell)
                    wanted.append(cell)
        if wanted:
            self._tell()
        return tuple(wanted)

    def finish_run(self, run_id: str, *, now: datetime, cancelled: bool) -> bool:
        """The run has come to its end; False, and nothing changes, where that was known already."""
        what = f"finish the run {run_id}"
        with reading(self._engine, what) as db:
            submission = self._submission(db, run_id)
            tallies = read_tallies(db, run_id)  # takes long where there are many tests, and changes no more
        with writing(self._engine, what) as db:
            record = read_run(db, _row_of(db, run_id), submission, ())
            code = exit_code(record.model_copy(update={"cancelled": cancelled}))
            values = {"finished": text_of(now), "cancelled": cancelled, "exit_code": code}
            open_run = and_(t.runs.c.id == run_id, t.runs.c.state != State.FINISHED)
            if not _finish(db, update(t.runs).where(open_run), values):
                return False
            if tallies:
                db.execute(insert(t.tallies), tallies)
            self._vault.forget(db, run_id)
            note(db, "run-finished", {"cancelled": cancelled, "exit_code": code}, at=text_of(now), run=run_id)
        self._tell()
        return True

    # --- cells and attempts -------------------------------------------------------------------------

    def finish_cell(self, run_id: str, cell: str, outcome: Outcome, *, now: datetime) -> bool:
        """The cell has its verdict; False, and nothing changes, where it had one already."""
        told = outcome.model_dump(mode="json")
        values = {"finished": text_of(now), "verdict": outcome.verdict, "outcome": told, "state": State.FINISHED}
        with writing(self._engine, f"finish the cell {run_id}/{cell}") as db:
            if not _change_open(db, run_id, cell, values):
                return False
            note(db, "cell-finished", told, at=text_of(now), run=run_id, cell=cell)
        self._tell()
        return True

    def start_attempt(self, key: AttemptKey, *, now: datetime) -> None:
        """An attempt begins: it, its cell and its run are running.

        Raises NotFoundError where there is no such cell, or it is finished; HostError where this attempt
        has begun before.
        """
        with writing(self._engine, f"start {key}") as db:
            if not _change_open(db, key.run, key.cell, {"state": State.RUNNING}):
                raise NotFoundError(f"cannot start {key}: there is no such cell to be run")
            db.execute(_BEGIN_RUN, {"the_run": key.run})
            row = {"state": State.RUNNING, "created": text_of(now), "seen": text_of(now)}
            db.execute(_BEGIN_ATTEMPT, {**names(key), **row})
            note(db, "attempt-started", {}, at=row["created"], **names(key))
        self._tell()

    def cancel_asked(self, key: AttemptKey) -> None:
        """The attempt was told to stop; nothing happens where it has ended."""
        with writing(self._engine, f"cancel {key}") as db:
            change_alive(db, key, {"cancel_asked": True})

    def finish_attempt(self, key: AttemptKey, outcome: Outcome, *, now: datetime, cpu_s: float = 0.0) -> bool:
        """The attempt has ended; False, and nothing changes, where that was known already."""
        told = outcome.model_dump(mode="json")
        values = {"finished": text_of(now), "outcome": told, "cpu_s": cpu_s, "state": State.FINISHED}
        self.files.close(key)
        with writing(self._engine, f"finish {key}") as db:
            if not change_alive(db, key, values):
                return False
            close(db, key, at=text_of(now))
            note(db, "attempt-finished", told, at=text_of(now), **names(key))
        self._tell()
        return True

    def record(self, key: AttemptKey, events: Sequence[Event], *, now: datetime | None = None) -> bool:
        """Take what an attempt says; False, and nothing changes, where the attempt is fenced off: it has ended.

        `now` is when it was heard. Without it the last event's own time counts, by the worker's clock, which
        is good enough only where that is the controller's too.
        Raises UntrustedError for an artifact that cannot be kept: what was said before it is stored.
        """
        heard = now or max((event.at for event in events), default=None)
        refused = self.record_all([Heard(key, event, heard) for event in events if heard])
        if error := refused.get(key):
            raise error
        return key not in refused

    def record_all(self, heard: Sequence[Heard]) -> dict[AttemptKey, UntrustedError | None]:
        """Take what several attempts say, in its order; gives those of which something was not taken.

        None: the attempt is fenced off. UntrustedError: an artifact of it cannot be kept; what it said before that
        is stored, and nothing after it. Where the database or the folder does not do its part, no row is written;
        of logs and artifacts, pieces may stay behind.
        """
        if not heard:
            return {}
        several = any(one.key != heard[0].key for one in heard)
        with writing(self._engine, f"record what {heard[0].key} {'and others say' if several else 'says'}") as db:
            refused = take(db, self.files, heard)
        self._tell()
        return refused

    # ------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _submission(self, db: Connection, run_id: str) -> Submission:
        """What a run was made of: it never changes, and reading it anew at every tick would cost the most."""
        # Several threads come here: each changes a copy, and gives back what it has in its hand.
        kept = self._submissions
        submission = kept.get(run_id) or self._alive.get(run_id)
        if submission is None:
            query = select(cast(t.submissions.c.submission, Text)).where(t.submissions.c.run == run_id)
            # By itself, as text: otherwise there would be a string of its own for each host of each cell meanwhile.
            self._alive[run_id] = submission = Submission.model_validate_json(db.execute(query).scalar_one())
        if run_id not in kept:
            self._submissions = {**dict(list(kept.items())[1 - _KEPT_SUBMISSIONS :]), run_id: submission}
        return submission


_RUN = select(t.runs).where(t.runs.c.id == bindparam("run_id"))
_SERVED = (
    select(t.runs.c.id)
    .where(t.runs.c.state.in_((State.QUEUED, State.RUNNING)), t.runs.c.served)  # not "not finished": so the index helps
    .order_by(t.runs.c.priority.desc(), t.runs.c.created, t.runs.c.number)
)
# Grouped by run, SQLite would go through all events that there are, by the index that has them by run.
_CHANGED = select(t.events.c.id, t.events.c.run, t.events.c.cell).where(
    t.events.c.id > bindparam("since"),
    *(t.events.c.kind != kind for kind in (*DECIDES_NOTHING, "placed")),  # where an attempt is, makes nothing due
)


_OPEN_CELL = update(t.cells).where(
    t.cells.c.run == bindparam("the_run"), t.cells.c.cell == bindparam("the_cell"), t.cells.c.state != State.FINISHED
)
_BEGIN_RUN = (
    update(t.runs)
    .where(t.runs.c.id == bindparam("the_run"), t.runs.c.state != State.RUNNING)
    .values(state=State.RUNNING)
)
_BEGIN_ATTEMPT = insert(t.attempts)


def _change_open(db: Connection, run_id: str, cell: str, values: Mapping[str, object]) -> bool:
    """Change the row of a cell that is not finished; whether there is one."""
    return db.execute(_OPEN_CELL, {"the_run": run_id, "the_cell": cell, **values}).rowcount > 0


def _row_of(db: Connection, run_id: str) -> RowMapping:
    row = db.execute(_RUN, {"run_id": run_id}).mappings().one_or_none()
    if row is None:
        ids = list(db.scalars(select(t.runs.c.id).order_by(*NEWEST).limit(200)))
        near = get_close_matches(run_id, ids, n=3) or ids[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "there has been no run yet"
        raise NotFoundError(f"cannot find the run {run_id!r}: there is none of this name", hint=hint)
    return row


def _finish(db: Connection, which: Update, values: dict[str, Any]) -> bool:
    changed: CursorResult[Any] = db.execute(which.values(**values, state=State.FINISHED))
    return changed.rowcount > 0
