"""When something that was not taken is tried again, and when not. Pure, but for the dice."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from farm.triggers.settings import Delivery

_GONE = 410
_LONGEST_WISH_S = 24 * 3600.0
_COME_AGAIN = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Refusals of a forge that may pass: tokens are renewed, rates are limited (GitHub says 403), repositories appear."""


def is_final(kind: str, status_code: int) -> bool:
    """Whether an answer means that there is no use in trying again.

    A webhook's receiver says so with 410 alone, as Standard Webhooks has it: anything else may be a proxy's word.
    """
    if kind == "notify":
        return status_code == _GONE
    return 400 <= status_code < 500 and status_code not in _COME_AGAIN  # noqa: PLR2004


def next_try(
    tries: int,
    settings: Delivery,
    *,
    now: datetime,
    wish_s: float = 0.0,
    dice: Callable[[], float] = random.random,
) -> datetime | None:
    """When it is tried after so many tries; None: not any more. `wish_s` is what the other side has asked for.

    Each wait is twice the one before; up to a quarter is left off by chance, so that many who failed together do
    not come back together.
    """
    if tries >= settings.tries:
        return None
    wait_s = min(settings.longest_s, settings.first_s * 2.0 ** min(tries - 1, 60))
    return now + timedelta(seconds=max(wait_s * (1 - dice() / 4), min(wish_s, _LONGEST_WISH_S)))


def wish_of(headers: Mapping[str, str]) -> float:
    """Seconds that `Retry-After` asks for; 0 where it does not, or names a date."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0  # noqa: PLR2004
