"""What a program does that is told to end, by Ctrl-C or SIGTERM: gently the first time, at once the second."""

from __future__ import annotations

import os
import signal

_SHOW_CURSOR = b"\x1b[?25h"
"""See console_codes(4): a display that is being drawn hides it."""


def raise_on_termination() -> None:
    """SIGTERM ends the program as Ctrl-C does: whoever has something to destroy does it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def leave_on_termination() -> None:
    """From now on both end the program where it is; the reaper destroys what it has made.

    Nothing is tidied up: threads that wait for Ray, which has ended meanwhile, would be waited for as well.
    """

    def leave(number: int, _: object) -> None:
        if os.isatty(1):
            os.write(1, _SHOW_CURSOR)
        os.write(2, b"leaving at once: the reaper destroys the guests\n")  # a logger may be in the middle of a line
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
