"""Host and guest do the same work, and are compared.

So that other work on the host does not show in it, they take turns, the middle of several rounds counts, and what has
been computed is set against the share of a CPU that the process got for it.
"""

from __future__ import annotations

import io
import shlex
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from farm.config import load_settings
from farm.errors import HostError
from farm.model import Model, Slowness
from runners.calibration.program import KINDS, PROGRAM, read_numbers
from runners.collect import fetch
from runners.deadline import Deadline
from runners.guest import TICK, Shell, Work
from runners.hosts.command import CommandError
from runners.hosts.link import link_to
from runners.hosts.uri import parse_uri

ROUNDS = 4
ROUND_S = 0.12
"""For each kind of work."""
LEAST = 0.1
"""A guest may well be faster than its host with the disk, since its disk need not outlive the host's power."""

_HOST_S = 20.0
_REMOTE_FOLDER = "/var/lib"
"""On the disk on which guests lie on another machine."""
_NO_PROGRAM = 127
"""How a shell ends that does not find a program."""
_ANSWER_BYTES = 4096
_LEAST_SHARE = 0.05


class Rates(NamedTuple):
    """How much of each kind of work was done in a second."""

    cpu: float
    fork: float
    disk: float


class Calibration(Model):
    """What the rounds came to."""

    slowness: Slowness
    host: Rates
    """The middle of the rounds."""
    guest: Rates
    measured_at: datetime


def calibrate(shell: Shell, cpu_s: Callable[[], float | None], folder: Path, deadline: Deadline) -> Work[Calibration]:
    """Take turns, the host and the guest.

    `cpu_s` tells the CPU seconds that the guest's machine has used by now, and `folder` is on the disk of the host on
    which the guest's lies. Raises HostError, UntrustedError, and what a shell raises.
    """
    host, guest = [], []
    for _ in range(ROUNDS):
        on_host, in_guest = {}, {}
        for kind in KINDS:
            on_host[kind] = rate(kind, *read_numbers(_on_host(folder, kind)))
            yield TICK
            in_guest[kind] = yield from _in_guest(shell, kind, cpu_s, deadline)
        host.append(Rates(**on_host))
        guest.append(Rates(**in_guest))
    return Calibration(
        slowness=compare(host, guest), host=middle(host), guest=middle(guest), measured_at=datetime.now(UTC)
    )


def middle(rounds: Sequence[Rates]) -> Rates:
    """The median of each kind of work."""
    return Rates(*map(statistics.median, zip(*rounds, strict=True)))


def compare(host: Sequence[Rates], guest: Sequence[Rates]) -> Slowness:
    """The rounds of both -> how many times longer the guest takes; at least LEAST each."""
    pairs = zip(KINDS, middle(host), middle(guest), strict=True)
    return Slowness(**{kind: round(max(LEAST, natively / there), 2) for kind, natively, there in pairs})


def rate(kind: str, measured: float, share: float) -> float:
    """The rate of somebody who had only this share of a CPU, if it had been a whole one. A disk works by itself."""
    return measured if kind == "disk" else measured / min(1.0, max(_LEAST_SHARE, share))


def _in_guest(shell: Shell, kind: str, cpu_s: Callable[[], float | None], deadline: Deadline) -> Work[float]:
    command = f'exec perl - {ROUND_S:g} "$HOME" {kind}'
    began, used = time.monotonic(), cpu_s()
    answer = yield from fetch(shell, command, limit=_ANSWER_BYTES, deadline=deadline, stdin=PROGRAM)
    took, used_then = time.monotonic() - began, cpu_s()
    share = 1.0 if used is None or used_then is None else (used_then - used) / took
    return rate(kind, read_numbers(answer)[0], share)


def _on_host(folder: Path, kind: str) -> bytes:
    """Natively, on the machine that the guests are on."""
    uri = parse_uri(load_settings().uri)
    place = shlex.quote(_REMOTE_FOLDER if uri.remote else str(folder))
    deadline = Deadline.after(_HOST_S, "measure the host")
    try:
        return link_to(uri).run(f"exec perl - {ROUND_S:g} {place} {kind}", stdin=io.BytesIO(PROGRAM), deadline=deadline)
    except CommandError as error:
        without = error.status == _NO_PROGRAM
        hint = f"install perl-base on {uri.place}" if without else ""
        raise HostError(f"cannot measure the host: {'it has no perl' if without else error.said}", hint=hint) from error
