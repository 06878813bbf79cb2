"""Python's search for garbage in cycles, kept short: while it lasts, no thread of the process does anything.

It looks through everything that there is. The modules, models and routes of a server are a quarter of a million objects
that never become garbage, and looking through them took half a second, again and again: the slowest answers of the API.
"""

from __future__ import annotations

import gc

_YOUNG = 500
_MIDDLE = 10
_OLD = 200
"""A whole search after so many of those among younger objects, of which a million have come by then."""


def spare_what_is_there() -> None:
    """Search through what has come until now this once, and never again; through what comes later, seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
