"""What is slow only once is done before the first request, not in it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from farm.serve import Server
from tests.unit.test_api_head import farm

__all__ = ["farm"]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


async def answered_s(app: FastAPI) -> float:
    """Of a path that only the last routes could have."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://farm") as client:
        began = time.thread_time()
        assert (await client.get("/api/v1/nowhere")).status_code == 404
        return time.thread_time() - began


async def started(app: FastAPI) -> tuple[float, float]:
    """CPU seconds of the first answer, and of one later."""
    async with app.router.lifespan_context(app):
        return await answered_s(app), min([await answered_s(app) for _ in range(5)])


def test_no_route_is_made_ready_while_somebody_waits(farm: Server) -> None:
    app = create_app(farm)
    cold_s = asyncio.run(answered_s(create_app(farm)))
    first_s, later_s = asyncio.run(started(app))
    assert first_s < (cold_s + later_s) / 2


def test_what_a_server_begins_with_is_not_searched_for_garbage_again(farm: Server) -> None:
    gc.unfreeze()
    asyncio.run(started(create_app(farm)))
    assert gc.get_freeze_count() > 100_000
    assert gc.get_threshold()[2] >= 50
