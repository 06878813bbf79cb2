"""The screen of a guest: a terminal that Bochs makes, and at which it stands still when nobody reads it."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

_NAME = re.compile(rb'connected to screen "(/dev/pts/\d+)"')
_POLL_S = 0.05
_BYTES = 64 * 1024


def watch(output: Path, runs: Callable[[], bool]) -> None:
    """Read the screen of the Bochs that says in this file where it is, until it is gone."""
    threading.Thread(target=_read, args=(output, runs), name="bochs-screen", daemon=True).start()


def _read(output: Path, runs: Callable[[], bool]) -> None:
    with contextlib.suppress(OSError):  # it ended: so does its terminal
        while not (found := _NAME.search(output.read_bytes())):
            if not runs():
                return
            time.sleep(_POLL_S)
        terminal = os.open(found[1], os.O_RDWR | os.O_NOCTTY)
        try:
            tty.setraw(terminal)  # an echo would be a key that the guest is told of
            while os.read(terminal, _BYTES):
                pass
        finally:
            os.close(terminal)
