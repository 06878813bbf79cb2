"""Runs at a glance that are kept: they are what the store says, whatever it says it by."""

from __future__ import annotations

from sqlalchemy import delete

from farm.overviews import Overviews
from farm.report.overview import overview
from farm.store import Store
from farm.store import tables as t
from farm.store.database import writing
from tests.unit.test_store import CELLS, FAILED, NOW, submission


def test_a_look_after_a_change_is_as_if_all_had_been_read(store: Store) -> None:
    run, kept = store.create_run(submission(), now=NOW).id, Overviews(store)
    for change in (lambda: None, lambda: store.finish_cell(run, CELLS[1], FAILED, now=NOW), lambda: None):
        change()
        assert kept.look(run).overview == overview(store.outline(run), store.test_counts(run))


def test_a_run_of_before_there_were_events_of_runs_can_be_looked_at(store: Store) -> None:
    run = store.create_run(submission(), now=NOW).id
    with writing(store.engine, "forget the events") as db:
        db.execute(delete(t.events))
    assert [cell.id for cell in Overviews(store).look(run).overview.cells] == list(CELLS)
