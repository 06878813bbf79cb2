"""The pages, as the application takes them in: routes, static files, headers, and errors that a person can read."""

from __future__ import annotations

from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope as AsgiScope

from dashboards import (
    access,
    agreed,
    cell,
    compat,
    explain,
    fleet,
    history,
    logs,
    reservations,
    run,
    runs,
    session,
    triggers,
)
from dashboards.visit import STATIC

ROUTERS = (
    session.router,
    runs.router,
    compat.router,
    history.router,
    logs.router,
    explain.router,
    cell.router,
    run.router,
    agreed.router,
    fleet.router,
    reservations.router,
    triggers.router,
    access.router,
)
"""Whose paths are longer stand before those that would take them, too."""

_FOR_EVER = "public, max-age=31536000, immutable"


class _Static(StaticFiles):
    """Files whose address holds a digest of their content."""

    async def get_response(self, path: str, scope: AsgiScope) -> Response:
        """The file; without the digest in its address it is asked for anew each time."""
        response = await super().get_response(path, scope)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = _FOR_EVER if b"v=" in scope["query_string"] else "no-cache"
        return response


def add_pages(app: FastAPI) -> None:
    """Mount the pages on an application whose `state.server` is a farm.serve.Server."""
    app.mount("/static", _Static(directory=STATIC), name="static")
    for router in ROUTERS:
        app.include_router(router)
