"""What one client may take: requests in a second, and bytes in a request."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import ProblemError, answer

BODY_BYTES = 2 * 1024 * 1024
"""Of every request but an upload: the largest is a matrix of 1 MiB, as JSON."""
_CLIENTS = 10_000


class RateLimiter:
    """A token bucket for each client: so many requests a second on average, some more at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> int:
        """0 where the client may go on, else the seconds after which it may try again."""
        now = self._clock()
        room, at = self._buckets.pop(client, (float(self._burst), now))
        room = min(self._burst, room + (now - at) * self._rate)
        allowed = room >= 1
        self._buckets[client] = (room - 1 if allowed else room, now)
        while len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0 if allowed else math.ceil((1 - room) / self._rate)


class OpenLimit:
    """Limits by address what is answered without a token, and where nobody is identified who could be limited."""

    def __init__(self, app: ASGIApp, limiter: RateLimiter, is_open: Callable[[str, str], bool]) -> None:
        """`is_open(method, path)` says which requests these are."""
        self._app, self._limiter, self._is_open = app, limiter, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and self._is_open(scope["method"], scope["path"]):
            address = (scope.get("client") or ("",))[0]
            if wait_s := self._limiter.take(address):
                error = too_many(wait_s)
                await answer(error.problem, error.headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies that are too large, whether they say so or only turn out to be."""

    def __init__(self, app: ASGIApp, uploads: Callable[[str, str], int | None]) -> None:
        """`uploads(method, path)` gives the limit of a request that may be larger than others, in bytes."""
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._uploads(scope["method"], scope["path"]) or BODY_BYTES
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > limit:
            await answer(_too_large(limit).problem)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)


def too_many(wait_s: int) -> ProblemError:
    """The problem of who has asked too often."""
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "rate",
        f"cannot take the request: too many; try again in {wait_s} s",
        headers={"Retry-After": str(wait_s)},
    )


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", f"cannot take the request: it has more than {limit} bytes"
    )
