"""Where a cell stands and why, and its end before that of its run."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter

from api.auth import Reader, Submitter, TheServer
from api.params import CellId, RunId, run_named
from api.runs import own_or_operator
from farm.cancelling import cancel_cells
from farm.explain import Explanation
from farm.report.overview import Overview

router = APIRouter(tags=["cells"])


@router.get("/runs/{run}/cells/{cell:path}/explain", summary="Explain where a cell stands")
def explain_cell(run: RunId, cell: CellId, server: TheServer, _identity: Reader) -> Explanation:
    """Why it is not running yet, its place in the queue and its expected start; or what its verdict rests on."""
    return server.explainer.explain(run_named(server, run), cell)


@router.post("/runs/{run}/cells/{cell:path}/cancel", status_code=HTTPStatus.ACCEPTED, summary="End a cell")
def cancel_cell(run: RunId, cell: CellId, server: TheServer, identity: Submitter) -> Overview:
    """Its guest is destroyed, or it is not begun; a glob names several. Nothing happens where they have ended."""
    run_id = run_named(server, run)
    own_or_operator(server, run_id, identity)
    now = datetime.now(UTC)
    if cancelled := cancel_cells(server.store, run_id, cell, now=now):
        detail = {"cells": len(cancelled), "pattern": cell}
        server.access.note(identity.name, "cell.cancel", run_id, detail, now=now)
        server.wake()
    return server.overviews.look(run_id).overview
