"""The hosts: what they can run, what runs there now, and whether they get anything new."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from api.auth import Operator, Reader, TheServer
from farm import fleet
from farm.model import HostLook, Model

router = APIRouter(tags=["hosts"])

HostName = Annotated[str, Path(max_length=200, description="As the list of hosts has it.")]


class HostList(BaseModel):
    """The hosts of the farm."""

    hosts: tuple[HostLook, ...]


class DrainRequest(Model):
    """Why a host is to get nothing new."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


@router.get("/hosts", summary="List the hosts")
def list_hosts(server: TheServer, _identity: Reader) -> HostList:
    """What each can run, what runs there now and what it has left, and which get nothing new and why."""
    return HostList(hosts=fleet.looks(server.store, server.fleet.hosts()))


@router.post("/hosts/{name}/drain", status_code=HTTPStatus.OK, summary="Drain a host")
def drain_host(name: HostName, body: DrainRequest, server: TheServer, identity: Operator) -> HostLook:
    """It gets nothing new from now on; what runs there goes on to its end."""
    look = fleet.drain(server.store, server.fleet.hosts(), name, body.reason)
    server.access.note(identity.name, "host.drain", name, {"reason": body.reason}, now=datetime.now(UTC))
    server.wake()
    return look


@router.post("/hosts/{name}/enable", status_code=HTTPStatus.OK, summary="Enable a host")
def enable_host(name: HostName, server: TheServer, identity: Operator) -> HostLook:
    """It gets work again. Nothing happens where it was not drained."""
    look = fleet.resume(server.store, server.fleet.hosts(), name)
    server.access.note(identity.name, "host.enable", name, {}, now=datetime.now(UTC))
    server.wake()
    return look
