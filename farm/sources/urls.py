"""URLs: how they are shown, and how a file behind one is fetched."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx

from farm.errors import SourceError
from farm.sources.cached import BLOCK_BYTES, blocks_of

_SECRET = re.compile(r"(?<=://)[^/@]*@")
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""The SHA-256 is the file's own, not that of a compressed form for the way."""
_TIMEOUT_S = 60.0
"""For a connection and for every piece of an answer."""
_LONGEST_S = 900.0
"""For all of it, as for git: a server that sends a byte a minute would hold up whoever waits for ever. A GiB, the
largest source, takes this long at 10 Mbit/s."""


def shown(url: str) -> str:
    """A URL for messages and reports: without the user name and password that it may carry."""
    return _SECRET.sub("", url)


@contextmanager
def fetched(url: str) -> Iterator[Iterator[bytes]]:
    """The pieces of what is behind a URL (https, http, file). Raises SourceError.

    Proxies and certificate bundles are taken from the usual environment variables.
    """
    try:
        parsed = httpx.URL(url)
        if parsed.scheme == "file":
            with opened(Path(parsed.path)) as file:
                yield blocks_of(file)
            return
        with (
            _deadline(url) as deadline,
            httpx.Client(headers=_AS_IT_IS, follow_redirects=True, timeout=_TIMEOUT_S) as client,
            client.stream("GET", url, extensions={"trace": deadline.trace}) as answer,
        ):
            answer.raise_for_status()
            yield answer.iter_raw(BLOCK_BYTES)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        raise SourceError(
            f"cannot fetch {shown(url)}: the server answered {code} {error.response.reason_phrase}"
        ) from error
    except httpx.UnsupportedProtocol as error:
        raise SourceError(
            f"cannot fetch {shown(url)}: {error}", hint="allowed are https, http, file and paths"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"cannot fetch {shown(url)}: {error}") from error


class _Deadline:
    """Ends the connections of a request when its time is up: httpx limits only the wait for each piece."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._sockets: list[socket.socket] = []

    def trace(self, name: str, info: dict[str, Any]) -> None:
        """What httpcore calls with every step; see its `trace` extension."""
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))
            if self.over.is_set():
                self._end()

    def expire(self) -> None:
        """The time is up."""
        self.over.set()
        self._end()

    def _end(self) -> None:
        for one in tuple(self._sockets):
            with suppress(OSError):  # it has been closed, or its other end has gone
                one.shutdown(socket.SHUT_RDWR)  # unlike `close` it wakes the thread that reads


@contextmanager
def _deadline(url: str) -> Iterator[_Deadline]:
    deadline = _Deadline()
    timer = threading.Timer(_LONGEST_S, deadline.expire)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    except (httpx.HTTPError, SourceError) as error:  # the second: an answer of no known length just ends
        if not deadline.over.is_set():
            raise
        raise SourceError(f"cannot fetch {shown(url)}: it is not done after {_LONGEST_S:g} s") from error
    finally:
        timer.cancel()


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A plain file, opened for reading. Raises SourceError."""
    if path.exists() and not path.is_file():
        cause = "it is a folder" if path.is_dir() else "it is not a plain file"
        raise SourceError(f"cannot read {path}: {cause}", hint="give a folder as `folder`")
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file
