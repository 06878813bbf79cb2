"""For whoever watches over the server."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.auth import TheServer
from api.problems import ProblemError, also

router = APIRouter(tags=["health"])

_STUCK_S = 60.0
"""A controller that is well looks at the runs every second or so."""


class Health(BaseModel):
    """All is well."""

    status: Literal["ok"]


@router.get("/healthz", summary="Does the process live")
async def check_health() -> Health:
    """It does, or there is no answer."""
    return Health(status="ok")


@router.get("/readyz", summary="Can it do its work", responses=also(HTTPStatus.SERVICE_UNAVAILABLE))
def check_readiness(server: TheServer) -> Health:
    """Whether runs are carried out, and the store answers."""
    if not server.alive:
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "cannot take work: no runs are carried out")
    if (age_s := server.pulse.age_s) > _STUCK_S:
        detail = f"cannot take work: the controller has not looked at the runs for {age_s:.0f} s"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", detail)
    server.store.last_event()
    return Health(status="ok")
