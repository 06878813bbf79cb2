"""What every backend must do: the same attempts in the scripted guest and in real machines.

Here those that need nothing but an emulator; `tests/lab/test_guests.py` runs the same tests on real hypervisors.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from farm.config import load_settings
from farm.model import (
    ArtifactFound,
    AttemptEnded,
    Collect,
    Ending,
    Event,
    Evidence,
    GuestCreated,
    LogChunk,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Stream,
    TestsFound,
    TestStatus,
    Timeouts,
)
from runners.attempt import run_attempt
from runners.deadline import Deadline
from runners.guest import Guest, Work
from runners.images import Catalogue, Image
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.hypervisors import QEMU
from runners.logs import HEAD_BYTES, TAIL_BYTES
from tests.orders import make_order, make_source
from tests.waiting import eventually

GONE_S = 5.0
SLOWLY = [pytest.mark.guest, pytest.mark.slow, pytest.mark.timeout(1800)]
"""A guest in Bochs takes a minute or more to boot, and has no snapshot."""

BACKENDS = [
    pytest.param({"hypervisor": "fake"}, id="fake"),
    pytest.param({"hypervisor": "qemu"}, id="qemu-amd64", marks=pytest.mark.guest),
    pytest.param({"hypervisor": "bochs"}, id="bochs", marks=SLOWLY),
]

NATIVE = ("kvm", "xen-hvm", "xen-pvh", "xen-pv", "lxc")

Backend = dict[str, Any]
"""What of an order says which backend, and what else guests need there."""


class Crash(NamedTuple):
    """How a guest is made to crash, and what is seen of it."""

    script: str
    rule: str
    said: str


PANIC = Crash("echo c > /proc/sysrq-trigger\nsleep 60\n", "kernel-panic", "sysrq triggered crash")
OFF = Crash("poweroff -f\nsleep 60\n", "powered-off", "reboot: Power down")
NO_KERNEL = Crash(OFF.script, "", "")
"""A container has no kernel of its own that could crash or say anything, and must not be able to crash its host's."""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    yield request.param
    if request.param["hypervisor"] != "fake":
        eventually(
            lambda: machines_left() == [],
            within_s=GONE_S,
            what=lambda: f"what was killed has ended; there is: {machines_left()}",
        )


def machines_left() -> list[str]:
    """Processes with machines of this runtime folder; on a busy machine one that was killed takes its time to end."""
    command = ["pgrep", "-af", "qemu-system|bochs-bin"]
    running = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [line for line in running.splitlines() if str(load_settings().runtime) in line]


def attempt(backend: Backend, test: str, *, source: bytes | None = None, **changes: Any) -> list[Event]:
    return list(run_attempt(make_order(test, **{**backend, **changes}), source or make_source()))


def within(backend: Backend, *, test: float) -> Timeouts:
    """The usual deadlines, but for the test's."""
    usual = backend.get("timeouts", Timeouts())
    return Timeouts.model_validate(usual.model_copy(update={"test": test, "scale": False}).model_dump())


def log(events: list[Event], phase: Phase, *streams: Stream) -> bytes:
    wanted = streams or (Stream.STDOUT, Stream.STDERR)
    return b"".join(e.data for e in events if isinstance(e, LogChunk) and e.phase is phase and e.stream in wanted)


def endings(events: list[Event]) -> dict[Phase, Ending]:
    return {event.phase: event.ending for event in events if isinstance(event, PhaseEnded)}


def evidence(events: list[Event]) -> Evidence:
    assert isinstance(events[-1], AttemptEnded)
    return events[-1].evidence


def test_output_and_status_of_a_script_come_back(backend: Backend) -> None:
    events = attempt(backend, "echo to-out\necho to-err >&2\nexit 3\n")
    assert log(events, Phase.TEST, Stream.STDOUT) == b"to-out\n"
    assert log(events, Phase.TEST, Stream.STDERR) == b"to-err\n"
    failure = evidence(events).failure
    assert failure
    assert (failure.phase, failure.ending, failure.exit_status) == (Phase.TEST, Ending.FAILED, 3)
    assert endings(events)[Phase.TEARDOWN] is Ending.OK


def test_an_attempt_says_what_its_guest_is_and_takes_the_phases_in_order(backend: Backend) -> None:
    events = attempt(backend, "true\n")
    facts = next(event.facts for event in events if isinstance(event, GuestCreated))
    assert (facts.hypervisor, facts.image) == (backend["hypervisor"], "debian-13/amd64")
    assert facts.emulated == (facts.hypervisor not in NATIVE)
    started = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert started == [phase for phase in Phase if phase not in (Phase.PREPARE, Phase.BUILD)]
    assert set(endings(events).values()) == {Ending.OK}
    assert b"farm-guest: ready" in log(events, Phase.BOOT, Stream.CONSOLE)
    assert evidence(events).failure is None


def test_the_source_is_there_and_what_the_globs_mean_comes_back(backend: Backend) -> None:
    source = make_source({"a/hello.txt": b"hello\n", "results/unit.tap": b"1..2\nok 1 - one\nnot ok 2 - two\n"})
    wanted = Collect(junit=("**/*.tap",), artifacts=("a/*.txt", "none/*"))
    events = attempt(backend, "cat a/hello.txt\n", source=source, collect=wanted)
    assert log(events, Phase.TEST) == b"hello\n"
    assert [(e.path, e.data) for e in events if isinstance(e, ArtifactFound)] == [("a/hello.txt", b"hello\n")]
    assert b"none/*" in log(events, Phase.COLLECT, Stream.FARM)
    found = [test for event in events if isinstance(event, TestsFound) for test in event.tests]
    assert [(test.name, test.status) for test in found] == [("one", TestStatus.PASSED), ("two", TestStatus.FAILED)]
    assert evidence(events).tests == {TestStatus.PASSED: 1, TestStatus.FAILED: 1}
    assert evidence(events).junit_files == 1


def test_a_script_that_never_ends_is_ended(backend: Backend) -> None:
    events = attempt(backend, "sleep 600\n", timeouts=within(backend, test=1.5))
    failure = evidence(events).failure
    assert failure
    assert (failure.phase, failure.ending) == (Phase.TEST, Ending.TIMEOUT)
    assert endings(events)[Phase.TEARDOWN] is Ending.OK
    said = log(events, Phase.TEST, Stream.FARM)
    assert b"[farm: its processes]" in said
    assert (b"sleep 600" in said) == (backend["hypervisor"] != "fake")


def test_a_flood_is_bounded(backend: Backend) -> None:
    events = attempt(backend, "yes\n", timeouts=within(backend, test=8))
    kept = log(events, Phase.TEST)
    assert len(kept) <= HEAD_BYTES + TAIL_BYTES
    assert kept.startswith(b"y\ny\n")
    failure = evidence(events).failure
    assert failure
    assert failure.ending is Ending.TIMEOUT


@pytest.mark.parametrize("crash", [PANIC, OFF], ids=lambda crash: crash.rule)
def test_a_crash_under_the_test_is_seen_on_the_console(backend: Backend, crash: Crash) -> None:
    if backend["hypervisor"] == "lxc":
        crash = NO_KERNEL
    events = attempt(backend, crash.script)
    failure = evidence(events).failure
    assert failure
    assert (failure.phase, failure.ending, failure.crash) == (Phase.TEST, Ending.LOST, crash.rule)
    assert any(crash.said in line for line in failure.lines)


class _Talkative:
    """Makes guests that boot and whose kernel says everything, which it usually does not."""

    def __init__(self, _name: str) -> None:
        self._backend = LibvirtBackend(QEMU)

    def create(self, order: Order, deadline: Deadline) -> Work[Guest]:
        settings = load_settings()
        catalogue = Catalogue(settings.cache / "images", settings.mirror)
        image = yield from catalogue.ensure(order.image, deadline=deadline)
        said = image.manifest.cmdline.replace("loglevel=4", "loglevel=8")
        manifest = image.manifest.model_copy(update={"cmdline": said})
        return self._backend.cold(order, Image(folder=image.folder, manifest=manifest))


@pytest.mark.guest
def test_the_console_is_there_from_its_first_byte() -> None:
    order = make_order("true\n", hypervisor="qemu")
    events = list(run_attempt(order, make_source(), load=_Talkative))
    assert evidence(events).failure is None
    (first, *_) = log(events, Phase.BOOT, Stream.CONSOLE).splitlines()
    assert re.match(rb"\[ +0\.000000\] Linux version \d", first), first


def is_in(phase: Phase, event: Event) -> bool:
    """Whether an attempt is in a phase, and has something to leave: it has nothing before the guest is made."""
    if phase is Phase.PROVISION:
        return isinstance(event, GuestCreated)
    return isinstance(event, PhaseStarted) and event.phase is phase


@pytest.mark.parametrize("phase", [Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.UPLOAD, Phase.TEST])
def test_a_cancel_in_any_phase_leaves_nothing(backend: Backend, phase: Phase) -> None:
    running = run_attempt(make_order("sleep 600\n", **backend), make_source())
    assert any(is_in(phase, event) for event in running)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
        list(running)
    assert time.monotonic() - began < GONE_S
    # `backend` looks for what is left
