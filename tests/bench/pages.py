"""Opening the page of a large run."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import httpx
from fastapi import FastAPI

from api.app import create_app
from farm.cli.shelf import ShelfImages
from farm.config import Settings
from farm.model import Scope
from farm.serve import Server
from farm.serverconfig import ServerConfig
from farm.store import Store
from farm.store.access import Access
from tests.bench.figures import Figure, against, seconds
from tests.bench.played import Players
from tests.service.seeding import seeded

_AIM_S = 1.0
_TESTS = 200
_TEN = tuple(f"v{number}" for number in range(10))


def figures() -> Iterator[Figure]:
    """With a server that has not seen the run yet, and with one that has."""
    with tempfile.TemporaryDirectory(prefix="fb-") as name:
        folder = Path(name)
        store = Store.open(f"sqlite:///{folder}/farm.db", folder)
        axes = {"image": _TEN, "arch": _TEN, "hypervisor": ("qemu",), "tls": _TEN}
        path = f"/runs/{seeded(store, axes, tests=_TESTS, failing={'arch': 'v7'})}"
        what = f"the page of a run of 1000 cells × {_TESTS} tests"
        token = Access(store.engine).create_token("bench", Scope.READ, by="bench", now=datetime.now(UTC))[1]
        yield against(f"{what}, the first time", _AIM_S, "s", lambda: _opened(_app(store, folder), path, token))
        seen = _app(store, folder)
        yield against(f"{what}, again", _AIM_S, "s", lambda: _opened(seen, path, token))
        store.close()


def _opened(app: FastAPI, path: str, token: str) -> float:
    async def get() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://farm") as client:
            answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == HTTPStatus.OK, answer.text

    return seconds(lambda: asyncio.run(get()))


def _app(store: Store, folder: Path) -> FastAPI:
    players = Players()
    settings = Settings(cache=folder / "cache", state=folder, runtime=folder / "run")
    server = Server(
        settings=settings,
        config=ServerConfig(),
        store=store,
        executor=players,
        fleet=players,
        settle=lambda plan: plan,
        images=ShelfImages(settings),
        orphans=lambda: 0,
    )
    return create_app(server)
