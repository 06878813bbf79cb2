"""HEAD is answered as GET is, without a body; also where the body would never end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.head import Head
from farm.model import Scope
from farm.serve import Server
from farm.store import Store
from tests.service.seeding import seeded
from tests.unit.rehearsal import Rehearsal, now
from tests.unit.test_serve import server as make_server

AXES = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["qemu"]}
CELL = "debian-13/amd64/qemu"
_SAME = ("content-type", "content-length", "etag", "cache-control", "content-security-policy", "location")


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Server]:
    store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    yield make_server(store, Rehearsal(), tmp_path)
    store.close()


async def asked(farm: Server, path: str, *methods: str) -> list[httpx.Response]:
    _, secret = farm.access.create_token("reader", Scope.READ, by="x", now=now())
    transport = httpx.ASGITransport(create_app(farm))
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://farm", headers=headers) as client:
        return [await client.request(method, path) for method in methods]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/api/v1/runs", 200),
        ("/api/v1/runs/RUN", 200),
        ("/api/v1/runs/RUN/report/json", 200),
        (f"/api/v1/runs/RUN/cells/{CELL}/attempts/1/logs/test", 200),
        ("/api/v1/runs/nope-1", 404),
        ("/api/v1/openapi.json", 200),
        ("/runs/RUN", 200),
        ("/runs/latest", 303),
        ("/static/farm.css", 200),
    ],
)
def test_head_is_get_without_its_body(farm: Server, path: str, status: int) -> None:
    run = seeded(farm.store, AXES)
    got, head = asyncio.run(asked(farm, path.replace("RUN", run), "GET", "HEAD"))
    assert (got.status_code, head.status_code, head.content) == (status, status, b"")
    assert got.content or status == 303
    assert {name: head.headers.get(name) for name in _SAME} == {name: got.headers.get(name) for name in _SAME}


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/runs/RUN/events"])
def test_a_stream_has_a_head_and_no_listener_stays(farm: Server, path: str) -> None:
    run = seeded(farm.store, AXES, unfinished=1)
    (head,) = asyncio.run(asked(farm, path.replace("RUN", run), "HEAD"))
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert farm.feed.listeners == 0


def test_where_there_is_no_get_there_is_no_head(farm: Server) -> None:
    (head,) = asyncio.run(asked(farm, "/api/v1/hooks/x", "HEAD"))
    assert (head.status_code, head.headers["allow"]) == (405, "POST")
    (put,) = asyncio.run(asked(farm, "/api/v1/runs", "PUT"))
    assert put.headers["allow"] == "GET, HEAD, POST"


def test_a_request_is_counted_by_its_own_method_and_route() -> None:
    scope: dict[str, Any] = {"type": "http", "method": "HEAD", "path": "/x", "headers": []}
    sent: list[Any] = []

    async def waits(inner: Any, _receive: Any, send: Any) -> None:
        assert inner["method"] == "GET"
        inner["route"] = "/{x}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def keep(message: Any) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    asyncio.run(Head(waits)(scope, receive, keep))
    assert (scope["method"], scope["route"], len(sent)) == ("HEAD", "/{x}", 2)
