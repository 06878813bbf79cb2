"""One attempt at a cell: make a guest, take it through the phases, destroy it.

`run_attempt` is the whole of it; read it first.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO

from farm.errors import FarmError, HostError, LostError
from farm.mask import needles_of, without_secrets
from farm.model import (
    SCRIPTS,
    AttemptEnded,
    Ending,
    Event,
    Evidence,
    Failure,
    GuestFacts,
    Heartbeat,
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
from farm.slowness import allowed, factor
from farm.verdict import classify
from runners import failures
from runners.console import HUNG
from runners.deadline import Deadline
from runners.guest import TICK, Backend, Chunk, Guest, Shell, Work, load_backend
from runners.hold import HEARTBEAT_S, hold
from runners.lastwords import ANSWER_S, NO_ANSWER, last_words
from runners.logs import Discretion, LogBuffer
from runners.steps import VERBS, Step, collect, steps_of, teardown

_NAMED_FAILURES = 10
_SAID_BYTES = 4096

Events = Generator[Event, None, None]


def run_attempt(order: Order, source: bytes, load: Callable[[str], Backend] = load_backend) -> Events:
    """Run the phases of an order in a fresh guest; `source` is an uncompressed tar of the program.

    The last event is AttemptEnded, with the evidence for a verdict. A KeyboardInterrupt (a cancel) at
    any point destroys the guest and is raised on.
    """
    attempt = Attempt(order, source, load)
    try:
        for phase, step in steps_of(order):
            if attempt.failure is None:
                yield from attempt.run(phase, step)
        if attempt.tested:
            yield from attempt.run(Phase.COLLECT, collect)
        if attempt.wants_hold:
            yield from hold(attempt)
        yield from attempt.run(Phase.TEARDOWN, teardown)
    finally:
        attempt.close()
    yield attempt.ended()


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
        self.needles = needles_of(order.secrets.values())
        """What must not be said to anybody."""
        self._said = b""
        """The last that the script of this phase wrote."""
        self._discretion = Discretion(self.needles)
        self._started_cpu_s = time.process_time()

    def run(self, phase: Phase, step: Step) -> Events:
        """Take one step as a phase: its events, its log, its deadline, and what went wrong."""
        if phase in SCRIPTS and phase not in self.order.scripts:
            return
        self.phase = self.step = phase
        deadline = self.deadline(phase)
        started = time.monotonic()
        yield PhaseStarted(at=_now(), phase=phase)
        self._said = b""
        try:
            status, failure = yield from self._taken(step, deadline)
        except KeyboardInterrupt:
            yield self._ended(Ending.CANCELLED, started)
            raise
        self.failure = self.failure or failure
        ending = failure.ending if failure else Ending.OK
        yield self._ended(ending, started, status=status, detail=failures.detail(failure))

    def deadline(self, phase: Phase) -> Deadline:
        """By when a phase of the guest at hand has to be over, if it begins now."""
        emulated, slowness = (self.facts.emulated, self.facts.slowness) if self.facts else (False, None)
        time_s = allowed(self.order.timeouts, phase, slowness, emulated=emulated)
        return Deadline.after(time_s.seconds, VERBS[phase], time_s.reason)

    @property
    def is_building_for_another(self) -> bool:
        """The guest at hand is the one that builds for another."""
        return self.phase is Phase.BUILD and self.order.builder is not None

    def measure(self) -> None:
        """Note what the guest has used so far."""
        self.measured_at = time.monotonic()
        if self.guest:
            self.usage = self.guest.usage()

    def ended(self) -> AttemptEnded:
        """The last event."""
        cpu_s = time.process_time() - self._started_cpu_s
        return AttemptEnded(at=_now(), evidence=self.evidence(), cpu_s=cpu_s, usage=self.usage)

    def close(self) -> None:
        """Leave nothing behind."""
        try:
            with suppress(HostError):  # its host is out of reach: the reaper goes on trying, and the attempt has an end
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
            guest, self.guest = self.guest, None
            if guest:
                guest.destroy()

    @property
    def wants_hold(self) -> bool:
        """It was reserved, or something went wrong in a guest that may be looked at."""
        if self.shell is None:
            return False
        if self.order.reserved_s:
            return self.failure is None
        return self.order.hold_on_failure_s > 0 and classify(self.evidence()).verdict is not Verdict.PASSED

    def evidence(self) -> Evidence:
        """What the verdict is made from."""
        return Evidence(
            failure=self.failure,
            tested=self.tested or Phase.TEST not in self.order.scripts,
            junit_promised=bool(self.order.collect.junit),
            junit_files=self.junit_files,
            junit_problem=self.junit_problem,
            tests=self.counts,
            failed_tests=tuple(self.failed_tests[:_NAMED_FAILURES]),
            reserved=self.order.reserved_s > 0,
        )

    def count(self, tests: tuple[TestResult, ...]) -> None:
        """Add results to the evidence."""
        for test in tests:
            self.counts[test.status] = self.counts.get(test.status, 0) + 1
            if test.status in (TestStatus.FAILED, TestStatus.ERROR):
                self.failed_tests.append(f"{test.suite}: {test.name}" if test.suite else test.name)

    def _taken(self, step: Step, deadline: Deadline) -> Generator[Event, None, tuple[int | None, Failure | None]]:
        """Take a step to its end: the status of its script, and what went wrong."""
        try:
            status = yield from self._logged(step(self, deadline))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is evidence, and `verdict` decides
            failure = without_secrets(self.needles, failures.of_error(error, self.guest, self._where))
            return None, (yield from self._stuck(failure)) if failure.ending is Ending.TIMEOUT else failure
        if not status:
            return status, None
        failure = failures.of_script(status, self._said, self.guest, self._where)
        return status, without_secrets(self.needles, failure)

    @property
    def _where(self) -> failures.Where:
        return failures.Where(self.step, self.is_building_for_another)

    def _stuck(self, failure: Failure) -> Generator[Event, None, Failure]:
        """Log what the guest still has to say where a phase was not done in time; the failure, with what that tells."""
        if self.guest is None:
            return failure
        emulated, slowness = (self.facts.emulated, self.facts.slowness) if self.facts else (False, None)
        times = factor(slowness, emulated=emulated) if self.order.timeouts.scale else 1.0
        try:
            answers = yield from self._logged(last_words(self.guest, self.shell, ANSWER_S * times))
        except FarmError:  # it is gone by now, or its host is: what ended the phase stands
            return failure
        if answers == 1 and not failure.crash:
            return failure.model_copy(update={"crash": HUNG, "lines": (*failure.lines, NO_ANSWER)})
        return failure

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
                for event in (*self._take_found(), *self._log_events(log.add(self._discretion.take(chunk)))):
                    sent_at = time.monotonic()
                    yield event
                if time.monotonic() - sent_at > HEARTBEAT_S:
                    sent_at = time.monotonic()
                    yield Heartbeat(at=_now())
        except (Exception, KeyboardInterrupt):
            yield from self._log_events(self._last_of(log))
            raise
        finally:
            work.close()
        yield from self._log_events(self._last_of(log))
        yield from self._take_found()
        return status

    def _last_of(self, log: LogBuffer) -> Iterator[Chunk]:
        for chunk in self._discretion.rest(console=self.phase is Phase.TEARDOWN):
            yield from log.add(chunk)
        yield from log.end()

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
            if chunk.stream in (Stream.STDOUT, Stream.STDERR):
                self._said = (self._said + chunk.data)[-_SAID_BYTES:]
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


def _now() -> datetime:
    return datetime.now(UTC)
