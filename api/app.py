"""The application: routes, who may use them, and how errors are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import Message

from api import (
    cells,
    compat,
    deliveries,
    explain,
    health,
    history,
    hooks,
    hosts,
    images,
    live,
    logs,
    metrics,
    planning,
    reports,
    reservations,
    runs,
    sources,
    tokens,
)
from api.apart import make_room
from api.head import Head
from api.limits import BodyLimit, OpenLimit, RateLimiter
from api.openapi import DESCRIPTION, TAGS, describe
from api.problems import add_problem_handlers
from api.traffic import Traffic, Watch
from dashboards.pages import add_pages
from farm import metering, tidying
from farm.garbage import spare_what_is_there
from farm.serve import Server

PREFIX = "/api/v1"
ROUTERS = (
    planning.router,
    sources.router,
    runs.router,
    live.router,
    logs.router,
    explain.router,
    cells.router,  # after what is below a cell: its id may have slashes
    reports.router,
    history.router,
    compat.router,
    reservations.router,
    hosts.router,
    images.router,
    hooks.router,
    deliveries.router,
    tokens.router,
)


def create_app(server: Server) -> FastAPI:
    """The application on a server that runs, or is about to."""
    app = FastAPI(
        title="Validation farm",
        version=version("validation-farm"),
        summary="Builds and tests programs in a fresh machine for every cell of a matrix.",
        description=DESCRIPTION,
        openapi_tags=[{"name": name, "description": about} for name, about in TAGS.items()],
        generate_unique_id_function=lambda route: route.name,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a path means one thing, or nothing
        lifespan=_lifespan,
    )
    app.state.server = server
    app.state.limiter = RateLimiter(server.config.rate, server.config.burst)
    app.state.apart = make_room()
    app.state.fetching = make_room()
    app.state.frames = live.Frames()
    app.state.traffic = Traffic()
    app.add_middleware(OpenLimit, limiter=app.state.limiter, is_open=_is_open)
    app.add_middleware(BodyLimit, uploads=lambda method, path: _upload_limit(server, method, path))
    app.add_middleware(Head)
    app.add_middleware(Watch, traffic=app.state.traffic)
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.state.routes = _routes()
    app.state.templates = {id(route): path for path, route in app.state.routes}
    describe(app)
    add_pages(app)
    return app


def _routes() -> tuple[tuple[str, APIRoute], ...]:
    """Every route of the API with its whole path."""
    routers = [*((PREFIX, router) for router in ROUTERS), ("", health.router), ("", metrics.router)]
    return tuple(
        (f"{prefix}{route.path}", route)
        for prefix, router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    server: Server = app.state.server
    tasks = [asyncio.create_task(server.feed.run()), asyncio.create_task(server.sender.run())]
    tasks.append(asyncio.create_task(metering.keep(server.meter, server.store, server.feed)))
    tidy = tidying.keep_tidy(server.store, server.intake.sources, server.config.keep, server.feed)
    tasks.append(asyncio.create_task(tidy))
    await _find_routes(app)
    spare_what_is_there()
    yield
    for aside in (server.compat, server.reports):
        await asyncio.to_thread(aside.close)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _find_routes(app: FastAPI) -> None:
    """Look for a route that there is not: FastAPI makes each ready when it is first passed, half a second for all.

    Whoever would have asked first, and all who ask meanwhile, need not wait for that.
    """
    nowhere = {
        "type": "http",
        "method": "GET",
        "path": f"{PREFIX}/",
        "root_path": "",
        "headers": [],
        "query_string": b"",
    }

    async def nothing_comes() -> Message:
        return {"type": "http.disconnect"}

    async def nobody_hears(_message: Message) -> None:
        pass

    await app.router(nowhere, nothing_comes, nobody_hears)


def _is_open(method: str, path: str) -> bool:
    """Whether nobody is asked for a token, nor held up by the route itself. `/healthz` does no work that could be."""
    if path.startswith("/static/") or path in {"/readyz", "/logout", f"{PREFIX}/openapi.json"}:
        return True
    return path == "/login" and method in {"GET", "HEAD"}


def _upload_limit(server: Server, method: str, path: str) -> int | None:
    if (method, path) == ("POST", f"{PREFIX}/sources"):
        return server.config.upload_mib * 1024 * 1024
    if path.startswith(f"{PREFIX}/hooks/"):
        return hooks.BODY_BYTES
    return None
