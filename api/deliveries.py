"""What others were told of runs, or could not be told, and what they told that became no run: for operators."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from api.auth import Operator, TheServer
from farm.model import DeliveryRecord, FailedPush, Triggered
from farm.store.deliveries import Deliveries, DeliveryState
from farm.store.hooks import Hooks

router = APIRouter(tags=["triggers"])

Number = Annotated[int, Path(ge=1, le=2**53)]


class DeliveryPage(BaseModel):
    """Some deliveries, the newest first."""

    deliveries: tuple[DeliveryRecord, ...]
    next: int | None
    """What to give as `before` for the next page; null on the last one."""


class PushPage(BaseModel):
    """Pushes that are no run."""

    waiting: tuple[Triggered, ...]
    """Taken, and being worked on or tried again; the oldest first."""
    failed: tuple[FailedPush, ...]
    """Came to nothing, the newest first."""
    next: int | None
    """What to give as `before` for the next page of those that failed; null on the last one."""


@router.get("/pushes", summary="List pushes that are no run")
def list_pushes(
    *,
    server: TheServer,
    _identity: Operator,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> PushPage:
    """Those that triggers have taken and that wait for their run, and those that became none, with the reason."""
    hooks = Hooks(server.store.engine)
    found = hooks.failed(before=before, limit=limit + 1)
    more = found[limit - 1].id if len(found) > limit else None
    return PushPage(waiting=hooks.waiting(), failed=found[:limit], next=more)


@router.get("/deliveries", summary="List deliveries")
def list_deliveries(
    *,
    server: TheServer,
    _identity: Operator,
    run: Annotated[str | None, Query(max_length=80)] = None,
    state: DeliveryState | None = None,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> DeliveryPage:
    """Webhooks and commit statuses with their tries: those that wait, were taken (done), or were given up (failed)."""
    found = Deliveries(server.store.engine).list(run_id=run, state=state, before=before, limit=limit + 1)
    return DeliveryPage(deliveries=found[:limit], next=found[limit - 1].id if len(found) > limit else None)


@router.post("/deliveries/{delivery}/retry", status_code=HTTPStatus.ACCEPTED, summary="Try a delivery again")
def retry_delivery(delivery: Number, server: TheServer, identity: Operator) -> DeliveryRecord:
    """At once, and then as often as a new one; also where it was given up."""
    now = datetime.now(UTC)
    found = Deliveries(server.store.engine).retry(delivery, now=now)
    server.access.note(identity.name, "delivery.retry", str(delivery), {"target": found.target}, now=now)
    server.sender.wake([found.target])
    return found
