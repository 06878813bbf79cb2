"""Stores full of runs: cells as `tests.unit.documents` makes them, written at once instead of event by event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import insert, update

from farm.model import AttemptRecord, CellRecord, State, Submission
from farm.store import Store
from farm.store import tables as t
from farm.store.database import writing
from farm.store.events import text_of
from tests.unit.documents import cell
from tests.unit.records import START, demo_run

_NONE: Mapping[str, str] = MappingProxyType({})
_PLAIN = {"facts", "outcome", "usage"}


def seed(
    store: Store,
    *cells: CellRecord,
    project: str = "demo",
    version: str = "",
    labels: Mapping[str, str] = _NONE,
    days: float = 0,
    finished: bool = True,
    **changes: Any,
) -> str:
    """A run of these cells, `days` after START; gives its id. `changes` are of its submission."""
    now = START + timedelta(days=days)
    run = store.create_run(_submission(cells, project, version=version, labels=dict(labels), **changes), now=now).id
    with writing(store.engine, f"seed {run}") as db:
        for table, rows in _rows(run, cells, now).items():
            if rows:
                db.execute(insert(t.metadata.tables[table]), rows)
        for one in (one for one in cells if one.outcome):
            mine = update(t.cells).where(t.cells.c.run == run, t.cells.c.cell == one.id)
            outcome = one.outcome.model_dump(mode="json") if one.outcome else {}
            ended = {"state": State.FINISHED, "finished": text_of(now)}
            db.execute(mine.values(verdict=outcome["verdict"], outcome=outcome, **ended))
    if finished:
        store.finish_run(run, now=now + timedelta(minutes=1), cancelled=False)
    return run


def seed_many(store: Store, *, runs: int, cells: int, tests: int, project: str = "demo") -> list[str]:
    """Runs with so many cells and tests each, of which some fail now and then; gives their ids."""
    made = []
    for number in range(runs):
        records = [
            cell(
                f"debian-{11 + place % 3}/arch{place // 3}",
                "passed",
                {f"suite{test % 5}/test_{test}": _status(number, place, test) for test in range(tests)},
            )
            for place in range(cells)
        ]
        made.append(seed(store, *records, project=project, days=number))
    return made


def _status(run: int, place: int, test: int) -> str:
    return "failed: differs" if test % 50 == 0 and (run * 7 + place) % 10 == 0 else "passed"


def _submission(cells: Iterable[CellRecord], project: str, **changes: Any) -> Submission:
    made = demo_run(tuple(cells)).submission
    plan = made.plan.model_copy(update={"matrix": made.plan.matrix.model_copy(update={"name": project})})
    return made.model_copy(update={"plan": plan, **changes})


def _rows(run: str, cells: Iterable[CellRecord], now: datetime) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("attempts", "phases", "tests", "artifacts")}
    for one in cells:
        for attempt in one.attempts:
            names = {"run": run, "cell": one.id, "number": attempt.key.number}
            rows["attempts"].append(names | _attempt(attempt, now))
            for name in ("phases", "tests", "artifacts"):
                rows[name] += [names | part for part in _parts(attempt, name)]
    return rows


def _attempt(attempt: AttemptRecord, now: datetime) -> dict[str, Any]:
    took = attempt.finished - attempt.created if attempt.finished else timedelta()
    told = attempt.model_dump(mode="json", include=_PLAIN)
    times = {"created": text_of(now), "seen": text_of(now), "finished": text_of(now + took)}
    return {**told, **times, "state": attempt.state, "cpu_s": attempt.cpu_s}


def _parts(attempt: AttemptRecord, name: str) -> Iterator[dict[str, Any]]:
    for part in getattr(attempt, name):
        row = part.model_dump(mode="json")
        yield row | ({"started": text_of(part.started)} if name == "phases" else {})
