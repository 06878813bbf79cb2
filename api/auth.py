"""Who asks, and what that one may do: a bearer token, or the session of a browser that has shown one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from api.limits import RateLimiter, too_many
from api.problems import ProblemError
from farm.model import ANYONE, Identity, Scope
from farm.serve import Server

COOKIE = "farm_session"
SESSION = timedelta(hours=12)
CHECK_S = 30.0
"""How soon who gets an answer that goes on is asked again for the right to."""

_bearer = HTTPBearer(auto_error=False, description="A token: `farm token create`.")
_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def server_of(request: Request) -> Server:
    """The farm behind the application."""
    server: Server = request.app.state.server
    return server


async def _server(request: Request) -> Server:
    return server_of(request)  # asynchronous, so that no thread has to be found for it


TheServer = Annotated[Server, Depends(_server)]


async def identify(request: Request, _token: Annotated[object, Security(_bearer)] = None) -> Identity:
    """Who asks, as far as that one has not asked too often. Raises ProblemError."""
    try:
        identity = await who(request)
    except ProblemError:
        take_turn(request, "")  # who tries tokens out is held up, too
        raise
    take_turn(request, identity.token)
    return identity


def take_turn(request: Request, token: str) -> None:
    """One request more of a token, or of an address where there is no token. Raises ProblemError."""
    limiter: RateLimiter = request.app.state.limiter
    if wait_s := limiter.take(token or (request.client.host if request.client else "")):
        raise too_many(wait_s)


async def who(request: Request) -> Identity:
    """Who asks; somebody without a token is who the settings make of them. Raises ProblemError."""
    server = server_of(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        found = None
        if scheme.lower() == "bearer" and token.strip():
            found = server.access.recent(token.strip(), now=_now()) or await asyncio.to_thread(
                server.access.identify, token.strip(), now=_now()
            )
        if found is None:
            raise unauthorized("cannot accept the token: it is unknown, has expired, or was revoked")
        return found
    if request.method in _CHANGES:
        refuse_other_sites(request)  # also without a cookie: somebody without a token may be allowed to do much
    cookie = request.cookies.get(COOKIE)
    if cookie and (found := await asyncio.to_thread(server.access.session, cookie, now=_now())):
        return found
    anonymous = server.config.anonymous
    return Identity(name="anonymous", scope=anonymous) if anonymous else ANYONE


async def may_still(request: Request) -> bool:
    """Whether who asked may read now, too: a token may have been revoked while an answer went on."""
    try:
        return (await who(request)).may(Scope.READ)
    except ProblemError:
        return False


def refuse_other_sites(request: Request) -> None:
    """A browser asks, and sends its cookie along, whoever made it do so. Raises ProblemError."""
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    own = {f"{scheme}://{request.headers.get('Host', '')}" for scheme in ("http", "https")}
    if public_url := server_of(request).config.public_url:
        own.add(_origin(public_url))  # where a proxy passes on another `Host`
    if (origin is not None and origin not in own) or site not in {"same-origin", "none"}:
        raise ProblemError(HTTPStatus.FORBIDDEN, "forbidden", "cannot accept the request: it comes from another site")


def _origin(url: str) -> str:
    """As a browser writes it: without the port that the scheme has anyhow."""
    scheme, netloc = urlsplit(url.strip().lower())[:2]
    return f"{scheme}://{netloc.removesuffix({'http': ':80', 'https': ':443'}.get(scheme, ':'))}"


def unauthorized(detail: str) -> ProblemError:
    """The problem of who has to show a token first."""
    return ProblemError(
        HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="farm"'}
    )


def require(scope: Scope) -> Callable[..., Awaitable[Identity]]:
    """A dependency that lets only those pass who may do what asks for a scope."""

    async def check(identity: Annotated[Identity, Depends(identify)]) -> Identity:
        if identity.may(scope):
            return identity
        if identity.scope is None:
            raise unauthorized("cannot answer: the request has no token")
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "forbidden",
            f"cannot do that with the scope {identity.scope}: it takes {scope}",
        )

    check.__dict__["scope"] = scope  # for the OpenAPI document
    return check


Reader = Annotated[Identity, Depends(require(Scope.READ))]
Submitter = Annotated[Identity, Depends(require(Scope.SUBMIT))]
Operator = Annotated[Identity, Depends(require(Scope.OPERATE))]
Admin = Annotated[Identity, Depends(require(Scope.ADMIN))]


def _now() -> datetime:
    return datetime.now(UTC)
