"""What a guest says of itself when a phase was not done in time: its console's last lines, and its processes.

It may not answer any more. So it is asked over a channel of its own of the connection there is, and not for long.
"""

from __future__ import annotations

from contextlib import closing
from typing import NamedTuple

from farm.errors import FarmError
from farm.model import Stream
from runners.console import tail
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Guest, Shell, Work

PROCESSES = "ps -eo pid,ppid,stat,etime,wchan,args 2>/dev/null || ps -ef 2>/dev/null || ps 2>/dev/null || busybox ps"
"""Of whatever ps a guest has: procps', a BSD's, busybox'."""
NO_ANSWER = "the guest does not answer: it does not tell its processes"
ANSWER_S = 10.0
"""How long it has for an answer, if it is as fast as its host."""
_LONGEST_ANSWER = 64 * 1024
_GIVEN_UP_S = 600.0


class Answer(NamedTuple):
    """What came of asking a guest."""

    said: bytes
    answered: bool
    """It has told its processes, and in time."""


def last_words(guest: Guest, shell: Shell | None, answer_s: float) -> Work[int | None]:
    """Log what the guest still has to say; comes to 0 where it answers, 1 where it does not.

    None: there is no connection to ask over.
    """
    lines = tail(guest.console())
    heading = "the last lines of its console" if lines else "its console has said nothing at all"
    yield _said(f"[farm: {heading}]\n" + "".join(f"{line}\n" for line in lines))
    if shell is None:
        return None
    answer = yield from _processes(shell, answer_s)
    if answer.answered:
        yield _said("[farm: its processes]\n")
        yield Chunk(Stream.FARM, answer.said)
    else:
        yield _said(f"[farm: it does not tell its processes within {answer_s:g} s]\n")
    return 0 if answer.answered else 1


def _processes(shell: Shell, answer_s: float) -> Work[Answer]:
    answer, until = bytearray(), Deadline.after(answer_s, "list the guest's processes")
    # The shell's own deadline is no use here: where it passes, the connection is closed, and results are still to come.
    with closing(shell.execute(PROCESSES, deadline=Deadline.after(_GIVEN_UP_S, until.what))) as asking:
        while until.remaining and len(answer) < _LONGEST_ANSWER:
            try:
                chunk = next(asking)
            except StopIteration as end:
                return Answer(bytes(answer), answered=end.value == 0)
            except FarmError:
                break
            if chunk.stream is Stream.STDOUT:
                answer += chunk.data
            yield TICK
    return Answer(bytes(answer[:_LONGEST_ANSWER]), answered=len(answer) >= _LONGEST_ANSWER)


def _said(text: str) -> Chunk:
    return Chunk(Stream.FARM, text.encode("utf-8", "replace"))
