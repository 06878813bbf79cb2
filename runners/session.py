"""The files of a local Ray, and the end of a session, also of a node: everything made here is gone."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from farm.errors import FarmError
from runners.ledger import Entry, Ledger
from runners.reaper import destroy_ray, ensure_reaper, is_needed, owners, sweep

_GONE_S = 15.0
_LOOK_S = 1.0

log = structlog.get_logger(__name__)


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
        with _reaper_kept(runtime):
            yield folder
    finally:
        destroy_ray(str(folder))
        ledger.drop(entry)
        ledger.close()
        _sweep_after(runtime, folder.name)


@contextmanager
def node_session(runtime: Path) -> Iterator[dict[str, str]]:
    """For as long as a node of a cluster lives: what its workers have to have in their environment.

    At the end nothing is left of what they have made.
    """
    session = f"n{secrets.token_hex(2)}"
    sweep(runtime)
    try:
        with _reaper_kept(runtime):
            yield {"FARM_SESSION": session}
    finally:
        _sweep_after(runtime, session)


@contextmanager
def _reaper_kept(runtime: Path) -> Iterator[None]:
    """For as long as this lasts, a reaper that is killed is started again: its next owner may be long in coming."""
    ends = threading.Event()

    def keep() -> None:
        while not ends.wait(_LOOK_S):
            try:
                if is_needed(runtime):
                    ensure_reaper(runtime)
            except (OSError, subprocess.SubprocessError, FarmError) as error:
                log.warning("cannot start the reaper; trying again", error=str(error))

    keeper = threading.Thread(target=keep, name="keeps the reaper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ends.set()
        keeper.join()


def _sweep_after(runtime: Path, session: str) -> None:
    # The workers have been ended a moment ago; what they owned is theirs until the kernel knows.
    until = time.monotonic() + _GONE_S
    while sweep(runtime) or (owners(runtime, session) and time.monotonic() < until):
        time.sleep(0.05)
