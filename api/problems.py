"""Errors as RFC 9457 problem details: one table from the farm's errors to statuses and stable types.

The `type` is a relative URI; docs/api.md explains each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from api.traffic import HEADER, request_id
from farm import errors
from farm.errors import FarmError, MatrixError
from farm.report.parts import Line, Text

MEDIA_TYPE = "application/problem+json"

STATUS: Mapping[type[FarmError], HTTPStatus] = MappingProxyType(
    {
        errors.MatrixError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.SourceError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.PlanError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.ConfigError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.UntrustedError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.NotFoundError: HTTPStatus.NOT_FOUND,
        errors.ForbiddenError: HTTPStatus.FORBIDDEN,
        errors.BusyError: HTTPStatus.CONFLICT,
        errors.ConflictError: HTTPStatus.CONFLICT,
        errors.FullError: HTTPStatus.INSUFFICIENT_STORAGE,
        errors.HostError: HTTPStatus.SERVICE_UNAVAILABLE,
        errors.FarmError: HTTPStatus.INTERNAL_SERVER_ERROR,
    }
)
"""The first class of an error's ancestry that stands here decides."""

KINDS: Mapping[str, tuple[HTTPStatus, str]] = MappingProxyType(
    {
        "request": (HTTPStatus.UNPROCESSABLE_ENTITY, "a parameter or the body is not as the OpenAPI document says"),
        "matrix": (HTTPStatus.UNPROCESSABLE_ENTITY, "the matrix is wrong; `mistakes` has each with its line"),
        "source": (HTTPStatus.UNPROCESSABLE_ENTITY, "the source cannot be had, or is not what was promised"),
        "plan": (HTTPStatus.UNPROCESSABLE_ENTITY, "nothing can be run: no cell is left, or a glob names none"),
        "config": (HTTPStatus.UNPROCESSABLE_ENTITY, "something that was asked for cannot be done as it is"),
        "untrusted": (HTTPStatus.UNPROCESSABLE_ENTITY, "a name or a file is not accepted"),
        "unauthorized": (HTTPStatus.UNAUTHORIZED, "there is no token, or it is unknown, expired or revoked"),
        "forbidden": (HTTPStatus.FORBIDDEN, "the token is good, but not for this"),
        "not-found": (HTTPStatus.NOT_FOUND, "there is no such thing, or no such path"),
        "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "the path is right, the method is not; see `Allow`"),
        "conflict": (HTTPStatus.CONFLICT, "it does not go together with what is there"),
        "busy": (HTTPStatus.CONFLICT, "the same is being done right now; ask again in a moment"),
        "signature": (HTTPStatus.UNAUTHORIZED, "the signature of a webhook is missing or wrong"),
        "media-type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body of a webhook is no JSON"),
        "timeout": (HTTPStatus.REQUEST_TIMEOUT, "the body of a webhook came too slowly"),
        "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is larger than the server takes"),
        "range": (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "the file has none of the bytes that were asked for"),
        "rate": (HTTPStatus.TOO_MANY_REQUESTS, "too many requests; `Retry-After` says when to go on"),
        "not-ready": (HTTPStatus.SERVICE_UNAVAILABLE, "the server carries out no runs"),
        "host": (HTTPStatus.SERVICE_UNAVAILABLE, "the machine of the server, or its store, does not do its part"),
        "full": (HTTPStatus.INSUFFICIENT_STORAGE, "the machine of the server has no disk left"),
        "bad-request": (HTTPStatus.BAD_REQUEST, "the body broke off, or cannot be read at all"),
        "farm": (HTTPStatus.INTERNAL_SERVER_ERROR, "an error that should have been told as another"),
        "defect": (HTTPStatus.INTERNAL_SERVER_ERROR, "a defect of the farm"),
    }
)
"""What stands at the end of a problem's `type`, with its status and what it means."""

log = structlog.get_logger(__name__)


class Mistake(BaseModel):
    """One of several things that are wrong."""

    where: Line
    """`line 3, column 5` of a matrix, or the path of a value in the request."""
    what: Line


class Problem(BaseModel):
    """What went wrong: RFC 9457."""

    type: str
    """Stays the same for the same kind of problem."""
    title: str
    status: int
    detail: Text
    hint: Text = ""
    """What to do next."""
    mistakes: tuple[Mistake, ...] = ()
    instance: Line = ""
    """Names this one: its end is the `X-Request-Id` of the answer, and stands in the server's log."""


class ProblemError(HTTPException):
    """A problem of the API's own, which the farm knows nothing of."""

    def __init__(self, status: HTTPStatus, kind: str, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.problem = Problem(type=_type(kind), title=status.phrase, status=status, detail=detail)


def add_problem_handlers(app: FastAPI) -> None:
    """Have every error answered as a problem."""
    app.add_exception_handler(FarmError, _of_farm)
    app.add_exception_handler(ProblemError, _own)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _defect)


def also(*statuses: HTTPStatus) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: problems that cannot be told from its parameters (those are described anyway)."""
    return {status.value: {"description": status.phrase} for status in statuses}


def kind_of(error: type[FarmError]) -> str:
    """What stands at the end of the `type` of an error: `not-found` for NotFoundError."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()


def answer(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a response."""
    told, named = problem.model_dump(mode="json"), dict(headers or {})
    if id_ := request_id():
        told["instance"], named[HEADER] = f"/requests/{id_}", id_
    return JSONResponse(told, problem.status, media_type=MEDIA_TYPE, headers=named)


def _type(kind: str) -> str:
    return f"/problems/{kind}"


def _of_farm(_request: Request, error: Any) -> Response:
    found = next(cls for cls in type(error).__mro__ if cls in STATUS)
    status = STATUS[found]
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("an error of the farm", error=repr(error))
    mistakes: tuple[Mistake, ...] = ()
    if isinstance(error, MatrixError):
        mistakes = tuple(
            Mistake(where=f"line {one.line}, column {one.column}", what=one.what) for one in error.problems
        )
    return answer(
        Problem(
            type=_type(kind_of(found)),
            title=status.phrase,
            status=status,
            detail=error.message,
            hint=error.hint,
            mistakes=mistakes,
        )
    )


def _own(_request: Request, error: Any) -> Response:
    return answer(error.problem, error.headers)


def _of_request(_request: Request, error: Any) -> Response:
    mistakes = tuple(Mistake(where=".".join(map(str, one["loc"])), what=one["msg"]) for one in error.errors()[:20])
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    detail = "cannot read the request: " + "; ".join(f"{one.where}: {one.what}" for one in mistakes[:3])
    return answer(Problem(type=_type("request"), title=status.phrase, status=status, detail=detail, mistakes=mistakes))


def _of_http(request: Request, error: Any) -> Response:
    status = HTTPStatus(error.status_code)
    kind = status.name.lower().replace("_", "-")
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_allowed(request))) or headers.get("Allow", "")
    detail = str(error.detail)
    if not detail.startswith("cannot "):  # the framework's own
        detail = f"cannot {request.method} {request.url.path}: {detail.lower()}"
    return answer(Problem(type=_type(kind), title=status.phrase, status=status, detail=detail), headers)


def _allowed(request: Request) -> set[str]:
    """The methods of all the routes that a path has: each has one of its own, and HEAD stands beside GET."""
    path = request.url.path
    found = {
        method
        for whole, route in request.app.state.routes
        if compile_path(whole)[0].match(path)
        for method in route.methods
    }
    return found | ({"HEAD"} if "GET" in found else set())


def _gone(_request: Request, _error: Exception) -> Response:
    """Nobody hears it: the client went away in the middle of its request."""
    status = HTTPStatus.BAD_REQUEST
    detail = "cannot read the request: its body broke off"
    return answer(Problem(type=_type("bad-request"), title=status.phrase, status=status, detail=detail))


def _defect(_request: Request, error: Exception) -> Response:
    log.error("a defect of the API", error=repr(error), exc_info=error)
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "cannot answer the request: this is a defect of the farm"
    return answer(Problem(type=_type("defect"), title=status.phrase, status=status, detail=detail))
