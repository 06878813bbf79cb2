"""One server for the tests of a session that do not end it, and one of its own for each that does."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.service.browsing import CHROMIUM, SWITCHES, Visitor
from tests.service.caching import make_cache
from tests.service.serving import Serving


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Serving]:
    """A server that ends with this."""
    runtime = Path(tempfile.mkdtemp(prefix="fs-", dir="/tmp"))
    server = Serving(folder, runtime, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(runtime, ignore_errors=True)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that all may use and nobody ends, with images to show; its rate limit is out of the way."""
    folder = tmp_path_factory.mktemp("server")
    make_cache(folder / "cache")
    environment = {"FARM_CACHE": str(folder / "cache")}
    with serving(folder, settings="rate = 100000\nburst = 100000\n", environment=environment) as started:
        yield started


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts a server for one test, with settings of its own."""
    started: list[Any] = []

    def start(**settings: Any) -> Serving:
        context = serving(tmp_path, **settings)
        started.append(context)
        return context.__enter__()

    yield start
    for context in started:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A browser for all tests of a session; each looks through a window of its own."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()


@pytest.fixture
def window(server: Serving, chromium: Browser) -> Iterator[Callable[..., Visitor]]:
    """Opens windows of the browser on the shared server; none of them may have had anything to complain of."""
    opened: list[Visitor] = []

    def start(scope: str = "admin", **settings: Any) -> Visitor:
        visitor = Visitor(chromium.new_context(base_url=server.url, **settings), server)
        opened.append(visitor)
        if scope:
            visitor.log_in(scope)
        return visitor

    yield start
    for visitor in opened:
        visitor.context.close()
    assert [trouble for visitor in opened for trouble in visitor.troubles] == []
