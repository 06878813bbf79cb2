"""A file from a path or a URL, kept only if it is the one that was promised: a program, which `cloud` runs.

So that what may hang for a minute in the library can be killed at any moment. It is told by the environment
(a URL may hold a password, and arguments can be read by everybody), says on one line what is wrong, and how
it ends says whose fault that is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

WRONG, FULL, TROUBLE = 3, 4, 5
"""Exit statuses: what was asked for is wrong; there is no room; it may go well another time."""

_TIMEOUT_S = 60.0
_PIECE = 256 * 1024
_SERVER = 500
_AS_IT_IS = {"Accept-Encoding": "identity"}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def shown(location: str) -> str:
    """A location for messages: without the user name and the password that a URL may carry."""
    scheme, found, rest = location.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}" if found else location


@contextmanager
def pieces(location: str) -> Iterator[Iterator[bytes]]:
    """What is at an absolute path or a file:, http: or https: URL. Raises OSError, httpx.HTTPError, httpx.InvalidURL.

    Proxies and certificates are taken from the usual environment variables. A body that ends before its
    announced length is an error.
    """
    is_path = location.startswith("/")
    if is_path or location.startswith("file:"):
        with Path(location if is_path else httpx.URL(location).path).open("rb") as file:
            yield iter(lambda: file.read(_PIECE), b"")
        return
    with httpx.stream("GET", location, headers=_AS_IT_IS, follow_redirects=True, timeout=_TIMEOUT_S) as answer:
        answer.raise_for_status()
        yield answer.iter_raw(_PIECE)


def fetch(location: str, sha256: str, to: Path) -> tuple[int, str]:
    """Fetch a file; an exit status, and what is wrong. A file that is not the promised one is removed."""
    whole = hashlib.sha256()
    try:
        with pieces(location) as found, to.open("xb") as file:
            for piece in found:
                whole.update(piece)
                file.write(piece)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        return TROUBLE if code >= _SERVER else WRONG, f"the server answered {code} {error.response.reason_phrase}"
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        return WRONG, str(error)
    except httpx.HTTPError as error:
        return TROUBLE, str(error) or type(error).__name__
    except OSError as error:
        return FULL if error.errno in _FULL else WRONG, error.strerror or str(error)
    if whole.hexdigest() == sha256:
        return 0, ""
    to.unlink()
    return WRONG, f"its SHA-256 is {whole.hexdigest()}, not {sha256}"


if __name__ == "__main__":
    status, cause = fetch(os.environ["FARM_LOCATION"], os.environ["FARM_SHA256"], Path(os.environ["FARM_TO"]))
    print(cause, flush=True)  # noqa: T201 -- its way to speak
    sys.exit(status)
