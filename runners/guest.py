"""What an attempt needs of a hypervisor: three small protocols, and how backends are found.

Everything that may take long is a generator: it yields pieces of log as they come, and empty pieces
while nothing comes (at least one a second), so that its caller can beat, cancel and look at the clock.
What it comes to is its return value.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib.metadata import entry_points
from typing import BinaryIO, NamedTuple, Protocol, TypeVar

from farm.config import Settings, load_settings
from farm.errors import ConfigError
from farm.model import GuestFacts, Offer, Order, Stream, Usage
from runners.deadline import Deadline


class Chunk(NamedTuple):
    """A piece of a log; an empty one says only that work goes on."""

    stream: Stream
    data: bytes


TICK = Chunk(Stream.FARM, b"")

T = TypeVar("T")
Work = Generator[Chunk, None, T]
"""Something that takes time, talks meanwhile, and comes to a T."""


def wait_for(work: Work[T]) -> T:
    """Do some work to its end, without listening."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


class Shell(Protocol):
    """A connection to a guest in which commands run."""

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        """Run a command line of the guest's `/bin/sh`; comes to its exit status.

        Standard output and error come interleaved as they arrive. Raises DeadlineError, and LostError
        where the connection goes away.
        """

    def close(self) -> None:
        """Close the connection; no harm if it is gone."""


class Guest(Protocol):
    """The machine of one attempt."""

    @property
    def facts(self) -> GuestFacts:
        """What it really is."""

    def boot(self, deadline: Deadline) -> Work[None]:
        """Start it and wait until its system says that it is up. Raises DeadlineError, LostError."""

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Come to a shell in which a command has returned 0. Raises ConnectError, LostError, DeadlineError."""

    def console(self) -> bytes:
        """The last 64 KiB its console said."""

    def heard(self) -> bytes:
        """What its console said since this was last asked."""

    def trouble(self) -> str:
        """Why it cannot go on although nobody told it to stop; empty where it runs.

        Raises FullError where it stands still because the host's disk is full.
        """

    def usage(self) -> Usage:
        """What it has used so far, by its host's account; of a machine that has ended, what was known last."""

    def access(self) -> str:
        """The command with which a person on its host gets in."""

    def invitation(self) -> str:
        """The same for somebody whose own key it knows: a command that needs no file of the host's."""

    def destroy(self) -> None:
        """End it and remove everything that was made for it; may be called at any time and again."""


class Backend(Protocol):
    """A way to make guests."""

    def create(self, order: Order, deadline: Deadline) -> Work[Guest]:
        """Make the guest of an order, not started yet. Raises HostError; leaves nothing behind then."""

    def look(self) -> tuple[Offer, ...]:
        """What it can run on the host of its settings, as far as that can be said without running a machine.

        One that has nothing to do with that host offers nothing.
        """

    def probe(self) -> tuple[Offer, ...]:
        """The same, found out by running something of each kind.

        Raises HostError where that failed for a reason that says nothing about the hypervisor.
        """


def backend_names() -> tuple[str, ...]:
    """The hypervisors that there are backends for."""
    return tuple(sorted(entry_points(group="farm.backends").names))


def load_backend(hypervisor: str, settings: Settings | None = None) -> Backend:
    """The backend that the entry point `farm.backends` of this name points to, a callable of the settings.

    It is for the host that `Settings.uri` names. Raises ConfigError.
    """
    found = entry_points(group="farm.backends")
    if hypervisor not in found.names:
        known = ", ".join(backend_names())
        raise ConfigError(f"cannot use hypervisor {hypervisor!r}: there is no such backend", hint=f"known: {known}")
    backend: Backend = found[hypervisor].load()(settings or load_settings())
    return backend
