"""A webhook whose body does not come is waited for no longer than for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api import hooks
from api.app import PREFIX, create_app
from farm.serve import Server
from tests.unit.test_api_head import farm

__all__ = ["farm"]


def test_a_webhook_whose_body_breaks_off_is_not_waited_for(farm: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_BODY_S", 0.05)
    parts: list[dict[str, Any]] = [{"type": "http.request", "body": b'{"ref": ', "more_body": True}]
    told: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await asyncio.sleep(600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{PREFIX}/hooks/x",
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("192.0.2.1", 1),
    }
    asyncio.run(asyncio.wait_for(create_app(farm)(scope, receive, send), 30))
    assert told[0]["status"] == 408
    assert b"/problems/timeout" in told[1]["body"]
