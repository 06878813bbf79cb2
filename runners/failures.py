"""What went wrong in a phase, as evidence: an error or a script's exit status, and what the guest's console shows."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from farm.errors import DeadlineError, FarmError, GuestError, UntrustedError
from farm.model import Ending, Failure, Phase
from runners.console import find_crash, tail
from runners.guest import Guest

_TRACEBACK_LINES = 12


class Where(NamedTuple):
    """What the guest at hand was at when it went wrong."""

    phase: Phase
    builder: bool
    """In the guest that builds for another one."""


def of_error(error: Exception, guest: Guest | None, where: Where) -> Failure:
    """An exception as evidence; where the guest was lost, what its console says."""
    if not isinstance(error, FarmError):
        lines = tuple("".join(traceback.format_exception(error)).splitlines()[-_TRACEBACK_LINES:])
        return _made(error, where, Ending.FAILED, lines=lines)
    if not isinstance(error, GuestError) or guest is None:
        return _made(error, where, Ending.FAILED)
    try:
        guest.trouble()
    except FarmError as host_error:  # the guest suffers from its host
        return _made(host_error, where, Ending.LOST)
    console = guest.console()
    crash = find_crash(console) if not isinstance(error, UntrustedError) else None
    return _made(
        error,
        where,
        Ending.TIMEOUT if isinstance(error, DeadlineError) else Ending.LOST,
        crash=crash.rule if crash else "",
        lines=crash.lines if crash else tail(console),
    )


def of_script(status: int, said: bytes, guest: Guest | None, where: Where) -> Failure:
    """The last lines of a script's output, and what the console shows, should it have to do with it."""
    sign = find_crash(guest.console()) if guest else None
    return Failure(
        phase=where.phase,
        builder=where.builder,
        ending=Ending.FAILED,
        exit_status=status,
        crash=sign.rule if sign else "",
        lines=(*tail(said), *(sign.lines[:1] if sign else ())),
    )


def detail(failure: Failure | None) -> str:
    """Why a phase did not end well; where that was in a phase of the builder, it says so."""
    if failure is None or not failure.message:
        return ""
    return failure.message if failure.place == failure.phase else f"{failure.place}: {failure.message}"


def _made(error: Exception, where: Where, ending: Ending, *, crash: str = "", lines: tuple[str, ...] = ()) -> Failure:
    message = str(error) or type(error).__name__
    if isinstance(error, FarmError) and error.hint:
        message += f" ({error.hint})"
    return Failure(
        phase=where.phase,
        builder=where.builder,
        ending=ending,
        error=type(error).__name__,
        message=message,
        crash=crash,
        lines=lines,
    )
