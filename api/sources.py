"""Sources: what is tested, uploaded as a tar archive."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi import Path as Param
from pydantic import BaseModel

from api.apart import apart
from api.auth import Reader, Submitter, TheServer
from farm.model import ResolvedSource
from farm.sources.kept import UPLOADING

router = APIRouter(tags=["sources"])

Digest = Annotated[str, Param(max_length=100, description="SHA-256, as `POST /sources` gave it.")]


class KeptSource(BaseModel):
    """A source that the farm has."""

    kind: str
    description: str
    digest: str
    """SHA-256 over paths, modes and contents; what a run names it by."""
    files: int
    bytes: int


@router.post(
    "/sources",
    status_code=HTTPStatus.CREATED,
    summary="Upload a source",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload_source(
    request: Request,
    server: TheServer,
    identity: Submitter,
    name: Annotated[str, Query(max_length=200, description="What reports call it.")] = "an upload",
) -> KeptSource:
    """A tar archive of the tree, plain or compressed (gzip, bzip2, xz, zstd). Twice the same tree is one source."""
    with tempfile.NamedTemporaryFile(dir=server.intake.sources.folder, prefix=UPLOADING) as file:
        async for block in request.stream():
            await asyncio.to_thread(file.write, block)
        file.flush()
        kept = await apart(request, lambda: server.intake.sources.upload(Path(file.name), name))
    detail = {"description": name, "bytes": kept.bytes}
    await asyncio.to_thread(
        server.access.note, identity.name, "source.upload", kept.digest, detail, now=datetime.now(UTC)
    )
    return _part(kept)


@router.get("/sources/{digest}", summary="Find a source")
def find_source(digest: Digest, server: TheServer, _identity: Reader) -> KeptSource:
    """Whether it has been uploaded already, so that it need not be again."""
    return _part(server.intake.sources.find(digest))


def _part(source: ResolvedSource) -> KeptSource:
    return KeptSource(**source.model_dump(exclude={"archive"}))
