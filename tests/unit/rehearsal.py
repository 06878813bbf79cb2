"""An executor in memory: attempts play a part that the test has written for their cell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path

from farm.errors import AttemptCancelledError, AttemptLostError, HostError
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Event,
    Evidence,
    Failure,
    Host,
    Offer,
    Order,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseStarted,
)
from farm.model.words import Ending

Part = Callable[[Order], AsyncGenerator[Event, None]]


async def passes(_order: Order) -> AsyncGenerator[Event, None]:
    """A test that is there at once, and passes."""
    yield PhaseStarted(at=now(), phase=Phase.TEST)
    yield PhaseEnded(at=now(), phase=Phase.TEST, ending=Ending.OK, duration_s=0.0, exit_status=0)
    yield AttemptEnded(at=now(), evidence=Evidence())


async def fails(_order: Order) -> AsyncGenerator[Event, None]:
    """A test that is there at once, and fails."""
    failure = Failure(phase=Phase.TEST, ending=Ending.FAILED, exit_status=3)
    yield AttemptEnded(at=now(), evidence=Evidence(failure=failure))


async def waits(_order: Order) -> AsyncGenerator[Event, None]:
    """A test that goes on until it is cancelled."""
    yield PhaseStarted(at=now(), phase=Phase.TEST)
    await asyncio.Event().wait()


async def is_lost(_order: Order) -> AsyncGenerator[Event, None]:
    """A worker that dies."""
    yield PhaseStarted(at=now(), phase=Phase.BOOT)
    raise AttemptLostError("its worker died")


async def is_a_defect(_order: Order) -> AsyncGenerator[Event, None]:
    """Something that nobody has thought of."""
    yield PhaseStarted(at=now(), phase=Phase.BOOT)
    raise ZeroDivisionError


def a_host(name: str, vcpus: int) -> Host:
    """One that runs everything that tests place."""
    offers = (Offer(hypervisor="qemu", arch="amd64", emulated=True),)
    return Host(name=name, uri="u", vcpus=vcpus, memory_mib=1 << 20, offers=offers)


class Rehearsal:
    """Implements `farm.attempts.Executor`."""

    def __init__(self, slots: int = 4) -> None:
        self.slots = slots
        """vCPUs of guests that have room together."""
        self.there: tuple[Host, ...] = ()
        """The hosts, where it is not one with so many."""
        self.parts: dict[str, list[Part]] = {}
        """Of cells, for each attempt the next; `passes` for all that follow."""
        self.orders: list[Order] = []
        """All that were given, in their order."""
        self.most = 0
        """Attempts that were under way together."""
        self.sources: set[str] = set()
        """Those that every worker can have."""
        self.refused: set[str] = set()
        """Sources that are not taken."""
        self.under_way: dict[AttemptKey, asyncio.Event] = {}
        self.started = asyncio.Condition()

    def offer_source(self, digest: str, archive: Path | None) -> None:  # noqa: ARG002
        """Note it."""
        if digest in self.refused:
            raise HostError("cannot give the source to Ray: its head does not answer")
        self.sources.add(digest)

    def withdraw_source(self, digest: str) -> None:
        """Forget it."""
        self.sources.discard(digest)

    def hosts(self) -> tuple[Host, ...]:
        """One, unless a test says otherwise."""
        return self.there or (a_host("h", self.slots),)

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Play the next part of the order's cell."""
        cancelled = self.under_way[order.key] = asyncio.Event()
        self.orders.append(order)
        self.most = max(self.most, len(self.under_way))
        parts = self.parts.get(order.key.cell, [])
        events = (parts.pop(0) if parts else passes)(order)
        stop = asyncio.ensure_future(cancelled.wait())
        try:
            async with self.started:
                self.started.notify_all()
            while True:
                step = asyncio.ensure_future(anext(events, None))
                await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    raise AttemptCancelledError("the attempt was cancelled")
                if (event := step.result()) is None:
                    return
                yield event
        finally:
            stop.cancel()
            del self.under_way[order.key]

    async def cancel(self, key: AttemptKey) -> None:
        """End an attempt."""
        if key in self.under_way:
            self.under_way[key].set()

    async def until_started(self, count: int) -> None:
        """Wait until so many orders have been given altogether."""
        async with self.started:
            await self.started.wait_for(lambda: len(self.orders) >= count)


class Silent:
    """Implements `farm.controller.Watcher`; remembers what cells came to."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}

    def event(self, key: AttemptKey, event: Event) -> None:
        """Nothing is shown."""

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """Remember it."""
        self.outcomes[cell] = outcome


def now() -> datetime:
    """By the clock of the test's machine."""
    return datetime.now(UTC)
