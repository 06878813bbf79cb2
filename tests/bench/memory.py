"""What idle guests take of the host's memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from runners.libvirt.guest import LibvirtGuest
from tests.bench.figures import Aim, Figure, side_by_side
from tests.bench.guests import Kind, running

GUESTS = 10
_IDLE_S = 5.0


def figures() -> Iterator[Figure]:
    """Clones of one snapshot share what none of them has written."""
    kind = Kind("amd64")
    name = f"memory of {GUESTS} idle guests, restored against booted (sum of their QEMUs' PSS)"
    yield side_by_side(name, Aim(0.5), "MiB", lambda: idle_mib(kind.restored), lambda: idle_mib(kind.cold))


def idle_mib(make: Callable[[], LibvirtGuest]) -> float:
    """Of guests that are up and connected, after a while."""
    with ExitStack() as stack:
        guests = [stack.enter_context(running(make()))[0] for _ in range(GUESTS)]
        time.sleep(_IDLE_S)
        return sum(_pss_mib(guest) for guest in guests)


def _pss_mib(guest: LibvirtGuest) -> float:
    assert guest._domain
    process: Path = guest._driver.process(guest._domain)
    found = re.search(r"^Pss:\s+(\d+) kB$", (process / "smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024
