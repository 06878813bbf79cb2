"""The farm's own programs for a host's `/bin/sh`, with what they need to know."""

from __future__ import annotations

import functools
import shlex
from importlib.resources import files

NO_SPACE, BUSY, BROKEN, GONE = 74, 75, 76, 77
"""What they end with where the disk is full, somebody else is at it, a copy is not what it should be, or is gone."""
_STATUSES = {"no_space": NO_SPACE, "busy": BUSY, "broken": BROKEN, "gone": GONE}


def script(name: str, **values: object) -> str:
    """The script `scripts/NAME.sh` with its variables set."""
    told = "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in {**_STATUSES, **values}.items())
    return told + _text("common") + _text(name)


@functools.cache
def _text(name: str) -> str:
    return (files("runners.hosts") / "scripts" / f"{name}.sh").read_text()
