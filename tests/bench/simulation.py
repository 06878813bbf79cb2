"""A hundred thousand cells on a thousand hosts: `python -m tests.bench.simulation`; prints rows of docs/performance.md.

The store, the controller and the schedule are the real ones; the guests only take their time, which is skipped. The
clock of this is what the process has computed plus what it has waited, so what the controller itself takes counts, and
what others take on the same machine does not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import random
import selectors
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog

from farm.controller import Controller
from farm.errors import AttemptCancelledError
from farm.matrix import expansion, loads
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    Evidence,
    Host,
    Offer,
    Order,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Placed,
    ResolvedSource,
    Submission,
)
from farm.planner import plan
from farm.store import Store

_CELLS_OF_A_RUN = 1000
_MIDDLE_S = 300.0
_MATRIX = """\
name: simulation
axes:
  image: [debian-13]
  arch: [amd64]
  hypervisor: [fake]
  n: [{numbers}]
guest: {{memory: 128M}}
test: "true"
"""


class Skipping(asyncio.SelectorEventLoop):
    """An event loop that skips what it would have waited."""

    def __init__(self) -> None:
        self.skipped_s = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Seconds that were computed or skipped."""
        return time.process_time() + self.skipped_s


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Skipping) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        """What is there; else the time is over at once. Without an end to wait for, somebody else has work to do."""
        if ready := super().select(0):
            return ready
        if timeout is None:
            return super().select()
        self._loop.skipped_s += max(0.0, timeout)
        return ready


@dataclass
class Players:
    """Implements `farm.attempts.Executor`: guests that take as long as they are said to, one on a host."""

    there: tuple[Host, ...]
    takes_s: Callable[[AttemptKey], float]
    begun: int = 0
    worked_s: float = 0.0
    ended: Callable[[], None] = lambda: None
    under_way: dict[AttemptKey, asyncio.Event] = field(default_factory=dict)
    free: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free = [host.name for host in self.there]

    def hosts(self) -> tuple[Host, ...]:
        """All of them."""
        return self.there

    def offer_source(self, digest: str, archive: Path | None) -> None:
        """Nobody unpacks it."""

    def withdraw_source(self, digest: str) -> None:
        """Nobody has it."""

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """One phase, which takes all the time."""
        cancelled = self.under_way[order.key] = asyncio.Event()
        self.begun += 1
        seconds, host = self.takes_s(order.key), self.free.pop()  # the schedule starts no more than have room
        try:
            yield Placed(at=now(), host=host)
            yield PhaseStarted(at=now(), phase=Phase.TEST)
            if await _within(cancelled, seconds):
                raise AttemptCancelledError("the attempt was cancelled")
            self.worked_s += seconds
            yield PhaseEnded(at=now(), phase=Phase.TEST, ending=Ending.OK, duration_s=seconds, exit_status=0)
            yield AttemptEnded(at=now(), evidence=Evidence())
        finally:
            del self.under_way[order.key]
            self.free.append(host)
            self.ended()

    async def cancel(self, key: AttemptKey) -> None:
        """It ends at once."""
        if key in self.under_way:
            self.under_way[key].set()


async def _within(event: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


class Silent:
    """A Watcher that does not look."""

    def event(self, key: AttemptKey, event: Event) -> None:
        """Nothing."""

    def concluded(self, cell: str, outcome: Outcome) -> None:
        """Nothing."""


@dataclass
class Result:
    """What a simulation came to; seconds by its own clock."""

    cells: int
    attempts: int
    makespan_s: float
    bound_s: float
    """Nobody can do it in less: the work shared out evenly."""
    cpu_s: float
    memory_mib: list[float]
    """Of the process, each time that a tenth was done."""
    cancel_s: float
    """From the wish to end a run until all its guests are gone and it is finished."""

    def rows(self, hosts: int) -> str:
        """In Markdown."""
        return "\n".join(self._rows(f"{self.cells} cells on {hosts} hosts"))

    def _rows(self, what: str) -> Iterator[str]:
        yield (
            f"| {what}: until the last has ended, against the work shared out evenly | ≤ 1.05 |"
            f" {self.makespan_s:.0f} s | {self.bound_s:.0f} s | {self.makespan_s / self.bound_s:.3f} |"
        )
        first, most = self.memory_mib[0], max(self.memory_mib)
        yield (
            f"| the same: memory of the controller, the most of it, against a tenth done | ≤ 500 MiB |"
            f" {most:.0f} MiB | {first:.0f} MiB | {most / first:.2f} |"
        )
        yield (
            f"| the same: CPU time of the controller for an attempt, against how often one ends | |"
            f" {1000 * self.cpu_s / self.attempts:.1f} ms | {1000 * self.makespan_s / self.attempts:.1f} ms |"
            f" {self.cpu_s / self.makespan_s:.3f} |"
        )
        yield (
            f"| the same: cancelling a run that all hosts are at work on | ≤ 5 s |"
            f" {self.cancel_s:.2f} s | 5 s | {self.cancel_s / 5:.2f} |"
        )


@dataclass
class _Tenths:
    """Counts attempts that end, and looks at the memory after each tenth of them."""

    cells: int
    seen: int = 0
    memory_mib: list[float] = field(default_factory=list)

    def ended(self) -> None:
        """One more."""
        self.seen += 1
        if self.seen % max(1, self.cells // 10) == 0:
            gc.collect()
            self.memory_mib.append(_resident_mib())


def simulate(folder: Path, cells: int, hosts: int, seed: int = 1) -> Result:
    """Take so many cells to their end on so many hosts, then cancel one more run while it is under way."""
    there, usual = tuple(_host(number) for number in range(hosts)), _usual(seed)
    players = Players(there, lambda key: usual[key.cell] * random.Random(f"{seed} {key}").uniform(0.8, 1.2))  # noqa: S311
    submission = _submission(there, usual)
    store = Store.open(f"sqlite:///{folder / 'farm.db'}", folder)
    try:
        for number in range(cells // _CELLS_OF_A_RUN):
            store.create_run(_named(submission, f"run{number}"), now=now())
        loop = Skipping()
        # Silence is counted by the clock on the wall, which is not the one of this: nobody is lost by it here.
        with patch("farm.attempts.LEASE_S", math.inf), asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(_carried_out(loop, store, players, cells, _named(submission, "cancelled")))
    finally:
        store.close()


async def _carried_out(loop: Skipping, store: Store, players: Players, cells: int, another: Submission) -> Result:
    tenths = _Tenths(cells)
    players.ended = tenths.ended
    controller, stop = Controller(store, players, Silent()), asyncio.Event()
    began_s, began_cpu_s = loop.time(), time.process_time()
    serving = asyncio.create_task(controller.serve(stop))
    await _until(lambda: tenths.seen >= cells and not store.unfinished())
    took_s, cpu_s = loop.time() - began_s, time.process_time() - began_cpu_s
    begun, bound_s = players.begun, players.worked_s / len(players.there)
    cancel_s = await _cancelled(store, controller, players, another, loop)
    stop.set()
    await serving
    return Result(cells, begun, took_s, bound_s, cpu_s, tenths.memory_mib, cancel_s)


async def _cancelled(
    store: Store, controller: Controller, players: Players, submission: Submission, loop: Skipping
) -> float:
    run = store.create_run(submission, now=now()).id
    controller.wake()
    full = min(len(submission.plan.placements), len(players.there))
    await _until(lambda: len(players.under_way) >= full)
    began_s = loop.time()
    controller.cancel(run)
    await _until(lambda: not players.under_way and not store.unfinished(), 0.05)
    return loop.time() - began_s


async def _until(true: Callable[[], bool], look_s: float = 1.0) -> None:
    while not true():  # noqa: ASYNC110 - it does so in the database
        await asyncio.sleep(look_s)


def _usual(seed: int) -> Mapping[str, float]:
    """How long cells take as a rule: most some minutes, a few half an hour."""
    dice = random.Random(seed)  # noqa: S311 - the same in every measurement
    return {
        f"debian-13/amd64/fake/n={number}": min(1800.0, dice.lognormvariate(0, 0.7) * _MIDDLE_S)
        for number in range(_CELLS_OF_A_RUN)
    }


def _host(number: int) -> Host:
    offers = (Offer(hypervisor="fake", arch="amd64", emulated=True, scripted=True),)
    return Host(name=f"h{number}", uri="played", vcpus=1, memory_mib=128, offers=offers)


def _submission(hosts: tuple[Host, ...], usual: Mapping[str, float]) -> Submission:
    matrix = loads(_MATRIX.format(numbers=", ".join(map(str, range(_CELLS_OF_A_RUN)))), file="simulation").matrix
    planned = plan(matrix, expansion(matrix), hosts, durations=usual)
    assert {placement.cell.id for placement in planned.placements} == usual.keys()
    source = ResolvedSource(kind="folder", description=".", digest="d", archive="", files=0, bytes=0)
    return Submission(plan=planned, source=source, served=True)


def _named(submission: Submission, name: str) -> Submission:
    matrix = submission.plan.matrix.model_copy(update={"name": name})
    return submission.model_copy(update={"plan": submission.plan.model_copy(update={"matrix": matrix})})


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description="Simulate a large farm; see docs/performance.md.")
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--hosts", type=int, default=1000)
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        print(simulate(Path(folder), told.cells, told.hosts).rows(told.hosts), flush=True)


if __name__ == "__main__":
    main()
