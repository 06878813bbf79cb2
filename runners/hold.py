"""Keeping a guest for a person: letting that person in, and waiting for the end."""

from __future__ import annotations

import time
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING

from farm.errors import ConnectError, FarmError
from farm.model import Event, Heartbeat, Held, LogChunk, Stream
from runners.deadline import Deadline
from runners.guest import Shell, Work, wait_for

if TYPE_CHECKING:
    from runners.attempt import Attempt

ADMIT = "umask 077; mkdir -p ~/.ssh && cat >>~/.ssh/authorized_keys"
"""Of the shell of whoever is to be logged in as: a line of keys comes in."""
HEARTBEAT_S = 5.0
_LOOK_S = 1.0
_ADMIT_S = 30.0


def admit(shell: Shell, public_key: str, deadline: Deadline) -> Work[None]:
    """Let the owner of a key into the guest. Raises ConnectError, and what a shell raises."""
    line = f"\n{public_key}\n".encode()  # whatever is there need not end in a newline
    if status := (yield from shell.execute(ADMIT, deadline=deadline, stdin=BytesIO(line))):
        raise ConnectError(f"cannot let the owner of the SSH key into the guest: its shell returned {status}")


def hold(attempt: Attempt) -> Generator[Event, None, None]:
    """Keep the guest until it ends by itself or nobody has ended it for too long.

    Whoever follows the attempt knows when the time is over, and cancels it then.
    """
    if attempt.guest is None or attempt.shell is None:
        return
    longest = Deadline.after(attempt.order.hold_limit_s, "hold the guest")
    try:
        yield _held(attempt)
        while longest.remaining and not attempt.guest.trouble():
            until = Deadline.after(min(HEARTBEAT_S, longest.remaining), "hold the guest")
            while until.remaining and not attempt.guest.trouble():
                time.sleep(min(_LOOK_S, until.remaining))
            attempt.measure()
            yield Heartbeat(at=_now(), usage=attempt.usage)
    except (FarmError, OSError) as error:  # the hold ends; what the attempt came to is known already
        note = f"[farm: cannot hold the guest any longer: {error}]\n".encode()
        yield LogChunk(at=_now(), phase=attempt.phase, stream=Stream.FARM, data=note)


def _held(attempt: Attempt) -> Held:
    order, now = attempt.order, _now()
    attempt.measure()
    return Held(
        at=now,
        command=_command(attempt),
        until=now + timedelta(seconds=order.reserved_s or order.hold_on_failure_s),
        evidence=attempt.evidence(),
        usage=attempt.usage,
    )


def _command(attempt: Attempt) -> str:
    """How to get in. Of a cell that failed, the guest may be in no state to let anybody else in than the farm."""
    guest, shell, order = attempt.guest, attempt.shell, attempt.order
    if guest is None or shell is None:
        return ""
    if not order.ssh_key:
        return guest.access()
    if not order.reserved_s:
        try:
            wait_for(admit(shell, order.ssh_key, Deadline.after(_ADMIT_S, "let somebody into the guest")))
        except FarmError:
            return guest.access()
    return guest.invitation()


def _now() -> datetime:
    return datetime.now(UTC)
