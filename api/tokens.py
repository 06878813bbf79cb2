"""Tokens and the audit log: for administrators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from api.auth import Admin, Reader, TheServer
from api.params import MOST
from farm.model import AuditRecord, Identity, Model, Scope, TokenRecord
from farm.model.access import PRINCIPAL

router = APIRouter(tags=["access"])

TokenId = Annotated[str, Path(max_length=16, description="As the list of tokens has it.")]


class TokenRequest(Model):
    """A token that is wanted."""

    name: Annotated[str, Field(pattern=PRINCIPAL)]
    """Whose it is; runs and the audit log name it."""
    scope: Scope
    days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """After which it is good for nothing; null: never."""


class NewToken(BaseModel):
    """A token, and its secret."""

    token: TokenRecord
    secret: str
    """Told only here."""


@router.get("/me", summary="Who asks")
def show_identity(identity: Reader) -> Identity:
    """The name and the scope of the token that is used."""
    return identity


@router.post("/tokens", status_code=HTTPStatus.CREATED, summary="Create a token")
def create_token(request: TokenRequest, server: TheServer, identity: Admin) -> NewToken:
    """Its secret is in the answer, and nowhere else."""
    now = datetime.now(UTC)
    expires = now + timedelta(days=request.days) if request.days else None
    made = server.access.create_token(request.name, request.scope, by=identity.name, now=now, expires=expires)
    return NewToken(token=made[0], secret=made[1])


@router.get("/tokens", summary="List tokens")
def list_tokens(server: TheServer, _identity: Admin) -> tuple[TokenRecord, ...]:
    """Also those that are good for nothing any more, the newest first."""
    return server.access.tokens()


@router.delete("/tokens/{token}", status_code=HTTPStatus.NO_CONTENT, summary="Revoke a token")
def revoke_token(token: TokenId, server: TheServer, identity: Admin) -> None:
    """It is good for nothing from now on, and browsers that have shown it are logged out."""
    server.access.revoke_token(token, by=identity.name, now=datetime.now(UTC))


@router.get("/audit", summary="Read the audit log")
def read_audit(
    server: TheServer,
    _identity: Admin,
    before: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> tuple[AuditRecord, ...]:
    """Every change, the newest first; `before` is the last `id` of the page before."""
    return server.access.audit(before=before, limit=limit)
