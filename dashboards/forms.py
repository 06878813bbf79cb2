"""What forms have in common that are filled in by hand: what is refused comes back with what was typed."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

from pydantic import ValidationError

from api.problems import STATUS
from farm.errors import FarmError, ForbiddenError


class Refusal(NamedTuple):
    """Why a change was not made."""

    status: int
    why: str


def refused(change: Callable[[], object]) -> Refusal | None:
    """Make a change; what is wrong with what was typed. Raises ForbiddenError: typing something else does not help."""
    try:
        change()
    except ForbiddenError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"cannot take {place or 'this'}: {first['msg']}")
    except FarmError as error:
        return Refusal(next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), told(error))
    return None


def told(error: FarmError) -> str:
    """An error and what to do about it, in one line."""
    return f"{error.message}{'; ' if error.hint else ''}{error.hint}"
