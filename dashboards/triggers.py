"""What goes wrong between the farm and forges: pushes that became no run, and what others could not be told."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Response

from api import deliveries as api
from api.params import MOST
from dashboards.route import router as new_router
from dashboards.visit import Operating, see

router = new_router()

_PAGE = 50

Before = Annotated[int | None, Query(ge=1, le=MOST)]


@router.get("/triggers")
def triggers(visit: Operating, before: Before = None) -> Response:
    """Pushes that are no run, and deliveries that wait or were given up."""
    server, me = visit.server, visit.identity
    return visit.page(
        "triggers.html",
        pushes=api.list_pushes(server=server, _identity=me, before=before, limit=_PAGE),
        failed=api.list_deliveries(server=server, _identity=me, state="failed", limit=_PAGE).deliveries,
        waiting=api.list_deliveries(server=server, _identity=me, state="waiting", limit=_PAGE).deliveries,
        known=visit.server.config.trigger,
    )


@router.post("/triggers/deliveries/{delivery}/retry")
def retry(visit: Operating, delivery: Annotated[int, Path(ge=1, le=MOST)]) -> Response:
    """Tell it again, at once."""
    api.retry_delivery(delivery, visit.server, visit.identity)
    return see("/triggers")
