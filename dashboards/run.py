"""One run as a heat-map that fills while it is watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Form, Query, Response

from api import runs as api
from api.params import MOST
from dashboards.heatmap import HeatMap, heatmap
from dashboards.route import router as new_router
from dashboards.runs import elsewhere
from dashboards.visit import Reading, Submitting, Visit, run_path, see
from farm.model import RerunRequest, State, Verdict
from farm.report.overview import CellBrief

router = new_router()

_TROUBLE = frozenset({Verdict.FAILED, Verdict.ERROR})
_SHOWS: Mapping[str, Callable[[CellBrief], bool]] = {
    "all": lambda _cell: True,
    "troubles": lambda cell: cell.verdict in _TROUBLE,
    "unfinished": lambda cell: cell.verdict is None,
}
"""Which cells are in the map."""
_LISTED = 100
_COMPACT_ABOVE = 8
"""Columns."""
_DELTA_CELLS = 200
"""If more cells than this have news, the whole map is sent."""

Axes = Annotated[list[str] | None, Query(max_length=16)]
Show = Annotated[str, Query(max_length=20)]


@dataclass(frozen=True)
class Choice:
    """How somebody wants to see the map."""

    columns: Sequence[str] | None
    show: str


@router.get("/runs/{run}")
def look(visit: Reading, run: str, cols: Axes = None, show: Show = "all") -> Response:
    """The run."""
    return elsewhere(visit, run) or visit.page("run.html", **_values(visit, run, Choice(cols, show)))


@router.get("/runs/{run}/live")
def live(
    visit: Reading, run: str, seen: Annotated[int, Query(ge=0, le=MOST)], cols: Axes = None, show: Show = "all"
) -> Response:
    """What has changed since an event: parts of the page, each with its id."""
    news = visit.server.store.events(seen, run_id=run, limit=_DELTA_CELLS)
    if not news:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    values = _values(visit, run, Choice(cols, show))
    changed = {event.cell for event in news}
    few = len(news) < _DELTA_CELLS and _stays(values["map"], show)
    slots = [slot for slot in values["map"].slots() if changed & {cell.id for cell in slot.cells}] if few else None
    return visit.page("run_live.html", slots=slots, **values)


@router.post("/runs/{run}/cancel")
def cancel(visit: Submitting, run: str) -> Response:
    """End it."""
    api.cancel_run(run, visit.server, visit.identity)
    return see(run_path(run))


@router.post("/runs/{run}/rerun")
async def rerun(visit: Submitting, run: str, cells: Annotated[str, Form(max_length=500)] = "failed") -> Response:
    """Run some of its cells again, as a run of their own."""
    again = await api.rerun_cells(
        run=run,
        body=RerunRequest(cells=(cells,)),
        request=visit.request,
        server=visit.server,
        identity=visit.identity,
        response=Response(),
    )
    return see(run_path(again.run.id))


def _values(visit: Visit, run: str, choice: Choice) -> dict[str, Any]:
    look = visit.server.overviews.look(run)
    seen, whole = look.event, look.overview
    submission = visit.server.store.submission(run)
    shown = [cell for cell in whole.cells if _SHOWS.get(choice.show, _SHOWS["all"])(cell)]
    table = heatmap(shown, submission.plan.matrix.axes, choice.columns)
    bad = [cell for cell in whole.cells if cell.verdict in _TROUBLE]
    return {
        "run": whole.run,
        "warnings": whole.warnings,
        "map": table,
        "compact": table.width > _COMPACT_ABOVE,
        "show": choice.show if choice.show in _SHOWS else "all",
        "bad": bad[:_LISTED],
        "bad_left": max(0, len(bad) - _LISTED),
        "going": whole.run.state is not State.FINISHED,
        "running": [cell for cell in whole.cells if cell.state is State.RUNNING],
        "seen": seen,
        "poll_s": 2 if len(whole.cells) <= _DELTA_CELLS else 5,
        "excluded": submission.plan.excluded,
        "own": visit.may_change(whole.run.owner),
        "problems": {one.cell.id: one.problem for one in submission.plan.placements if one.problem},
    }


def _stays(table: HeatMap, show: str) -> bool:
    """Whether no slot can move while cells go on: what a cell got, and which are shown, are not known beforehand."""
    asked = {name for slot in table.slots() for cell in slot.cells for name in cell.values}
    return show == "all" and set(table.row_axes + table.column_axes) <= asked
