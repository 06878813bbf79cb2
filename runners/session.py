"""The files of a local Ray, and the end of a session: everything made here is gone."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.ledger import Entry, Ledger
from runners.reaper import destroy_ray, ensure_reaper, owners, sweep

_GONE_S = 15.0


@contextmanager
def local_session(runtime: Path) -> Iterator[Path]:
    """A short folder for a local Ray. Sweeps before; at the end waits until what workers left is gone."""
    ledger = Ledger(runtime)
    sweep(runtime)
    folder = runtime / f"r{secrets.token_hex(2)}"
    os.environ["FARM_SESSION"] = folder.name  # for the workers, which inherit it
    entry = Entry("ray-session", str(folder))
    ledger.add(entry)
    ensure_reaper(runtime)
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        destroy_ray(str(folder))
        ledger.drop(entry)
        ledger.close()
        _sweep_after(runtime, folder.name)


def _sweep_after(runtime: Path, session: str) -> None:
    # The workers have been ended a moment ago; what they owned is theirs until the kernel knows.
    until = time.monotonic() + _GONE_S
    while sweep(runtime) or (owners(runtime, session) and time.monotonic() < until):
        time.sleep(0.05)
