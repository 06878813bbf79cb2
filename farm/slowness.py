"""What follows from how slow guests are: deadlines that scale with it, and durations that can be estimated. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import NamedTuple

from farm.model import SCRIPTS, GuestFacts, Phase, Slowness, Timeouts

UNKNOWN = 10.0
"""The factor for an emulated guest that has not been measured."""
MOST = 20.0
"""No deadline is multiplied by more: a guest that hangs has to be noticed some time."""

_LABEL = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)_(\d{1,9}(?:\.\d{1,9})?)_(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)

SCALED = frozenset(Phase) - {Phase.PROVISION, Phase.TEARDOWN}
"""The phases whose work the guest does. The others are the host's."""


class Allowed(NamedTuple):
    """How long something may take."""

    native_s: float
    """What the matrix says, of a machine that is not emulated."""
    factor: float = 1.0

    @property
    def seconds(self) -> float:
        """How long it may take here."""
        return self.native_s * self.factor

    @property
    def reason(self) -> str:
        """`30 s × 14.2 for emulation`; empty where it is what the matrix says."""
        return "" if self.factor == 1.0 else f"{self.native_s:g} s × {self.factor:g} for emulation"


def factor(slowness: Slowness | None, *, emulated: bool) -> float:
    """By what the deadlines of a guest are multiplied: at least 1, at most MOST."""
    if not emulated:
        return 1.0
    return round(min(MOST, slowness.factor), 1) if slowness else UNKNOWN


def allowed(timeouts: Timeouts, phase: Phase, slowness: Slowness | None, *, emulated: bool) -> Allowed:
    """How long a phase may take in a guest."""
    native_s: float = getattr(timeouts, phase.value)
    if phase not in SCALED or not timeouts.scale:
        return Allowed(native_s)
    return Allowed(native_s, factor(slowness, emulated=emulated))


def timeouts_text(timeouts: Timeouts, facts: GuestFacts, scripts: Container[Phase]) -> str:
    """How slow a guest is and how long its phases may take; empty where the matrix has it as it is."""
    known = facts.slowness
    times = factor(known, emulated=facts.emulated) if timeouts.scale else 1.0
    if times == 1.0:
        return ""
    phases = [phase for phase in Phase if phase in SCALED and (phase not in SCRIPTS or phase in scripts)]
    longest = ", ".join(f"{phase} {getattr(timeouts, phase.value) * times:g} s" for phase in phases)
    measured = (
        f"computing {known.cpu:g}, starting programs {known.fork:g}, disk {known.disk:g} times as slow as natively"
        if known
        else "it is emulated, and not known how slow it is"
    )
    return f"{measured}; timeouts × {times:g}: {longest}"


def weight(slowness: Slowness | None, *, emulated: bool) -> float | None:
    """How much longer a build with its tests takes than natively; None where that is not known.

    Such work computes and starts programs, about as much of the one as of the other.
    """
    if slowness:
        return math.sqrt(slowness.cpu * slowness.fork)
    return None if emulated else 1.0


def to_label(slowness: Slowness) -> str:
    """`14.20_20.10_9.80`: computing, starting programs, disk; of characters that a label may have."""
    return f"{slowness.cpu:.2f}_{slowness.fork:.2f}_{slowness.disk:.2f}"


def from_label(label: str) -> Slowness | None:
    """The slowness that a label says; None where it says none."""
    match = _LABEL.fullmatch(label)
    return Slowness(cpu=float(match[1]), fork=float(match[2]), disk=float(match[3])) if match else None


def slowness_text(slowness: Slowness) -> str:
    """`14× slower than native`."""
    times = math.sqrt(slowness.cpu * slowness.fork)
    return f"{times:.0f}× slower than native" if times >= 10 else f"{times:.1f}× slower than native"  # noqa: PLR2004
