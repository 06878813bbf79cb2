"""One attempt at a cell: make a guest, take it through the phases, destroy it.

`run_attempt` is the whole of it; read it first.
"""

from __future__ import annotations

import io
import shlex
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta

from farm.errors import ConfigError, DeadlineError, FarmError, GuestError, LostError, UntrustedError
from farm.model import (
    SCRIPTS,
    ArtifactFound,
    AttemptEnded,
    Ending,
    Event,
    Evidence,
    Failure,
    GuestCreated,
    Heartbeat,
    Held,
    LogChunk,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Stream,
    TestResult,
    TestsFound,
    TestStatus,
    Verdict,
)
from farm.results import read as read_results
from farm.verdict import classify
from runners.collect import WORK_FOLDER, fetch_files, list_files, matching, read_archive
from runners.console import find_crash, tail
from runners.deadline import Deadline
from runners.guest import TICK, Backend, Chunk, Guest, Shell, Work, load_backend
from runners.logs import LogBuffer

HEARTBEAT_S = 5.0
_TESTS_PER_EVENT = 1000
_BYTES_PER_EVENT = 1024 * 1024
_NAMED_FAILURES = 10

Events = Generator[Event, None, None]


def run_attempt(order: Order, source: bytes, load: Callable[[str], Backend] = load_backend) -> Events:
    """Run the phases of an order in a fresh guest; `source` is an uncompressed tar of the program.

    The last event is AttemptEnded, with the evidence for a verdict. A KeyboardInterrupt (a cancel) at
    any point destroys the guest and is raised on.
    """
    attempt = _Attempt(order, source, load)
    started_cpu_s = time.process_time()
    try:
        for phase, step in _STEPS:
            if attempt.failure is None:
                yield from attempt.run(phase, step)
        if attempt.tested:
            yield from attempt.run(Phase.COLLECT, _collect)
        if attempt.wants_hold:
            yield from attempt.hold()
        yield from attempt.run(Phase.TEARDOWN, _teardown)
    finally:
        attempt.destroy()
    yield AttemptEnded(at=_now(), evidence=attempt.evidence(), cpu_s=time.process_time() - started_cpu_s)


class _Attempt:
    """What the phases of one attempt share."""

    def __init__(self, order: Order, source: bytes, load: Callable[[str], Backend]) -> None:
        self.order = order
        self.source = source
        self.load = load
        self.guest: Guest | None = None
        self.shell: Shell | None = None
        self.phase = Phase.PROVISION
        self.tested = False
        self.failure: Failure | None = None
        self.found: list[Event] = []
        """Events that a step wants to send besides its log."""
        self.junit_files = 0
        self.junit_problem = ""
        self.counts: dict[TestStatus, int] = {}
        self.failed_tests: list[str] = []

    def run(self, phase: Phase, step: Step) -> Events:
        """Take one step as a phase: its events, its log, its deadline, and what went wrong."""
        if phase in SCRIPTS and phase not in self.order.scripts:
            return
        self.phase = phase
        allowed_s = getattr(self.order.timeouts, phase.value)
        deadline = Deadline.after(allowed_s, _VERBS[phase])
        started = time.monotonic()
        yield PhaseStarted(at=_now(), phase=phase)
        status: int | None = None
        failure: Failure | None = None
        try:
            status = yield from self._logged(step(self, deadline))
            if status:
                failure = Failure(phase=phase, ending=Ending.FAILED, exit_status=status)
        except KeyboardInterrupt:
            yield self._ended(Ending.CANCELLED, started)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is evidence, and `verdict` decides
            failure = self._failure(error)
        self.failure = self.failure or failure
        ending = failure.ending if failure else Ending.OK
        yield self._ended(ending, started, status=status, detail=failure.message if failure else "")

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

    def destroy(self) -> None:
        """Leave nothing behind."""
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
            raise LostError(f"cannot {_VERBS[self.phase]}: {trouble}")
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
            phase=self.phase, ending=ending, error=type(error).__name__, message=message, crash=crash, lines=lines
        )


Step = Callable[[_Attempt, Deadline], Work[int | None]]


def _provision(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    backend = attempt.load(attempt.order.hypervisor)
    attempt.guest = yield from backend.create(attempt.order, deadline)
    attempt.found.append(GuestCreated(at=_now(), facts=attempt.guest.facts))


def _boot(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    yield from _guest(attempt).boot(deadline)


def _connect(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    attempt.shell = yield from _guest(attempt).connect(deadline)


def _upload(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    command = f"mkdir -p {WORK_FOLDER} && tar -xf - -C {WORK_FOLDER}"
    status = yield from _shell(attempt).execute(command, deadline=deadline, stdin=io.BytesIO(attempt.source))
    if status:
        raise ConfigError(
            f"cannot unpack the source in the guest: tar returned {status}, see the log",
            hint="if the disk is too small, set guest.disk to more",
        )


def _script(attempt: _Attempt, deadline: Deadline) -> Work[int]:
    """Send the phase's script and run it, in one round trip; its own standard input is empty."""
    phase = attempt.phase
    attempt.tested = attempt.tested or phase is Phase.TEST
    path = f"/tmp/farm-{phase.value}.sh"  # noqa: S108 - in the guest
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in attempt.order.env.items())
    script = f"export {exports} FARM_PHASE={phase.value}\n{attempt.order.scripts[phase]}\n"
    command = f"cat >{path} && cd {WORK_FOLDER} && exec /bin/sh -e {path} </dev/null"
    return (yield from _shell(attempt).execute(command, deadline=deadline, stdin=io.BytesIO(script.encode())))


def _collect(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    wanted = attempt.order.collect
    if not (wanted.junit or wanted.artifacts):
        return
    names = yield from list_files(_shell(attempt), deadline)
    results, artifacts = matching(names, wanted.junit), matching(names, wanted.artifacts)
    for glob in wanted.artifacts:
        if not matching(names, (glob,)):
            yield Chunk(Stream.FARM, f"[farm: no file matches the artifact glob {glob!r}]\n".encode())
    chosen = tuple(sorted({*results, *artifacts}))
    if not chosen:
        return
    archive = yield from fetch_files(_shell(attempt), chosen, deadline)
    for name, data in read_archive(archive, chosen):
        if name in results:
            _take_results(attempt, name, data)
        if name in artifacts:
            attempt.found += [
                ArtifactFound(at=_now(), path=name, data=data[start : start + _BYTES_PER_EVENT])
                for start in range(0, max(1, len(data)), _BYTES_PER_EVENT)
            ]
        yield TICK


def _take_results(attempt: _Attempt, name: str, data: bytes) -> None:
    results = read_results(name, data)
    attempt.junit_files += 1
    attempt.junit_problem = attempt.junit_problem or results.problem
    attempt.count(results.tests)
    attempt.found += [
        TestsFound(at=_now(), tests=results.tests[start : start + _TESTS_PER_EVENT])
        for start in range(0, len(results.tests), _TESTS_PER_EVENT)
    ]


def _teardown(attempt: _Attempt, deadline: Deadline) -> Work[None]:
    while attempt.guest and (said := attempt.guest.heard()):
        yield Chunk(Stream.CONSOLE, said)
    attempt.destroy()
    deadline.check()


def _guest(attempt: _Attempt) -> Guest:
    if attempt.guest is None:
        raise LostError(f"cannot {_VERBS[attempt.phase]}: there is no guest")
    return attempt.guest


def _shell(attempt: _Attempt) -> Shell:
    if attempt.shell is None:
        raise LostError(f"cannot {_VERBS[attempt.phase]}: there is no connection to the guest")
    return attempt.shell


def _now() -> datetime:
    return datetime.now(UTC)


_STEPS: tuple[tuple[Phase, Step], ...] = (
    (Phase.PROVISION, _provision),
    (Phase.BOOT, _boot),
    (Phase.CONNECT, _connect),
    (Phase.UPLOAD, _upload),
    *((phase, _script) for phase in SCRIPTS),
)

_VERBS = {
    Phase.PROVISION: "make the guest",
    Phase.BOOT: "boot the guest",
    Phase.CONNECT: "connect to the guest",
    Phase.UPLOAD: "upload the source",
    **{phase: phase.value for phase in SCRIPTS},
    Phase.COLLECT: "collect the results",
    Phase.TEARDOWN: "tear the guest down",
}
