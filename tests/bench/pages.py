"""Opening the page of a large run in a browser."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, sync_playwright

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
from tests.service.browsing import CHROMIUM, SWITCHES
from tests.service.seeding import seeded

_AIM_S = 1.0
_TESTS = 200
_TEN = tuple(f"v{number}" for number in range(10))
_PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def figures() -> Iterator[Figure]:
    """With a server and a window that have not seen the run yet, and with those that have."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="fb-") as name, sync_playwright() as playwright:
        folder = Path(name)
        store = Store.open(f"sqlite:///{folder}/farm.db", folder)
        axes = {"image": _TEN, "arch": _TEN, "hypervisor": ("qemu",), "tls": _TEN}
        path = f"/runs/{seeded(store, axes, tests=_TESTS, failing={'arch': 'v7'})}"
        what = f"the page of a run of 1000 cells × {_TESTS} tests in Chromium"
        token = Access(store.engine).create_token("bench", Scope.READ, by="bench", now=datetime.now(UTC))[1]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))

        def first() -> float:
            with _served(_app(store, folder)) as url, _window(browser, url, token) as page:
                return _opened(page, path)

        yield against(f"{what}, the first time", _AIM_S, "s", first)
        with _served(_app(store, folder)) as url, _window(browser, url, token) as page:
            yield against(f"{what}, again", _AIM_S, "s", lambda: _opened(page, path))
        browser.close()
        store.close()


def _opened(page: Page, path: str) -> float:
    """Until it is whole, with its styles and scripts, and painted."""

    def look() -> None:
        answer = page.goto(path, wait_until="load")
        assert answer, path
        assert answer.ok, f"{path}: {answer.status}"
        page.evaluate(_PAINTED)

    return seconds(look)


@contextmanager
def _served(app: FastAPI) -> Iterator[str]:
    """The address of a server."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _window(browser: Browser, url: str, token: str) -> Iterator[Page]:
    """A window that has seen nothing yet, of somebody with a token."""
    context = browser.new_context(base_url=url, extra_http_headers={"Authorization": f"Bearer {token}"})
    yield context.new_page()
    context.close()


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
