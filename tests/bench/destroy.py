"""The end of a guest."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.figures import Figure, against
from tests.bench.guests import Kind, start
from tests.unit.test_images_process import has_ended

_POLL_S = 0.001


def figures() -> Iterator[Figure]:
    """Absolute: until its files and its process are gone."""
    yield against("destroying a guest that runs, until its process has ended", 0.2, "s", _destroy_s)


def _destroy_s() -> float:
    guest = Kind("amd64").restored()
    try:
        start(guest).close()
        assert guest._domain
        process = int(guest._driver.process(guest._domain).name)
        started = time.monotonic()
        guest.destroy()
        while not has_ended(process):
            time.sleep(_POLL_S)
        took_s = time.monotonic() - started
        assert not guest._parts.folder.exists()
    finally:
        guest.destroy()
    return took_s
