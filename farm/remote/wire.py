"""Requests to a server, tried again where that does no harm; what httpx raises is mapped here and nowhere else."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from farm.errors import BusyError, ConfigError, FarmError, ServerError
from farm.remote.problems import error_of
from farm.sources.urls import shown

PREFIX = "/api/v1"
CONNECT_S = 10.0
ANSWER_S = 60.0
"""For every piece of an answer; what may take longer says so."""
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)
_LONGEST_PAUSE_S = 60.0
"""A server that asks for more than this gets no second request."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_PASSING = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}

_T = TypeVar("_T")
Content = Callable[[], Iterable[bytes]]
"""Makes a body anew for every try."""


def path_of(*parts: str) -> str:
    """A path of parts, whatever stands in them."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    method: str
    path: str
    """Below `/api/v1`."""
    params: Mapping[str, Any] | None = None
    json: Any = None
    content: Content | None = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = True
    """Twice is the same as once: it may be tried again although the server may have got it."""
    answer_s: float | None = ANSWER_S


class Wire:
    """A connection to a server."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`pause` waits for some seconds. Raises ConfigError for what is no URL of a server."""
        self.url = shown(url.rstrip("/"))
        self._pause = pause
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            host = httpx.URL(url).host
            if not url.startswith(("http://", "https://")) or not host or "%" in host:
                raise ConfigError(
                    f"cannot use the server {self.url!r}: it is no http or https URL", hint="see docs/ci.md"
                )
            self._http = httpx.Client(base_url=url.rstrip("/") + PREFIX, headers=headers, transport=transport)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ConfigError(f"cannot use the server {self.url!r} and its token: {error}") from error

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def ask(self, request: Request) -> bytes:
        """The answer as it was sent. Raises ServerError, and what the server raised."""
        return self._persistent(lambda: self._whole(request))

    @contextmanager
    def open(self, request: Request) -> Iterator[httpx.Response]:
        """An answer that is read piece by piece. Raises the same, also for what goes wrong while it is read."""
        answer = self._persistent(lambda: self._once(request))
        try:
            yield answer
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        finally:
            answer.close()

    def _persistent(self, once: Callable[[], _T]) -> _T:
        """What some tries come to, the last of which has to do."""
        for pause_s in _PAUSES_S:
            try:
                return once()
            except _AgainError as again:
                wait_s = again.after_s if again.after_s is not None else _spread(pause_s)
                if wait_s > _LONGEST_PAUSE_S:
                    raise again.error from again
                self._pause(wait_s)
        try:
            return once()
        except _AgainError as again:
            raise again.error from again

    def _whole(self, request: Request) -> bytes:
        answer = self._once(request)
        try:
            return answer.read()
        except httpx.TransportError as error:
            raise self._lost(request, error) from error
        finally:
            answer.close()

    def _once(self, request: Request) -> httpx.Response:
        """One try. Raises _AgainError where another may help and does no harm, else FarmError."""
        sent = self._http.build_request(
            request.method,
            request.path,
            params=request.params,
            json=request.json,
            content=request.content() if request.content else None,
            headers=request.headers,
            timeout=httpx.Timeout(request.answer_s, connect=CONNECT_S),
        )
        try:
            answer = self._http.send(sent, stream=True)
            if answer.is_success:
                return answer
            body = answer.read()
            answer.close()
        except httpx.TransportError as error:
            raise self._lost(request, error) from error
        found = error_of(answer.status_code, body, self.url)
        if _passing(answer.status_code, found, repeatable=request.repeatable):
            raise _AgainError(found, _retry_after(answer))
        raise found

    def _lost(self, request: Request, error: httpx.TransportError) -> Exception:
        """What becomes of a request whose answer did not come: as _once."""
        found = self._unreachable(error)
        return _AgainError(found) if request.repeatable or isinstance(error, _NOT_SENT) else found

    def _unreachable(self, error: Exception) -> ServerError:
        cause = str(error) or type(error).__name__
        return ServerError(
            f"cannot reach the farm at {self.url}: {cause}",
            hint="is `farm serve` running there? --server or FARM_SERVER names it",
        )


class _AgainError(Exception):
    """It may be tried again; `error` is what to raise when that does not help."""

    def __init__(self, error: FarmError, after_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.after_s = after_s


def _passing(status: int, error: FarmError, *, repeatable: bool) -> bool:
    """Whether the same request may get another answer. One that came too soon (429) was not even looked at."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    return repeatable and (status in _PASSING or isinstance(error, BusyError))


def _retry_after(answer: httpx.Response) -> float | None:
    """RFC 9110, section 10.2.3, in seconds; a date is not what a farm sends."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _spread(pause_s: float) -> float:
    """A little more or less: many who were refused at once must not all come back at once."""
    return pause_s * random.uniform(0.75, 1.25)  # noqa: S311 - nothing to be guessed
