"""What goes wrong is told as what cannot be done and why, also where the farm knows nothing of it."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api import problems
from api.app import PREFIX, create_app
from farm.model import Scope
from farm.serve import Server
from tests.unit.rehearsal import now
from tests.unit.test_api_head import farm

__all__ = ["farm"]

ASKED = Request({"type": "http", "method": "POST", "path": "/x", "headers": [], "query_string": b""})


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (problems._gone(ASKED, ClientDisconnect()), "cannot read the request: its body broke off"),
        (problems._defect(ASKED, KeyError("x")), "cannot answer the request: this is a defect of the farm"),
        (problems._of_http(ASKED, HTTPException(HTTPStatus.NOT_FOUND)), "cannot POST /x: not found"),
        (problems._of_http(ASKED, HTTPException(400, "There was an error")), "cannot POST /x: there was an error"),
        (problems._of_http(ASKED, HTTPException(403, "cannot do it: why")), "cannot do it: why"),
    ],
)
def test_a_problem_is_told_as_what_cannot_be_done(answer: Response, detail: str) -> None:
    assert json.loads(bytes(answer.body))["detail"] == detail


async def sent(farm: Server, body: bytes) -> httpx.Response:
    _, secret = farm.access.create_token("one", Scope.SUBMIT, by="x", now=now())
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(farm)), base_url="http://farm") as client:
        return await client.post(f"{PREFIX}/validate", content=body, headers=headers)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"[]", b""])
def test_a_body_that_cannot_be_read_is_told_so(farm: Server, body: bytes) -> None:
    answer = asyncio.run(sent(farm, body))
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"].startswith("cannot ")
