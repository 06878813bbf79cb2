"""What a server answers instead of what was asked for: back to the farm's own errors. Pure.

The API gives each of them a stable type (RFC 9457), so that a message, its hint and the exit status are the
same here as on the machine that raised it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from farm import errors
from farm.errors import (
    ConfigError,
    ConflictError,
    FarmError,
    ForbiddenError,
    MatrixError,
    NotFoundError,
    Problem,
    ServerError,
)
from farm.text import clean

_LONGEST = 8_000
_TYPE = re.compile(r"(?:.*/)?problems/([a-z-]+)")
_WHERE = re.compile(r"line (\d+), column (\d+)")
_TOKEN = "set FARM_TOKEN, or name a file with --token-file; `farm token create` on the server makes a token"  # noqa: S105


def _kind(cls: type[FarmError]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()


KINDS: Mapping[str, type[FarmError]] = MappingProxyType(
    {
        **{
            _kind(cls): cls
            for cls in vars(errors).values()
            if isinstance(cls, type) and issubclass(cls, FarmError) and cls is not FarmError
        },
        "unauthorized": ForbiddenError,
        "request": ConfigError,
        "too-large": ConfigError,
    }
)
"""The last part of a problem's type -> the error."""

STATUSES: Mapping[int, type[FarmError]] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: ForbiddenError,
        HTTPStatus.FORBIDDEN: ForbiddenError,
        HTTPStatus.NOT_FOUND: NotFoundError,
        HTTPStatus.CONFLICT: ConflictError,
    }
)
"""The same for a type that is not known: a newer server may have more of them."""


def error_of(status: int, body: bytes, url: str) -> FarmError:
    """The error that an answer tells of; of a server that speaks no problem details, or is none, a ServerError."""
    problem = _problem(body)
    if problem is None:
        return ServerError(
            f"cannot understand the answer of {url}: {_phrase(status)}, and no problem of a farm",
            hint="is that the address of `farm serve`?",
        )
    cls = KINDS.get(kind_of(problem)) or STATUSES.get(status, ServerError)
    message = clean(str(problem["detail"]), limit=_LONGEST)
    hint = clean(str(problem.get("hint") or ""), limit=_LONGEST) or (
        _TOKEN if status == HTTPStatus.UNAUTHORIZED else ""
    )
    if cls is MatrixError:
        return _matrix_error(message, hint, problem.get("mistakes"))
    return cls(message, hint=hint)


def kind_of(problem: Mapping[str, Any]) -> str:
    """`rate` for `/problems/rate`; empty for a type that is none of the farm's."""
    found = _TYPE.fullmatch(str(problem.get("type", "")))
    return found[1] if found else ""


def _problem(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("detail"), str) and "type" in found else None


def _matrix_error(message: str, hint: str, mistakes: Any) -> MatrixError:
    """With the mistakes as they were told, and the message as the server wrote it."""
    found = []
    for mistake in mistakes if isinstance(mistakes, list) else []:
        place = _WHERE.fullmatch(str(mistake.get("where", ""))) if isinstance(mistake, dict) else None
        if place:
            what = clean(str(mistake.get("what", "")), limit=_LONGEST)
            found.append(Problem("matrix", int(place[1]), int(place[2]), what))
    error = MatrixError(tuple(found), hint=hint)
    error.message = message
    return error


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
