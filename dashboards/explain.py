"""Why a cell does not run yet, or what its verdict rests on; and its end before that of its run."""

from __future__ import annotations

from fastapi import Response

from api import explain as api
from dashboards.route import router as new_router
from dashboards.visit import Reading, Submitting, cell_path, see

router = new_router()


@router.get("/runs/{run}/why/{cell:path}")
def why(visit: Reading, run: str, cell: str) -> Response:
    """Where it stands."""
    return visit.page("explain.html", run=run, found=visit.server.explainer.explain(run, cell))


@router.post("/runs/{run}/cancel/{cell:path}")
def cancel(visit: Submitting, run: str, cell: str) -> Response:
    """End it."""
    api.cancel_cell(run, cell, visit.server, visit.identity)
    return see(cell_path(run, cell))
