"""What hypervisors are like to have guests on, as measured by having some."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from farm.model.attempt import GuestFacts, Slowness
from farm.model.base import Model
from farm.model.plan import Offer


class Tried(Model):
    """One guest, in seconds and MiB."""

    facts: GuestFacts
    provision_s: float
    """Until it is made, its image being there."""
    boot_s: float
    """Until its system says that it is up; restored or cold, as `facts.start` says."""
    connect_s: float
    """Until a first command has returned."""
    step_s: float
    """A command on the open connection, the middle one of several."""
    taken_mib: int
    """How much less memory its host has free while it runs, idle: what it costs, whatever it was promised."""
    destroy_s: float


class Trial(Model):
    """A hypervisor of a host, by its guests."""

    host: str
    offer: Offer
    guests: tuple[Tried, ...] = ()
    slowness: Slowness | None = None
    problem: str = ""
    """Why there are no figures."""

    def middle(self, figure: Callable[[Tried], float]) -> float:
        """The middle one of all guests."""
        return statistics.median(map(figure, self.guests))
