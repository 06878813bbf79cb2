"""Logs that are read while they grow: until the attempt ends, or the right to read does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request

from api import files
from api.app import create_app
from farm.model import AttemptKey, LogChunk, Phase, Scope, Stream
from farm.store import Store
from tests.unit.rehearsal import Rehearsal, now
from tests.unit.test_serve import server as make_server
from tests.unit.test_store import submission

CELL = "debian-13/amd64"


async def _connected() -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("revoked", [False, True])
def test_who_may_not_read_any_more_gets_nothing_more_of_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, revoked: bool
) -> None:
    monkeypatch.setattr(files, "CHECK_S", 0.0)
    store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    farm = make_server(store, Rehearsal(), tmp_path)
    token, secret = farm.access.create_token("reader", Scope.READ, by="x", now=now())
    key = AttemptKey(run=store.create_run(submission(CELL), now=now()).id, cell=CELL, number=1)
    store.start_attempt(key, now=now())

    def say(data: bytes) -> None:
        store.record(key, [LogChunk(at=now(), phase=Phase.TEST, stream=Stream.STDOUT, data=data)])

    async def heard() -> list[bytes]:
        headers = [(b"authorization", f"Bearer {secret}".encode())]
        scope = {"type": "http", "method": "GET", "headers": headers, "app": create_app(farm)}
        log = files._growing(Request(scope, _connected), farm, key, "test")
        found = [await anext(log)]
        if revoked:
            farm.access.revoke_token(token.id, by="x", now=now())
        say(b"two")
        return [*found, await anext(log, b"")]

    say(b"one")
    assert asyncio.run(heard()) == [b"one", b"" if revoked else b"two"]
    store.close()
