"""What is answered to somebody without a token, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from api.app import PREFIX, create_app
from dashboards.pages import ROUTERS as PAGES
from farm.serve import Server
from tests.unit.test_api_head import farm

__all__ = ["farm"]

OPEN = {
    "GET /healthz",
    "GET /readyz",
    "GET /login",
    "POST /login",
    "POST /logout",
    f"POST {PREFIX}/hooks/{{trigger}}",
}


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of everything that there is, but for files and the description of the API."""
    pages = ((route.path, route) for router in PAGES for route in router.routes if isinstance(route, APIRoute))
    for path, route in (*app.state.routes, *pages):
        yield from ((method, path) for method in route.methods - {"HEAD"})


async def asked(app: FastAPI, requests: list[tuple[str, str]]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app, client=("192.0.2.1", 1), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://farm") as client:
        return [await client.request(*one) for one in requests]


def filled(path: str) -> str:
    """A path with something in the place of each parameter."""
    _, template, parameters = compile_path(path)
    return template.format(**dict.fromkeys(parameters, "1"))


def test_without_a_token_nothing_is_answered_but_what_the_docs_name(farm: Server) -> None:
    farm.config = farm.config.model_copy(update={"rate": 1e6, "burst": 10**6})
    app = create_app(farm)
    found = sorted(set(routes(app)))
    answers = asyncio.run(asked(app, [(method, filled(path)) for method, path in found]))
    told = zip(found, answers, strict=True)
    assert {f"{method} {path}" for (method, path), answer in told if not sent_to_login(path, answer)} == OPEN


def sent_to_login(path: str, answer: httpx.Response) -> bool:
    """Whether a token is asked for; after `/logout` that is the answer."""
    place = answer.headers.get("Location", "").partition("?")[0]
    return answer.status_code == 401 or (place == "/login" and path != "/logout")


@pytest.mark.parametrize("path", ["/readyz", "/login", "/static/farm.css", f"{PREFIX}/openapi.json", "/logout"])
def test_what_is_open_is_limited_by_address(farm: Server, path: str) -> None:
    limited = farm.config.model_copy(update={"rate": 0.01, "burst": 2})
    farm.config = limited
    method = "POST" if path == "/logout" else "GET"
    answers = asyncio.run(asked(create_app(farm), [(method, path)] * 3 + [("GET", "/healthz")]))
    assert [answer.status_code for answer in answers[2:]] == [429, 200]
    assert answers[0].status_code == answers[1].status_code != 429
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 100
    assert answers[2].json()["type"] == "/problems/rate"


def test_metrics_that_are_public_are_limited_by_address(farm: Server) -> None:
    farm.config = farm.config.model_copy(update={"rate": 0.01, "burst": 1, "metrics_public": True})
    answers = asyncio.run(asked(create_app(farm), [("GET", "/metrics")] * 2))
    assert [answer.status_code for answer in answers] == [200, 429]
