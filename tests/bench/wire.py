"""HTTP with as little as possible around it: a client that shares the machine with its server must cost nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

_BLOCK = 256 * 1024
_ID = re.compile(rb"^id: (\d+)\nevent: ", re.MULTILINE)


class Wire:
    """A connection that is kept."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> bytes:
        """The body of an answer, which has to be a good one."""
        return await self._answer(await self._ask("GET", path))

    async def post(self, path: str, body: bytes) -> bytes:
        """The same for a request with a body of JSON."""
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return await self._answer(await self._ask("POST", path, more, body))

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        size = int(_header(await reader.readuntil(b"\r\n\r\n"))[b"content-length"])
        return await reader.readexactly(size)

    async def listen(self, path: str, last: int | None = None) -> AsyncIterator[list[int]]:
        """The ids of a stream's events, as many at a time as come together."""
        reader = await self._ask("GET", path, "" if last is None else f"Last-Event-ID: {last}\r\n")
        _header(await reader.readuntil(b"\r\n\r\n"))
        rest = b""
        while block := await reader.read(_BLOCK):
            whole, end, rest = (rest + block).rpartition(b"\n\n")
            if ids := [int(number) for number in _ID.findall(whole + end)]:
                yield ids

    def close(self) -> None:
        """Go away, whatever was to come."""
        if self._streams:
            self._streams[1].transport.abort()
            self._streams = None

    async def _ask(self, method: str, path: str, more: str = "", body: bytes = b"") -> asyncio.StreamReader:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=4 * 1024 * 1024)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._token}\r\n{more}\r\n"
        writer.write(head.encode() + body)
        return reader


def _header(head: bytes) -> dict[bytes, bytes]:
    status, *lines = head.split(b"\r\n")
    assert status.split()[1] in {b"200", b"201"}, head
    return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}
