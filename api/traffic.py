"""Every request: its id, a line in the log, and how many there are and how long they take."""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from contextvars import ContextVar

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farm.metrics import BY_NAME, Histogram

HEADER = "X-Request-Id"
_GOOD = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOISE = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines; told in the log at the level `debug`."""
_id: ContextVar[str] = ContextVar("request_id", default="")

log = structlog.get_logger("farm.access")


def request_id() -> str:
    """Of the request that is being answered here; empty: there is none."""
    return _id.get()


class Traffic:
    """Counts requests. Written in the loop of the API, read by any thread."""

    def __init__(self) -> None:
        self.open = 0
        """Requests that are being answered."""
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """By method, template of the route, and status."""
        self.durations: dict[tuple[str, str], Histogram] = {}
        """Seconds until the answer began, by method and template of the route."""

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """An answer has begun."""
        self.requests[method, route, str(status)] += 1
        buckets = BY_NAME["farm_http_request_seconds"].buckets
        self.durations.setdefault((method, route), Histogram(buckets)).observe(seconds)


class Watch:
    """The outermost of the application: sees every request that comes, and every answer that goes."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Each request is a task of its own, so nothing has to be put back: also who handles defects finds it.
        given = dict(scope["headers"]).get(HEADER.lower().encode(), b"")
        _id.set(given.decode() if _GOOD.fullmatch(given) else secrets.token_hex(8))
        structlog.contextvars.bind_contextvars(request=_id.get())
        began, status = time.monotonic(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id()
                self._traffic.answered(*_labels(scope), status, time.monotonic() - began)
            await send(message)

        self._traffic.open += 1
        try:
            await self._app(scope, receive, answer)
        finally:
            self._traffic.open -= 1
            taken_s = time.monotonic() - began
            if not status:  # a defect, which is answered further out, or a client that went away
                status = 500
                self._traffic.answered(*_labels(scope), status, taken_s)
            _tell(scope, status, taken_s)


def _labels(scope: Scope) -> tuple[str, str]:
    return scope["method"] if scope["method"] in _METHODS else "other", template(scope)


def _tell(scope: Scope, status: int, taken_s: float) -> None:
    tell = log.debug if scope["path"] in _NOISE else log.info
    client = (scope.get("client") or ("",))[0]
    method = scope["method"][:16]
    tell("request", method=method, path=scope["path"], status=status, seconds=round(taken_s, 4), client=client)


def template(scope: Scope) -> str:
    """The template of the route that a request took; never its path, of which there are as many as anybody likes."""
    route = scope.get("route")
    whole = getattr(scope["app"].state, "templates", {}) if "app" in scope else {}
    return whole.get(id(route)) or str(getattr(route, "path", "")) or "none"
