"""Webhooks of forges. Their signature is what says that they may; nobody needs a token."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api.auth import TheServer, take_turn
from api.problems import ProblemError
from farm.triggers.reception import Receipt
from farm.triggers.signatures import Received, SignatureError

router = APIRouter(tags=["triggers"])

BODY_BYTES = 8 * 1024 * 1024
"""A push of the 2,048 commits that GitHub lists at most has some 3 MiB."""
_BODY_S = 30.0

_EXAMPLE = {
    "ref": "refs/heads/main",
    "after": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
    "repository": {"full_name": "acme/hello", "clone_url": "https://github.com/acme/hello.git"},
}

Trigger = Annotated[str, Path(max_length=63, description="The name of a `[[trigger]]` in farm.toml.")]


@router.post(
    "/hooks/{trigger}",
    status_code=HTTPStatus.ACCEPTED,
    summary="Take a webhook of a forge",
    responses={HTTPStatus.OK: {"model": Receipt, "description": "There is nothing to do"}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}},
        },
    },
)
async def take_webhook(trigger: Trigger, request: Request, server: TheServer, response: Response) -> Receipt:
    """Check who sends it, note the push, and answer; its run is submitted afterwards.

    What was accepted is answered with 202, what needs nothing with 200, a wrong signature with 401, and what came
    before, or is old, with 409.
    """
    take_turn(request, "")
    headers = {name.lower(): value for name, value in request.headers.items()}
    received = Received(headers=headers, body=await _body(request), now=datetime.now(UTC))
    try:
        receipt = await asyncio.to_thread(server.reception.take, trigger, received)
    except SignatureError as error:
        headers = {"WWW-Authenticate": 'Webhook realm="farm"'}
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "signature", error.message, headers=headers) from error
    if receipt.outcome != "accepted":
        response.status_code = HTTPStatus.OK
    return receipt


async def _body(request: Request) -> bytes:
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
        raise ProblemError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "cannot take the webhook: it is not JSON; choose the content type application/json in the forge",
        )
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.body()
    except TimeoutError as error:
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT, "timeout", f"cannot take the webhook: its body took more than {_BODY_S:.0f} s"
        ) from error
