"""Work that takes long is done apart from the rest: it waits for its own kind only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

_AT_ONCE = 6
"""Of each kind. A source that is fetched or an image that is looked up may keep one for minutes, a report seconds."""

T = TypeVar("T")


def make_room() -> CapacityLimiter:
    """What the application keeps as `state.apart` and, for another kind, as `state.fetching`."""
    return CapacityLimiter(_AT_ONCE)


async def apart(request: Request, work: Callable[[], T]) -> T:
    """Do what may take long in a thread, without one of those that short answers need."""
    room: CapacityLimiter = request.app.state.apart
    return await to_thread.run_sync(work, limiter=room)


async def fetching(request: Request, work: Callable[[], T]) -> T:
    """Do what waits for other servers: however slow they are, only their own kind waits for it."""
    room: CapacityLimiter = request.app.state.fetching
    return await to_thread.run_sync(work, limiter=room)
