"""The counters of a guest's network cards, as the guest itself tells them (Linux, proc_net_dev(5))."""

from __future__ import annotations

import re
from typing import NamedTuple

from farm.errors import FarmError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import TICK, Shell, Work

_COMMAND = "cat /proc/net/dev"
_CARD = re.compile(rb"^ *([\w.@-]{1,32}): *(\d{1,20})((?: +\d{1,20}){7}) +(\d{1,20})(?: |$)", re.MULTILINE)
_LOOPBACK = b"lo"
_LONGEST_ANSWER = 64 * 1024


class Traffic(NamedTuple):
    """Bytes of all cards together, since the guest's system was started."""

    received: int
    sent: int


def traffic(shell: Shell, deadline: Deadline) -> Work[Traffic | None]:
    """Ask a guest; None where it does not answer in time, or not what is expected."""
    answer = bytearray()
    asking = shell.execute(_COMMAND, deadline=deadline)
    try:
        for chunk in asking:
            if chunk.stream is Stream.STDOUT:
                answer += chunk.data
            if len(answer) > _LONGEST_ANSWER:
                return None
            yield TICK
    except FarmError:
        return None
    finally:
        asking.close()
    return read(bytes(answer))


def read(answer: bytes) -> Traffic | None:
    """The sums over what the guest printed; None where it names no card."""
    cards = [match for match in _CARD.finditer(answer) if match[1] != _LOOPBACK]
    return Traffic(sum(int(card[2]) for card in cards), sum(int(card[4]) for card in cards)) if cards else None
