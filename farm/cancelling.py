"""The end of some cells of a run, before the run's own."""

from __future__ import annotations

from datetime import datetime

from farm.select import select
from farm.store import Store


def cancel_cells(store: Store, run_id: str, pattern: str, *, now: datetime) -> tuple[str, ...]:
    """Ask for the end of the cells that an id or a glob names; gives those of them that had not ended.

    Raises NotFoundError, and PlanError where it names none.
    """
    cells = [placement.cell for placement in store.submission(run_id).plan.placements]
    exact = [cell for cell in cells if cell.id == pattern]
    return store.request_cancel_cells(run_id, [cell.id for cell in exact or select(cells, [pattern])], now=now)
