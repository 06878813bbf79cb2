"""Tokens and the audit log, for administrators."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import Form, Query, Response

from api.params import MOST
from dashboards.route import router as new_router
from dashboards.visit import Administering, Visit, see
from farm.model import Scope, TokenRecord
from farm.model.access import PRINCIPAL

router = new_router()

_PAGE = 100


@router.get("/tokens")
def tokens(visit: Administering) -> Response:
    """All tokens."""
    return _page(visit)


@router.post("/tokens")
def create(
    visit: Administering,
    name: Annotated[str, Form(pattern=PRINCIPAL)],
    scope: Annotated[Scope, Form()] = Scope.READ,
    days: Annotated[int, Form(ge=0, le=3650)] = 90,
) -> Response:
    """A new one; its secret is on this page, and nowhere else."""
    expires = visit.now + timedelta(days=days) if days else None
    made = visit.server.access.create_token(name, scope, by=visit.identity.name, now=visit.now, expires=expires)
    return _page(visit, *made)


@router.post("/tokens/{token}/revoke")
def revoke(visit: Administering, token: str) -> Response:
    """It is good for nothing from now on."""
    visit.server.access.revoke_token(token, by=visit.identity.name, now=visit.now)
    return see("/tokens")


@router.get("/audit")
def audit(visit: Administering, before: Annotated[int | None, Query(ge=1, le=MOST)] = None) -> Response:
    """Every change, the newest first."""
    found = visit.server.access.audit(before=before, limit=_PAGE + 1)
    more = found[_PAGE - 1].id if len(found) > _PAGE else None
    return visit.page("audit.html", records=found[:_PAGE], next=more)


def _page(visit: Visit, made: TokenRecord | None = None, secret: str = "") -> Response:
    found = [(token, _standing(visit, token)) for token in visit.server.access.tokens()]
    return visit.page("tokens.html", tokens=found, made=made, secret=secret, scopes=tuple(Scope))


def _standing(visit: Visit, token: TokenRecord) -> str:
    if token.revoked:
        return "revoked"
    return "expired" if token.expires and token.expires < visit.now else "good"
