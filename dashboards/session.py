"""Logging in with a token, and out."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Form, Query, Request, Response

from api.auth import COOKIE, SESSION, TheServer, identify, refuse_other_sites
from dashboards.route import router as new_router
from dashboards.visit import rendered, see
from farm.model import Scope
from farm.serve import Server

router = new_router()

Next = Annotated[str, Query(max_length=2000)]
_HERE = re.compile(r"/(?![/\\])[^\\\x00-\x20]*")
"""A path of this site. A second slash, or what browsers take for one, would lead to another."""


@router.get("/login")
def login_form(next: Next = "/runs") -> Response:  # noqa: A002 - the name in the address
    """Ask for a token."""
    return rendered("login.html", next=_here(next), problem="", me=None)


@router.post("/login")
async def login(
    request: Request,
    server: TheServer,
    token: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=2000)] = "/runs",  # noqa: A002
) -> Response:
    """Open a session for whoever has a token; its secret goes into a cookie that no script can read."""
    refuse_other_sites(request)
    await identify(request)  # takes part in the limit of requests, so that nobody tries tokens at leisure
    now = datetime.now(UTC)
    identity = await asyncio.to_thread(server.access.identify, token.strip(), now=now)
    if identity is None or not identity.may(Scope.READ):
        problem = "cannot accept the token: it is unknown, has expired, or was revoked"
        return rendered("login.html", status=HTTPStatus.FORBIDDEN, next=_here(next), problem=problem, me=None)
    secret = await asyncio.to_thread(server.access.open_session, identity, now=now, lasts=SESSION)
    response = see(_here(next))
    secure = _secure(request, server)
    seconds = int(SESSION.total_seconds())
    response.set_cookie(COOKIE, secret, max_age=seconds, httponly=True, secure=secure, samesite="strict")
    return response


@router.post("/logout")
def logout(request: Request, server: TheServer) -> Response:
    """End the session."""
    refuse_other_sites(request)
    if secret := request.cookies.get(COOKIE):
        server.access.close_session(secret)
    response = see("/login")
    secure = _secure(request, server)
    response.delete_cookie(COOKIE, httponly=True, secure=secure, samesite="strict")
    return response


def _here(path: str) -> str:
    return path if _HERE.fullmatch(path) else "/runs"


def _secure(request: Request, server: Server) -> bool:
    return request.url.scheme == "https" or server.config.public_url.startswith("https://")
