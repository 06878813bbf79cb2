"""Attempts whose program is built in a guest of its own, with scripted guests."""

from __future__ import annotations

import errno
import itertools
import tempfile
from typing import Any, BinaryIO

import pytest

from farm.errors import HostError
from farm.model import (
    AttemptEnded,
    Blame,
    Builder,
    Ending,
    Event,
    Failure,
    GuestCreated,
    GuestFacts,
    Held,
    ImageSpec,
    LogChunk,
    Order,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Stream,
    Timeouts,
    Usage,
    Verdict,
)
from farm.verdict import classify
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.fake import FakeBackend, FakeGuest
from runners.guest import Shell, Work
from tests.orders import make_order, make_source

BUILDER = Builder(image=ImageSpec(name="debian-13", arch="amd64", packages=("make",)), hypervisor="fake")


class Watched:
    """A scripted guest that tells what is done to it, and in which a cancel can come."""

    def __init__(self, guest: FakeGuest, arch: str, lab: Lab) -> None:
        self._guest, self._arch, self._lab = guest, arch, lab
        lab.alive.append(arch)
        lab.most = max(lab.most, len(lab.alive))

    @property
    def facts(self) -> GuestFacts:
        return self._guest.facts

    def boot(self, deadline: Deadline) -> Work[None]:
        self._lab.tell(self._arch, "boot")
        yield from self._guest.boot(deadline)

    def connect(self, deadline: Deadline) -> Work[Shell]:
        self._lab.tell(self._arch, "connect")
        shell = yield from self._guest.connect(deadline)
        return WatchedShell(shell, self._arch, self._lab)

    def console(self) -> bytes:
        return self._guest.console()

    def heard(self) -> bytes:
        return self._guest.heard()

    def trouble(self) -> str:
        return self._guest.trouble()

    def usage(self) -> Usage:
        return self._guest.usage()

    def access(self) -> str:
        return f"enter {self._arch}"

    def destroy(self) -> None:
        self._guest.destroy()
        if self._arch in self._lab.alive:
            self._lab.alive.remove(self._arch)
            self._lab.tell(self._arch, "destroyed")


class WatchedShell:
    _NAMES = (
        ("mkdir -p /work", "upload"),
        ("cd /work && tar", "collect"),
        ("cat >/tmp/farm-build", "build"),
        ("cat >/tmp/farm-prepare", "prepare"),
        ("cat >/tmp/farm-test", "test"),
    )

    def __init__(self, shell: Shell, arch: str, lab: Lab) -> None:
        self._shell, self._arch, self._lab = shell, arch, lab

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        if name := next((name for prefix, name in self._NAMES if command.startswith(prefix)), ""):
            self._lab.tell(self._arch, name)
        return (yield from self._shell.execute(command, deadline=deadline, stdin=stdin))

    def close(self) -> None:
        self._shell.close()


class Lab:
    """A backend for all architectures that remembers in which order things happened."""

    def __init__(self, cancel_at: str = "", **boot: str) -> None:
        """`boot` plays a guest that does not come up: `amd64="hang"`, see `runners.fake`."""
        self.told: list[str] = []
        self.alive: list[str] = []
        self.most = 0
        self._cancel_at = cancel_at
        self._boot = boot

    def __call__(self, hypervisor: str) -> Lab:
        assert hypervisor == "fake"
        return self

    def create(self, order: Order, deadline: Deadline) -> Work[Watched]:
        self.tell(order.arch, "make")
        mode = {"FAKE_BOOT": self._boot.get(order.arch, "")}
        guest = yield from FakeBackend().create(order.model_copy(update={"env": order.env | mode}), deadline)
        return Watched(guest, order.arch, self)

    def tell(self, arch: str, what: str) -> None:
        self.told.append(f"{arch} {what}")
        if self.told[-1] == self._cancel_at:
            self._cancel_at = ""
            raise KeyboardInterrupt


def order_of(build: str = "echo $CC > built\n", test: str = "cat built\n", **changes: Any) -> Order:
    scripts = {Phase.PREPARE: "echo prepared\n", Phase.BUILD: build, Phase.TEST: test}
    values: dict[str, Any] = {"scripts": scripts, "builder": BUILDER, "build_env": {"CC": "riscv64-linux-gnu-gcc"}}
    return make_order(test, arch="riscv64", **(values | changes))


def run(lab: Lab, order: Order, source: bytes | None = None) -> list[Event]:
    try:
        return list(run_attempt(order, source or make_source(), lab))
    finally:
        assert lab.alive == []
        assert lab.most <= 1


def log(events: list[Event], phase: Phase, stream: Stream = Stream.STDOUT) -> str:
    chunks = [event for event in events if isinstance(event, LogChunk)]
    return b"".join(chunk.data for chunk in chunks if (chunk.phase, chunk.stream) == (phase, stream)).decode()


def outcome(events: list[Event]) -> tuple[Failure, Outcome]:
    assert isinstance(events[-1], AttemptEnded)
    failure = events[-1].evidence.failure
    assert failure
    return failure, classify(events[-1].evidence)


def ended(events: list[Event], phase: Phase) -> PhaseEnded:
    (event,) = [event for event in events if isinstance(event, PhaseEnded) and event.phase is phase]
    return event


def test_the_guest_that_tests_is_made_when_the_one_that_builds_is_gone() -> None:
    lab = Lab()
    events = run(lab, order_of())
    assert lab.told == [
        *("amd64 make", "amd64 boot", "amd64 connect", "amd64 upload", "amd64 build", "amd64 collect"),
        "amd64 destroyed",
        *("riscv64 make", "riscv64 boot", "riscv64 connect", "riscv64 upload", "riscv64 prepare", "riscv64 test"),
        "riscv64 destroyed",
    ]
    assert log(events, Phase.TEST) == "riscv64-linux-gnu-gcc\n"


def test_each_phase_is_there_once_and_the_build_comes_first() -> None:
    events = run(Lab(), order_of())
    started = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert started == [Phase.BUILD, *(phase for phase in Phase if phase is not Phase.BUILD)]
    assert {event.ending for event in events if isinstance(event, PhaseEnded)} == {Ending.OK}


def test_the_log_of_the_build_names_the_steps_of_the_builder() -> None:
    said = log(run(Lab(), order_of()), Phase.BUILD, Stream.FARM).splitlines()
    assert [line for line in said if line.startswith("[builder: ")] == [
        "[builder: provision]",
        f"[builder: debian-13/amd64 by fake, image {'0' * 12}]",
        *(f"[builder: {phase}]" for phase in ("boot", "connect", "upload", "build", "collect")),
    ]


def test_the_guest_of_the_attempt_is_the_one_that_tests_and_names_the_other() -> None:
    (facts,) = [event.facts for event in run(Lab(), order_of()) if isinstance(event, GuestCreated)]
    assert facts.image == "debian-13/riscv64"
    assert facts.builder
    assert (facts.builder.image, facts.builder.builder) == ("debian-13/amd64", None)


def test_all_that_the_build_leaves_is_there_for_the_test() -> None:
    source = make_source({"a/kept.txt": b"kept\n"})
    events = run(Lab(), order_of("echo new > a/new.txt\n", "cat a/kept.txt a/new.txt\n"), source)
    assert log(events, Phase.TEST) == "kept\nnew\n"


def test_the_compilers_are_named_to_the_build_alone() -> None:
    events = run(Lab(), order_of("echo $CC $GREETING\n", "echo $CC\n"))
    assert log(events, Phase.BUILD) == "riscv64-linux-gnu-gcc it's here\n"
    assert log(events, Phase.TEST) == "$CC\n"


def test_what_the_matrix_sets_stays() -> None:
    events = run(Lab(), order_of("echo $CC\n", "true\n", env={"CC": "clang"}))
    assert log(events, Phase.BUILD) == "clang\n"


def test_a_build_that_fails_is_the_programs_fault_and_nothing_is_tested() -> None:
    lab = Lab()
    events = run(lab, order_of("echo no >&2\nexit 2\n"))
    failure, verdict = outcome(events)
    assert (failure.phase, failure.builder, failure.exit_status) == (Phase.BUILD, True, 2)
    assert (verdict.rule, verdict.verdict, verdict.blame) == ("script-failed", Verdict.FAILED, Blame.TEST)
    assert verdict.summary == "build: the script returned 2"
    assert ended(events, Phase.BUILD).exit_status == 2
    assert ended(events, Phase.TEARDOWN).ending is Ending.OK
    assert not [line for line in lab.told if line.startswith("riscv64")]


def test_a_build_that_never_ends_is_the_programs_fault() -> None:
    _, verdict = outcome(run(Lab(), order_of("sleep 600\n", timeouts=Timeouts(build=0.3))))
    assert (verdict.rule, verdict.blame) == ("script-timeout", Blame.TEST)


NEVER_UP = {"hang": "boot", "panic": "boot", "refuse": "connect", "no-host": "provision"}
RULES = {
    "hang": ("start", Blame.INFRA, True),
    "panic": ("crash", Blame.GUEST, False),
    "refuse": ("start", Blame.INFRA, True),
    "no-host": ("host", Blame.INFRA, True),
}


@pytest.mark.parametrize("mode", NEVER_UP)
def test_a_builder_that_does_not_come_up_is_not_the_programs_fault(mode: str) -> None:
    lab = Lab(amd64=mode)
    events = run(lab, order_of(timeouts=Timeouts(boot=0.3)))
    failure, verdict = outcome(events)
    assert (failure.phase, failure.builder) == (Phase(NEVER_UP[mode]), True)
    assert (verdict.rule, verdict.blame, verdict.retry) == RULES[mode]
    assert verdict.summary.startswith(f"{NEVER_UP[mode]} of the builder: ")
    assert ended(events, Phase.BUILD).detail.startswith(f"{NEVER_UP[mode]} of the builder: cannot ")
    assert not [line for line in lab.told if line.startswith("riscv64")]


@pytest.mark.parametrize("mode", NEVER_UP)
def test_where_the_guest_that_tests_does_not_come_up_it_is_not_called_the_builder(mode: str) -> None:
    failure, verdict = outcome(run(Lab(riscv64=mode), order_of(timeouts=Timeouts(boot=0.3))))
    assert (failure.phase, failure.builder) == (Phase(NEVER_UP[mode]), False)
    assert (verdict.rule, verdict.blame, verdict.retry) == RULES[mode]
    assert verdict.summary.startswith(f"{NEVER_UP[mode]}: ")


def test_a_builder_that_is_slow_to_end_is_no_reason_not_to_test() -> None:
    events = run(Lab(), order_of(timeouts=Timeouts(teardown=1e-6)))
    assert ended(events, Phase.BUILD).ending is Ending.OK
    assert log(events, Phase.TEST) == "riscv64-linux-gnu-gcc\n"


def test_a_builder_that_cannot_be_ended_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_guest: FakeGuest) -> Usage:
        raise HostError("cannot ask the host: it does not answer")

    monkeypatch.setattr(FakeGuest, "usage", usage)
    lab = Lab()
    failure, verdict = outcome(run(lab, order_of()))
    assert (failure.phase, failure.builder) == (Phase.TEARDOWN, True)
    assert (verdict.rule, verdict.blame, verdict.retry) == ("host", Blame.INFRA, True)
    assert verdict.summary == "teardown of the builder: cannot ask the host: it does not answer"
    assert not [line for line in lab.told if line.startswith("riscv64")]


def test_a_builder_that_crashes_under_the_script_is_seen_on_its_console() -> None:
    failure, verdict = outcome(run(Lab(), order_of("echo c > /proc/sysrq-trigger\n")))
    assert (failure.phase, failure.crash) == (Phase.BUILD, "kernel-panic")
    assert (verdict.rule, verdict.blame) == ("crash-in-script", Blame.GUEST)


def test_more_than_fits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runners.steps.BUILT_BYTES", 1024 * 1024)
    lab = Lab()
    events = run(lab, order_of(), make_source({"large": bytes(2 * 1024 * 1024)}))
    failure, verdict = outcome(events)
    assert (failure.phase, failure.error) == (Phase.COLLECT, "UntrustedError")
    assert (verdict.rule, verdict.blame, verdict.retry) == ("unacceptable", Blame.TEST, False)
    assert "collect of the builder: cannot collect from the guest: more than 1 MiB came" in verdict.summary
    assert "let `build` remove what the test does not need" in verdict.summary
    assert not [line for line in lab.told if line.startswith("riscv64")]


class FullFile:
    """A file on a disk that is full."""

    def write(self, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self) -> None:
        """Nothing is open."""


def test_a_host_without_room_for_what_was_built_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", FullFile)
    _, verdict = outcome(run(Lab(), order_of()))
    assert (verdict.rule, verdict.blame, verdict.retry) == ("host-full", Blame.INFRA, True)
    assert "cannot keep what was built: No space left on device" in verdict.summary


def test_a_builder_that_failed_is_held() -> None:
    events = run(Lab(), order_of("false\n", hold_on_failure_s=60.0, hold_limit_s=0.2))
    assert [event.command for event in events if isinstance(event, Held)] == ["enter amd64"]


def test_secrets_reach_both_guests_and_no_log() -> None:
    events = run(Lab(), order_of("echo b $TOKEN\n", "echo t $TOKEN\n", secrets={"TOKEN": "of-nobody"}))
    assert log(events, Phase.BUILD).splitlines()[-1] == "b ***"
    assert log(events, Phase.TEST) == "t ***\n"
    assert "of-nobody" not in repr(events)


STEPS = [
    *(f"amd64 {step}" for step in ("make", "boot", "connect", "upload", "build", "collect", "destroyed")),
    *(f"riscv64 {step}" for step in ("make", "boot", "connect", "upload", "prepare", "test", "destroyed")),
]


@pytest.mark.parametrize("step", STEPS)
def test_a_cancel_in_any_step_leaves_neither_guest(step: str) -> None:
    lab = Lab(cancel_at=step)
    with pytest.raises(KeyboardInterrupt):
        run(lab, order_of())
    assert step in lab.told


@pytest.mark.parametrize("arch", ["amd64", "riscv64"])
def test_a_cancel_between_events_leaves_neither_guest(arch: str) -> None:
    lab = Lab()
    building, testing = ("sleep 600\n", "true\n") if arch == "amd64" else ("true\n", "sleep 600\n")
    phase = Phase.BUILD if arch == "amd64" else Phase.TEST
    running = run_attempt(order_of(building, testing), make_source(), lab)
    assert any(isinstance(event, LogChunk | PhaseStarted) and event.phase is phase for event in running)
    with pytest.raises(KeyboardInterrupt):
        list(itertools.chain([running.throw(KeyboardInterrupt())], running))
    assert lab.alive == []
