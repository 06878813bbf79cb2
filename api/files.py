"""Files of attempts as answers: what a guest wrote goes out as it is, and no browser makes anything else of it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import StreamingResponse

from api.auth import CHECK_S, may_still
from api.problems import ProblemError
from farm.errors import NotFoundError
from farm.model import AttemptKey, State
from farm.serve import Server

_BLOCK_BYTES = 64 * 1024
_LOOK_S = 0.25
_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")
_HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"


def stretch(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte that is wanted and the one after the last; None: all of them.

    A single range (RFC 9110, 14.2); what is no such range does not count. Raises ProblemError where the file
    has none of it.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] == found[2] == "":
        return None
    first, last = found[1], found[2]
    start, end = (int(first), int(last) + 1 if last else size) if first else (max(0, size - int(last)), size)
    if first and end <= start and last:
        return None
    if start >= size:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "range",
            f"cannot give these bytes: there are {size}",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, min(end, size)


def send_file(request: Request, file: BinaryIO, media_type: str, *, save_as: str = "") -> StreamingResponse:
    """A file, or the range of it that is asked for; it is closed afterwards.

    It is as long as it is now, whatever is added meanwhile. Raises ProblemError.
    """
    size = os.fstat(file.fileno()).st_size
    try:
        # There is nothing that `If-Range` could name, so it never holds.
        part = None if "If-Range" in request.headers else stretch(request.headers.get("Range"), size)
    except ProblemError:
        file.close()
        raise
    start, end = part or (0, size)
    headers = {**_HARMLESS, "Accept-Ranges": "bytes", "Content-Length": str(end - start), "Cache-Control": "no-store"}
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if save_as:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(save_as, safe='')}"
    status = HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK
    return StreamingResponse(_blocks(file, start, end), status, headers, media_type)


def send_log_as_it_grows(request: Request, server: Server, key: AttemptKey, name: str) -> StreamingResponse:
    """A log from its beginning until the attempt has ended, or the server does."""
    return StreamingResponse(
        _growing(request, server, key, name), headers={**_HARMLESS, "Cache-Control": "no-store"}, media_type=TEXT
    )


async def _blocks(file: BinaryIO, at: int, end: int) -> AsyncIterator[bytes]:
    with file:
        while block := await _read(file, at, min(_BLOCK_BYTES, end - at)):
            yield block
            at += len(block)


@dataclass
class _Right:
    """The right to what is read, asked for again from time to time."""

    request: Request
    checked: float = field(default_factory=time.monotonic)

    async def is_gone(self) -> bool:
        """Whether it is known to be gone."""
        if time.monotonic() - self.checked <= CHECK_S:
            return False
        self.checked = time.monotonic()
        return not await may_still(self.request)


async def _growing(request: Request, server: Server, key: AttemptKey, name: str) -> AsyncIterator[bytes]:
    file: BinaryIO | None = None
    at = 0
    try:
        ended, right = False, _Right(request)
        while not ended and not await request.is_disconnected():
            if await right.is_gone():
                return
            # Asked before reading: what is written until then has been read when it has ended.
            ended = server.feed.closed or await asyncio.to_thread(server.details.state, key) is State.FINISHED
            file = file or await asyncio.to_thread(_if_there, server, key, name)
            while file and (block := await _read(file, at, _BLOCK_BYTES)):
                if await right.is_gone():  # it may grow as fast as it is read
                    return
                yield block
                at += len(block)
            if not ended:
                await server.feed.pause(_LOOK_S)
    finally:
        if file:
            file.close()


def _if_there(server: Server, key: AttemptKey, name: str) -> BinaryIO | None:
    try:
        return server.store.files.open_log(key, name)
    except NotFoundError:
        return None


async def _read(file: BinaryIO, at: int, size: int) -> bytes:
    return await asyncio.to_thread(os.pread, file.fileno(), size, at) if size else b""
