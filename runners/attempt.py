"""One attempt at a cell: make a guest, take it through the phases, destroy it.

`run_attempt` is the whole of it; read it first.
"""

from __future__ import annotations

import io
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from farm.errors import DeadlineError, FarmError, GuestError, LostError, UntrustedError
from farm.model import (
    SCRIPTS,
    AttemptEnded,
    Ending,
    Event,
    Evidence,
    Failure,
    GuestFacts,
    Heartbeat,
    Held,
    LogChunk,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Stream,
    TestResult,
    TestStatus,
    Usage,
    Verdict,
)
from farm.slowness import allowed
from farm.verdict import classify
from runners.console import find_crash, tail
from runners.deadline import Deadline
from runners.guest import TICK, Backend, Chunk, Guest, Shell, Work, load_backend
from runners.logs import LogBuffer
from runners.steps import VERBS, Step, collect, steps_of, teardown

HEARTBEAT_S = 5.0
_NAMED_FAILURES = 10

Events = Generator[Event, None, None]


def run_attempt(order: Order, source: bytes, load: Callable[[str], Backend] = load_backend) -> Events:
    """Run the phases of an order in a fresh guest; `source` is an uncompressed tar of the program.

    The last event is AttemptEnded, with the evidence for a verdict. A KeyboardInterrupt (a cancel) at
    any point destroys the guest and is raised on.
    """
    attempt = Attempt(order, source, load)
    started_cpu_s = time.process_time()
    try:
        for phase, step in steps_of(order):
            if attempt.failure is None:
                yield from attempt.run(phase, step)
        if attempt.tested:
            yield from attempt.run(Phase.COLLECT, collect)
        if attempt.wants_hold:
            yield from attempt.hold()
        yield from attempt.run(Phase.TEARDOWN, teardown)
    finally:
        attempt.close()
    yield attempt.ended(time.process_time() - started_cpu_s)


class Attempt:
    """What the phases of one attempt share."""

    def __init__(self, order: Order, source: bytes, load: Callable[[str], Backend]) -> None:
        self.order = order
        self.load = load
        self.guest: Guest | None = None
        """The guest at hand: the one that builds for another, then that other one; never both."""
        self.facts: GuestFacts | None = None
        """What it is, as far as that is known by now."""
        self.shell: Shell | None = None
        self.upload: BinaryIO = io.BytesIO(source)
        """A tar: what the guest at hand gets."""
        self.builder: GuestFacts | None = None
        """The guest that has built for another one."""
        self.phase = Phase.PROVISION
        self.step = Phase.PROVISION
        """The phase of the guest at hand; not `phase` in a guest that builds for another, all in `build`."""
        self.tested = False
        self.failure: Failure | None = None
        self.found: list[Event] = []
        """Events that a step wants to send besides its log."""
        self.junit_files = 0
        self.junit_problem = ""
        self.counts: dict[TestStatus, int] = {}
        self.failed_tests: list[str] = []
        self.usage: Usage | None = None
        self.measured_at = 0.0

    def run(self, phase: Phase, step: Step) -> Events:
        """Take one step as a phase: its events, its log, its deadline, and what went wrong."""
        if phase in SCRIPTS and phase not in self.order.scripts:
            return
        self.phase = self.step = phase
        deadline = self.deadline(phase)
        started = time.monotonic()
        yield PhaseStarted(at=_now(), phase=phase)
        status: int | None = None
        failure: Failure | None = None
        try:
            status = yield from self._logged(step(self, deadline))
            if status:
                failure = Failure(
                    phase=self.step, builder=self.is_building_for_another, ending=Ending.FAILED, exit_status=status
                )
        except KeyboardInterrupt:
            yield self._ended(Ending.CANCELLED, started)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is evidence, and `verdict` decides
            failure = self._failure(error)
        self.failure = self.failure or failure
        ending = failure.ending if failure else Ending.OK
        yield self._ended(ending, started, status=status, detail=_detail(failure))

    def deadline(self, phase: Phase) -> Deadline:
        """By when a phase of the guest at hand has to be over, if it begins now."""
        emulated, slowness = (self.facts.emulated, self.facts.slowness) if self.facts else (False, None)
        time_s = allowed(self.order.timeouts, phase, slowness, emulated=emulated)
        return Deadline.after(time_s.seconds, VERBS[phase], time_s.reason)

    @property
    def is_building_for_another(self) -> bool:
        """The guest at hand is the one that builds for another."""
        return self.phase is Phase.BUILD and self.order.builder is not None

    def hold(self) -> Events:
        """Keep the guest until the time is over or it ends by itself."""
        if self.guest is None:
            return
        until = Deadline.after(self.order.hold_on_failure_s, "hold the guest")
        end = _now() + timedelta(seconds=self.order.hold_on_failure_s)
        try:
            yield Held(at=_now(), command=self.guest.access(), until=end)
            while until.remaining and not self.guest.trouble():
                time.sleep(min(1.0, until.remaining))
                yield Heartbeat(at=_now())
        except (FarmError, OSError) as error:  # the hold ends; what the attempt came to is known already
            note = f"[farm: cannot hold the guest any longer: {error}]\n".encode()
            yield LogChunk(at=_now(), phase=self.phase, stream=Stream.FARM, data=note)

    def measure(self) -> None:
        """Note what the guest has used so far."""
        self.measured_at = time.monotonic()
        if self.guest:
            self.usage = self.guest.usage()

    def ended(self, cpu_s: float) -> AttemptEnded:
        """The last event."""
        return AttemptEnded(at=_now(), evidence=self.evidence(), cpu_s=cpu_s, usage=self.usage)

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            self.destroy()
        finally:
            self.upload.close()

    def destroy(self) -> None:
        """End the guest at hand."""
        try:
            if self.shell:
                self.shell.close()
        finally:
            self.shell = None
            if self.guest:
                self.guest.destroy()
            self.guest = None

    @property
    def wants_hold(self) -> bool:
        """Something went wrong in a guest that may be looked at."""
        verdict = classify(self.evidence()).verdict
        return verdict is not Verdict.PASSED and self.order.hold_on_failure_s > 0 and self.shell is not None

    def evidence(self) -> Evidence:
        """What the verdict is made from."""
        return Evidence(
            failure=self.failure,
            junit_promised=bool(self.order.collect.junit),
            junit_files=self.junit_files,
            junit_problem=self.junit_problem,
            tests=self.counts,
            failed_tests=tuple(self.failed_tests[:_NAMED_FAILURES]),
        )

    def count(self, tests: tuple[TestResult, ...]) -> None:
        """Add results to the evidence."""
        for test in tests:
            self.counts[test.status] = self.counts.get(test.status, 0) + 1
            if test.status in (TestStatus.FAILED, TestStatus.ERROR):
                self.failed_tests.append(f"{test.suite}: {test.name}" if test.suite else test.name)

    def _logged(self, work: Work[int | None]) -> Generator[Event, None, int | None]:
        """The events of a step: its log in batches, a heartbeat where it is silent."""
        log = LogBuffer()
        sent_at = time.monotonic()
        try:
            while True:
                try:
                    chunk = next(work)
                except StopIteration as end:
                    status: int | None = end.value
                    break
                if not chunk.data:
                    chunk = self._look_at_guest()
                for event in (*self._take_found(), *self._log_events(log.add(chunk))):
                    sent_at = time.monotonic()
                    yield event
                if time.monotonic() - sent_at > HEARTBEAT_S:
                    sent_at = time.monotonic()
                    yield Heartbeat(at=_now())
        except (Exception, KeyboardInterrupt):
            yield from self._log_events(log.end())
            raise
        finally:
            work.close()
        yield from self._log_events(log.end())
        yield from self._take_found()
        return status

    def _look_at_guest(self) -> Chunk:
        """What the console said meanwhile; raises if the machine under an open connection is gone."""
        if self.guest is None:
            return TICK
        if self.shell and (trouble := self.guest.trouble()):
            raise LostError(f"cannot {VERBS[self.step]}: {trouble}")
        if time.monotonic() - self.measured_at > HEARTBEAT_S and not self.is_building_for_another:
            self.measure()
            # Of an attempt that is cancelled or lost, nothing comes after this.
            self.found.append(Heartbeat(at=_now(), usage=self.usage))
        return Chunk(Stream.CONSOLE, self.guest.heard())

    def _take_found(self) -> Events:
        found, self.found = self.found, []
        for event in found:  # noqa: UP028 - Ray sends into its generators, and a list takes nothing
            yield event

    def _log_events(self, chunks: Iterator[Chunk]) -> Iterator[Event]:
        for chunk in chunks:
            yield LogChunk(at=_now(), phase=self.phase, stream=chunk.stream, data=chunk.data)

    def _ended(self, ending: Ending, started: float, *, status: int | None = None, detail: str = "") -> PhaseEnded:
        return PhaseEnded(
            at=_now(),
            phase=self.phase,
            ending=ending,
            duration_s=time.monotonic() - started,
            exit_status=status,
            detail=detail,
        )

    def _failure(self, error: Exception) -> Failure:
        """An exception as evidence; where the guest was lost, what its console says."""
        if not isinstance(error, FarmError):
            lines = tuple("".join(traceback.format_exception(error)).splitlines()[-12:])
            return self._made_failure(error, Ending.FAILED, lines=lines)
        if not isinstance(error, GuestError) or self.guest is None:
            return self._made_failure(error, Ending.FAILED)
        try:
            self.guest.trouble()
        except FarmError as host_error:  # the guest suffers from its host
            return self._made_failure(host_error, Ending.LOST)
        console = self.guest.console()
        crash = find_crash(console) if not isinstance(error, UntrustedError) else None
        return self._made_failure(
            error,
            Ending.TIMEOUT if isinstance(error, DeadlineError) else Ending.LOST,
            crash=crash.rule if crash else "",
            lines=crash.lines if crash else tail(console),
        )

    def _made_failure(
        self, error: Exception, ending: Ending, *, crash: str = "", lines: tuple[str, ...] = ()
    ) -> Failure:
        message = str(error) or type(error).__name__
        if isinstance(error, FarmError) and error.hint:
            message += f" ({error.hint})"
        return Failure(
            phase=self.step,
            builder=self.is_building_for_another,
            ending=ending,
            error=type(error).__name__,
            message=message,
            crash=crash,
            lines=lines,
        )


def _detail(failure: Failure | None) -> str:
    """Why a phase did not end well; where that was in a phase of the builder, it says so."""
    if failure is None or not failure.message:
        return ""
    return failure.message if failure.place == failure.phase else f"{failure.place}: {failure.message}"


def _now() -> datetime:
    return datetime.now(UTC)
