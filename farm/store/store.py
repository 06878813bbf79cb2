"""The store: what happened goes in, records come out. Rows in a database, logs and artifacts in files.

The controller is the only one that writes about a run while it goes on; anybody may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, func, insert, select, update

from farm.errors import HostError, NotFoundError
from farm.lifecycle import AttemptState, CellState, RunState
from farm.model import (
    ArtifactFound,
    AttemptKey,
    Event,
    GuestCreated,
    LogChunk,
    Outcome,
    PhaseEnded,
    PhaseStarted,
    RunRecord,
    RunSummary,
    State,
    Submission,
    TestsFound,
    Verdict,
)
from farm.store import tables as t
from farm.store.database import database_errors, open_database
from farm.store.files import Files
from farm.store.records import outcome_of, read_run, when


class Store:
    """Runs and all that belongs to them."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files

    @classmethod
    def open(cls, url: str, folder: Path) -> Store:
        """A store on a database and a folder, both made and migrated if need be. Raises ConfigError, HostError."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = Files(folder)
        except OSError as error:
            raise HostError(
                f"cannot open the store in {folder}: {error.strerror}", hint="set FARM_STATE to another folder"
            ) from error
        return cls(open_database(url), files)

    def close(self) -> None:
        """Give the database's connections back."""
        self._engine.dispose()

    # --- runs ---------------------------------------------------------------------------------------

    def create_run(self, submission: Submission, *, now: datetime) -> RunRecord:
        """Store a run with its cells and its plan; its id is the matrix' name and the next number."""
        name = submission.plan.matrix.name
        with self._writing("store the run") as db:
            number = (db.scalar(select(func.max(t.runs.c.number)).where(t.runs.c.name == name)) or 0) + 1
            run = {
                "id": f"{name}-{number}",
                "name": name,
                "number": number,
                "submission": submission.model_dump(mode="json", by_alias=True),
                "state": State.QUEUED,
                "created": _text(now),
            }
            db.execute(insert(t.runs), run)
            db.execute(
                insert(t.cells),
                [
                    {"run": run["id"], "cell": placement.cell.id, "position": position, "state": State.QUEUED}
                    for position, placement in enumerate(submission.plan.placements)
                ],
            )
        return self.run(str(run["id"]))

    def run(self, run_id: str) -> RunRecord:
        """A run in full. Raises NotFoundError."""
        with self._reading() as db:
            row = db.execute(select(t.runs).where(t.runs.c.id == run_id)).mappings().one_or_none()
            if row is None:
                raise self._no_run(db, run_id)
            return read_run(db, row)

    def latest(self) -> str | None:
        """The id of the newest run."""
        with self._reading() as db:
            return db.scalar(select(t.runs.c.id).order_by(t.runs.c.created.desc()).limit(1))

    def runs(self, limit: int = 50) -> tuple[RunSummary, ...]:
        """The newest runs, the newest first."""
        with self._reading() as db:
            rows = db.execute(select(t.runs).order_by(t.runs.c.created.desc()).limit(limit)).mappings().all()
            counts: dict[str, dict[Verdict | None, int]] = {row["id"]: {} for row in rows}
            grouped = select(t.cells.c.run, t.cells.c.verdict, func.count()).where(t.cells.c.run.in_(counts))
            for run, verdict, count in db.execute(grouped.group_by(t.cells.c.run, t.cells.c.verdict)):
                counts[run][Verdict(verdict) if verdict else None] = count
        return tuple(
            RunSummary(
                id=row["id"],
                state=row["state"],
                created=row["created"],
                finished=row["finished"],
                cancelled=row["cancelled"],
                cells=sum(counts[row["id"]].values()),
                verdicts={verdict: count for verdict, count in counts[row["id"]].items() if verdict},
            )
            for row in rows
        )

    def unfinished(self) -> tuple[str, ...]:
        """The runs that have not come to their end, the oldest first."""
        with self._reading() as db:
            query = select(t.runs.c.id).where(t.runs.c.state != State.FINISHED).order_by(t.runs.c.created)
            return tuple(db.scalars(query))

    def request_cancel(self, run_id: str) -> None:
        """Note that somebody wants the run to end."""
        with self._writing("cancel the run") as db:
            db.execute(update(t.runs).where(t.runs.c.id == run_id).values(cancel_requested=True))

    def finish_run(self, run_id: str, *, now: datetime, cancelled: bool) -> None:
        """The run has come to its end."""
        values = {"state": State.FINISHED, "finished": _text(now), "cancelled": cancelled}
        with self._writing("finish the run") as db:
            db.execute(update(t.runs).where(t.runs.c.id == run_id).values(values))

    def state(self, run_id: str) -> RunState:
        """As much of a run as deciding needs. Raises NotFoundError."""
        with self._reading() as db:
            run = db.execute(select(t.runs).where(t.runs.c.id == run_id)).mappings().one_or_none()
            if run is None:
                raise self._no_run(db, run_id)
            query = select(t.cells).where(t.cells.c.run == run_id).order_by(t.cells.c.position)
            cells = db.execute(query).mappings().all()
            query = select(t.attempts).where(t.attempts.c.run == run_id).order_by(t.attempts.c.number)
            attempts: dict[str, list[AttemptState]] = {}
            for row in db.execute(query).mappings():
                attempts.setdefault(row["cell"], []).append(
                    AttemptState(
                        number=row["number"],
                        state=State(row["state"]),
                        seen=when(row["seen"]),
                        outcome=outcome_of(row),
                        cancel_asked=row["cancel_asked"],
                    )
                )
        submission = Submission.model_validate(run["submission"])
        matrix = submission.plan.matrix
        placements = {placement.cell.id: placement for placement in submission.plan.placements}
        limits = [limit for limit in (matrix.max_parallel, submission.max_parallel) if limit]
        return RunState(
            cells=tuple(
                CellState(
                    id=row["cell"],
                    state=State(row["state"]),
                    attempts=tuple(attempts.get(row["cell"], ())),
                    outcome=outcome_of(row),
                    may_fail=placements[row["cell"]].cell.may_fail,
                    problem=placements[row["cell"]].problem,
                )
                for row in cells
            ),
            state=State(run["state"]),
            fail_fast=matrix.fail_fast,
            max_parallel=min(limits) if limits else None,
            retries_infra=matrix.retries.infra,
            cancel_requested=run["cancel_requested"],
        )

    # --- cells and attempts -------------------------------------------------------------------------

    def finish_cell(self, run_id: str, cell: str, outcome: Outcome, *, now: datetime) -> None:
        """The cell has its verdict."""
        with self._writing("store a verdict") as db:
            db.execute(
                update(t.cells)
                .where(t.cells.c.run == run_id, t.cells.c.cell == cell)
                .values(
                    state=State.FINISHED,
                    verdict=outcome.verdict,
                    outcome=outcome.model_dump(mode="json"),
                    finished=_text(now),
                )
            )

    def start_attempt(self, key: AttemptKey, *, now: datetime) -> None:
        """An attempt begins: it, its cell and its run are running."""
        with self._writing("start an attempt") as db:
            row = {"state": State.RUNNING, "created": _text(now), "seen": _text(now)}
            db.execute(insert(t.attempts), {**_names(key), **row})
            cell = and_(t.cells.c.run == key.run, t.cells.c.cell == key.cell)
            db.execute(update(t.cells).where(cell).values(state=State.RUNNING))
            db.execute(update(t.runs).where(t.runs.c.id == key.run).values(state=State.RUNNING))

    def cancel_asked(self, key: AttemptKey) -> None:
        """The attempt was told to stop."""
        with self._writing("cancel an attempt") as db:
            db.execute(update(t.attempts).where(_is(t.attempts, key)).values(cancel_asked=True))

    def finish_attempt(self, key: AttemptKey, outcome: Outcome, *, now: datetime, cpu_s: float = 0.0) -> bool:
        """The attempt has ended; False, and nothing changes, where that was known already."""
        with self._writing("finish an attempt") as db:
            changed = db.execute(
                update(t.attempts)
                .where(_is(t.attempts, key), t.attempts.c.state != State.FINISHED)
                .values(
                    state=State.FINISHED,
                    finished=_text(now),
                    outcome=outcome.model_dump(mode="json"),
                    cpu_s=cpu_s,
                )
            )
            return bool(changed.rowcount)

    def record(self, key: AttemptKey, events: Sequence[Event]) -> bool:
        """Take what an attempt says; False, and nothing changes, where the attempt is fenced off: it has ended."""
        with self._writing("record events") as db:
            seen = _text(max(event.at for event in events))
            alive = and_(_is(t.attempts, key), t.attempts.c.state != State.FINISHED)
            if not db.execute(update(t.attempts).where(alive).values(seen=seen)).rowcount:
                return False
            for event in events:
                self._take(db, key, event)
        return True

    # --- files --------------------------------------------------------------------------------------

    def log(self, key: AttemptKey, name: str) -> bytes:
        """A log, as the guest wrote it: a phase's, or `console`. Raises NotFoundError."""
        return self._files.log(key, name)

    def logs(self, key: AttemptKey) -> tuple[str, ...]:
        """The names of an attempt's logs."""
        return self._files.logs(key)

    def folder_of(self, key: AttemptKey) -> Path:
        """The folder with an attempt's logs and artifacts."""
        return self._files.of(key)

    # ------------------------------------------------------------------------------------------------

    def _take(self, db: Connection, key: AttemptKey, event: Event) -> None:
        match event:
            case LogChunk():
                self._files.write_log(key, event)
                return
            case PhaseStarted():
                db.execute(insert(t.phases), {**_names(key), "phase": event.phase, "started": _text(event.at)})
            case PhaseEnded():
                row = event.model_dump(mode="json", include={"duration_s", "ending", "exit_status", "detail"})
                phase = and_(_is(t.phases, key), t.phases.c.phase == event.phase)
                db.execute(update(t.phases).where(phase).values(row))
            case GuestCreated():
                facts = event.facts.model_dump(mode="json")
                db.execute(update(t.attempts).where(_is(t.attempts, key)).values(facts=facts))
            case TestsFound():
                db.execute(insert(t.tests), [{**_names(key), **test.model_dump(mode="json")} for test in event.tests])
            case ArtifactFound():
                artifact = self._files.write_artifact(key, event)
                same = and_(_is(t.artifacts, key), t.artifacts.c.path == artifact.path)
                values = artifact.model_dump()
                if not db.execute(update(t.artifacts).where(same).values(values)).rowcount:
                    db.execute(insert(t.artifacts), {**_names(key), **values})
            case _:
                pass
        payload = event.model_dump(mode="json", exclude={"at", "kind", "data", "tests"})
        row = {**_names(key), "at": _text(event.at), "kind": event.kind, "payload": payload}
        db.execute(insert(t.events), row)

    def _no_run(self, db: Connection, run_id: str) -> NotFoundError:
        ids = list(db.scalars(select(t.runs.c.id).order_by(t.runs.c.created.desc()).limit(200)))
        near = get_close_matches(run_id, ids, n=3) or ids[:3]
        hint = f"did you mean {', '.join(near)}?" if near else "there has been no run yet"
        return NotFoundError(f"cannot find the run {run_id!r}", hint=hint)

    @contextmanager
    def _writing(self, what: str) -> Iterator[Connection]:
        with database_errors(what), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with database_errors("read the store"), self._engine.connect() as connection:
            yield connection


def _names(key: AttemptKey) -> dict[str, Any]:
    return {"run": key.run, "cell": key.cell, "number": key.number}


def _is(table: Any, key: AttemptKey) -> Any:
    return and_(table.c.run == key.run, table.c.cell == key.cell, table.c.number == key.number)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
