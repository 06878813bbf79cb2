"""What attempts left behind: their logs, and the files that they brought back."""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api.auth import Reader, TheServer
from api.cells import attempt_named
from api.files import BYTES, TEXT, send_file, send_log_as_it_grows
from api.params import CellId, Number, RunId
from farm.errors import NotFoundError
from farm.report.parts import ArtifactPart
from farm.serve import Server
from farm.store.files import LOGS
from farm.store.records import WITHOUT_TESTS

router = APIRouter(tags=["logs and artifacts"])

ATTEMPT = "/runs/{run}/cells/{cell:path}/attempts/{number}"
Range = Annotated[
    str | None, Header(alias="Range", max_length=200, description="A single range: `bytes=0-99`, `bytes=-500`.")
]


class LogLine(BaseModel):
    """A log."""

    name: str
    """A phase's, or `console`."""
    bytes: int
    """As many as there are by now."""


class LogList(BaseModel):
    """The logs of an attempt, in the order of its phases."""

    logs: tuple[LogLine, ...]


class ArtifactList(BaseModel):
    """The files that an attempt left."""

    artifacts: tuple[ArtifactPart, ...]


def _of_bytes(media_type: str, what: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string"} | ({"format": "binary"} if media_type == BYTES else {})}}
    return {
        200: {"description": what, "content": content},
        206: {"description": "The range of it that was asked for", "content": content},
    }


@router.get(f"{ATTEMPT}/logs", summary="List the logs of an attempt")
def list_logs(run: RunId, cell: CellId, number: Number, server: TheServer, _identity: Reader) -> LogList:
    """Their names, and how many bytes they have by now."""
    sizes = server.store.files.log_sizes(attempt_named(server, run, cell, number))
    return LogList(logs=tuple(LogLine(name=name, bytes=size) for name, size in sizes.items()))


@router.get(
    f"{ATTEMPT}/logs/{{name}}",
    summary="Read a log",
    response_class=StreamingResponse,
    responses=_of_bytes(TEXT, "The log, as the guest wrote it: not UTF-8 throughout, and with control sequences"),
)
async def read_log(
    *,
    request: Request,
    run: RunId,
    cell: CellId,
    number: Number,
    name: Annotated[str, Path(max_length=63, description=f"One of: {', '.join(LOGS)}.")],
    server: TheServer,
    _identity: Reader,
    _range: Range = None,
    follow: Annotated[
        bool, Query(description="Go on until the attempt has ended, or the server ends; a range does not count then.")
    ] = False,
) -> StreamingResponse:
    """Its bytes as they are: whoever shows them to a person has to make them harmless."""
    key = await asyncio.to_thread(attempt_named, server, run, cell, number)
    if follow and name in LOGS:
        return send_log_as_it_grows(request, server, key, name)
    return send_file(request, await asyncio.to_thread(server.store.files.open_log, key, name), TEXT)


@router.get(f"{ATTEMPT}/artifacts", summary="List the artifacts of an attempt")
def list_artifacts(run: RunId, cell: CellId, number: Number, server: TheServer, _identity: Reader) -> ArtifactList:
    """The files that it brought back from its guest."""
    key = attempt_named(server, run, cell, number)
    attempts = server.store.cell(key.run, cell, WITHOUT_TESTS).attempts
    found = next((one.artifacts for one in attempts if one.key == key), ())
    return ArtifactList(artifacts=tuple(map(ArtifactPart.model_validate, found)))


@router.get(
    f"{ATTEMPT}/artifacts/{{path:path}}",
    summary="Download an artifact",
    response_class=StreamingResponse,
    responses=_of_bytes(BYTES, "The file, as it was in the guest; never to be shown by a browser"),
)
async def download_artifact(
    *,
    request: Request,
    run: RunId,
    cell: CellId,
    number: Number,
    path: Annotated[str, Path(max_length=1024, description="As the list of artifacts has it.")],
    server: TheServer,
    _identity: Reader,
    _range: Range = None,
) -> StreamingResponse:
    """Only what is on the list can be had."""

    def find(server: Server) -> Any:
        key = attempt_named(server, run, cell, number)
        return server.store.files.open_artifact(key, server.details.artifact(key, path).path)

    if "\0" in path:
        raise NotFoundError("cannot find the artifact: no name has a NUL in it")
    file = await asyncio.to_thread(find, server)
    return send_file(request, file, BYTES, save_as=PurePosixPath(path).name)
