"""URLs: how they are shown, and how a file behind one is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from farm.errors import SourceError
from farm.sources.cached import BLOCK_BYTES, blocks_of

_SECRET = re.compile(r"(?<=://)[^/@]*@")
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""The SHA-256 is the file's own, not that of a compressed form for the way."""
_TIMEOUT_S = 60.0
"""For a connection and for every piece of an answer."""


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
        with httpx.stream("GET", url, headers=_AS_IT_IS, follow_redirects=True, timeout=_TIMEOUT_S) as answer:
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
