"""Somebody who looks at a page: who that is, what may be shown, and how it is rendered."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from api.auth import identify, require, server_of
from dashboards import words
from farm.model import Identity, Scope
from farm.serve import Server

STATIC = Path(__file__).with_name("static")


@dataclass(frozen=True)
class Visit:
    """A request for a page, by somebody who may see it."""

    request: Request
    server: Server
    identity: Identity
    now: datetime

    def page(self, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
        """A template, rendered."""
        return rendered(template, status=status, me=self.identity, now=self.now, visit=self, **values)

    def may(self, scope: str) -> bool:
        """Whether the visitor may do what takes a scope: for buttons."""
        return self.identity.may(Scope(scope))

    def may_change(self, owner: str) -> bool:
        """Whether the visitor may end what belongs to somebody: for buttons, as the API has it."""
        return self.may(Scope.OPERATE) or (self.may(Scope.SUBMIT) and self.identity.name == owner)

    def query(self, **changes: Any) -> str:
        """The query of this page with some parameters changed; None takes one away."""
        kept = [(name, value) for name, value in self.request.query_params.multi_items() if name not in changes]
        more = [(name, value) for name, value in changes.items() if value is not None]
        return "?" + urlencode([*kept, *more], doseq=True)


def visit(scope: Scope) -> Callable[..., Awaitable[Visit]]:
    """A dependency that lets only those pass who may do what asks for a scope."""
    check = require(scope)

    async def make(request: Request, identity: Annotated[Identity, Depends(identify)]) -> Visit:
        return Visit(request, server_of(request), await check(identity), datetime.now(UTC))

    return make


Reading = Annotated[Visit, Depends(visit(Scope.READ))]
Submitting = Annotated[Visit, Depends(visit(Scope.SUBMIT))]
Operating = Annotated[Visit, Depends(visit(Scope.OPERATE))]
Administering = Annotated[Visit, Depends(visit(Scope.ADMIN))]


def rendered(template: str, *, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
    """A template as a response."""
    return HTMLResponse(_environment().get_template(template).render(status=int(status), **values), status)


def see(path: str) -> RedirectResponse:
    """After a change: go on to a page, by GET."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def run_path(run: str) -> str:
    """The address of a run's page."""
    return f"/runs/{quote(run, safe='')}"


def cell_path(run: str, cell: str) -> str:
    """The address of a cell's page; its slashes stay."""
    return f"{run_path(run)}/cells/{quote(cell)}"


def why_path(run: str, cell: str) -> str:
    """The address of the page that explains where a cell stands."""
    return f"{run_path(run)}/why/{quote(cell)}"


def test_path(project: str, name: str, suite: str) -> str:
    """The address of the page of a test's results."""
    return f"/history/{quote(project, safe='')}/test?{urlencode({'name': name, 'suite': suite})}"


@cache
def asset(name: str) -> str:
    """The address of a static file, which changes with its content, so that a browser may keep it for ever."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dashboards", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words.FILTERS
    addresses = {
        "asset": asset,
        "run_path": run_path,
        "cell_path": cell_path,
        "why_path": why_path,
        "test_path": test_path,
    }
    environment.globals |= addresses | {"SIGNS": words.SIGNS}
    return environment
