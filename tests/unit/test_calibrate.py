"""Measuring how slow a guest is: the program for real, on this host, and with a played guest what is made of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.config import Settings
from farm.errors import HostError, LostError, UntrustedError
from farm.model import GuestFacts, Host, Offer, Order, Slowness, Start, Stream, Usage
from runners import calibrate as module
from runners.calibrate import (
    KINDS,
    LEAST,
    Calibrations,
    Rates,
    compare,
    measured_before,
    measured_in,
    middle,
    rate,
    read_numbers,
)
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work, wait_for
from tests.orders import make_order

DIGEST = "d" * 64


class RealShell:
    """A shell that runs its commands on this host, with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        yield TICK
        sent = stdin.read() if stdin else b""
        environment = os.environ | {"HOME": str(self.home)}
        ended = subprocess.run(
            ["/bin/sh", "-c", command],
            input=sent,
            capture_output=True,
            env=environment,
            timeout=deadline.remaining,
            check=False,
        )
        yield Chunk(Stream.STDOUT, ended.stdout)
        yield Chunk(Stream.STDERR, ended.stderr)
        return ended.returncode

    def close(self) -> None:
        """It is no connection."""


class PlayedShell:
    """A shell of a guest that does a tenth of what its host does."""

    def __init__(self) -> None:
        self.broken = self.closed = False
        self.commands: list[str] = []

    def execute(self, command: str, *, deadline: Deadline, stdin: BinaryIO | None = None) -> Work[int]:
        deadline.check()
        assert stdin
        assert stdin.read() == module.PROGRAM
        self.commands.append(command)
        yield Chunk(Stream.STDOUT, b"farm-rate 10.0000 1.0000\n")
        return 0

    def close(self) -> None:
        self.closed = True


HOST = b"farm-rate 100.0000 1.0000\n"
TENFOLD = Slowness(cpu=10, fork=10, disk=10)


class PlayedGuest:
    """A guest with such a shell."""

    def __init__(self, facts: GuestFacts, shell: PlayedShell) -> None:
        self.facts, self.shell = facts, shell
        self.destroyed = False

    def boot(self, deadline: Deadline) -> Work[None]:
        deadline.check()
        yield TICK

    def connect(self, deadline: Deadline) -> Work[PlayedShell]:
        deadline.check()
        yield TICK
        if self.shell.broken:
            raise LostError("cannot connect to the guest: it is gone")
        return self.shell

    def usage(self) -> Usage:
        return Usage()

    def destroy(self) -> None:
        self.destroyed = True


class PlayedBackend:
    """Makes them, and remembers what for."""

    def __init__(self, facts: GuestFacts, shell: PlayedShell) -> None:
        self.facts, self.shell = facts, shell
        self.orders: list[Order] = []
        self.guests: list[PlayedGuest] = []

    def create(self, order: Order, deadline: Deadline) -> Work[Any]:
        deadline.check()
        yield TICK
        self.orders.append(order)
        self.guests.append(PlayedGuest(self.facts, self.shell))
        return self.guests[-1]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = Settings(cache=tmp_path / "cache", state=tmp_path / "state", runtime=tmp_path / "runtime")
    monkeypatch.setattr(module, "load_settings", lambda: made)
    monkeypatch.setattr(module, "_on_host", lambda _folder, _kind: HOST)
    return made


@pytest.fixture
def shell() -> PlayedShell:
    return PlayedShell()


def soon() -> Deadline:
    return Deadline.after(60, "measure")


def facts(start: Start = Start.RESTORED, **changes: Any) -> GuestFacts:
    values: dict[str, Any] = {
        "host": "host", "hypervisor": "qemu", "hypervisor_version": "10.0.2", "emulated": True,
        "machine": "s390-ccw-virtio", "cpu": "max", "image": "debian-13/s390x", "image_digest": DIGEST,
        "vcpus": 1, "memory_mib": 512, "start": start,
    }  # fmt: skip
    return GuestFacts(**values | changes)


def logged(work: Work[Slowness | None]) -> tuple[Slowness | None, str]:
    said = b""
    while True:
        try:
            said += next(work).data
        except StopIteration as end:
            return end.value, said.decode()


positive = st.floats(0.01, 1e6)
rates = st.builds(Rates, positive, positive, positive)


@given(st.lists(rates, min_size=1, max_size=5), st.lists(rates, min_size=1, max_size=5))
def test_the_middle_of_both_is_compared(host: list[Rates], guest: list[Rates]) -> None:
    found = compare(host, guest)
    for name in KINDS:
        ratio = median(getattr(r, name) for r in host) / median(getattr(r, name) for r in guest)
        assert getattr(found, name) == round(max(LEAST, ratio), 2)
    assert compare([middle(host)], [middle(guest)]) == found


def test_a_round_that_was_disturbed_does_not_count() -> None:
    calm, disturbed = Rates(1000, 100, 10), Rates(100, 10, 1)
    guest = Rates(100, 5, 20)
    assert compare([calm, disturbed, calm], [guest, guest, disturbed]) == Slowness(cpu=10, fork=20, disk=0.5)


def test_who_had_half_a_cpu_would_have_done_twice_as_much_but_for_the_disk() -> None:
    assert [rate(kind, 10.0, 0.5) for kind in KINDS] == [20.0, 20.0, 10.0]
    assert rate("cpu", 10.0, 1.7) == 10.0
    assert rate("cpu", 10.0, 0.0) == rate("cpu", 10.0, 0.05)


@pytest.mark.parametrize(
    "answer", [b"", b"farm-rate 1.0000", b"farm-rate 0.0000 1.0000\n", b"farm-rate inf nan\n", b"\xff" * 4096]
)
def test_an_answer_that_is_no_rate_is_refused(answer: bytes) -> None:
    with pytest.raises(UntrustedError, match="not what was asked for"):
        read_numbers(answer)


def test_what_the_guest_had_of_a_cpu_is_asked_of_its_host(settings: Settings, shell: PlayedShell) -> None:
    used = iter(range(1000))  # a second more at each look: more than can be
    assert wait_for(module.calibrate(shell, lambda: next(used), settings.runtime, soon())).slowness == TENFOLD
    nothing = module.calibrate(shell, lambda: 0.0, settings.runtime, soon())
    assert wait_for(nothing).slowness == Slowness(cpu=0.5, fork=0.5, disk=10)
    assert wait_for(module.calibrate(shell, lambda: None, settings.runtime, soon())).slowness == TENFOLD


def test_the_program_runs_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUND_S", 0.02)
    host, guest = tmp_path / "host", tmp_path / "guest"
    host.mkdir()
    guest.mkdir()
    calibration = wait_for(module.calibrate(RealShell(guest), time.process_time, host, soon()))
    assert all(done > 0 for done in (*calibration.host, *calibration.guest))
    assert calibration.slowness == compare([calibration.host], [calibration.guest])
    assert [*host.iterdir(), *guest.iterdir()] == []


def test_a_host_on_which_it_cannot_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot measure the host: cannot write"):
        wait_for(module.calibrate(PlayedShell(), lambda: None, tmp_path / "none", soon()))


def test_a_guest_that_can_be_restored_is_measured_in_another_one(settings: Settings, shell: PlayedShell) -> None:
    backend = PlayedBackend(facts(), shell)
    order = make_order("true\n", arch="s390x", guest={"cpu": "50%", "disk-bandwidth": "20M", "min-ready": 2})
    found, said = logged(measured_before(facts(), backend, order))
    assert found == TENFOLD
    assert "measuring how slow s390x is with qemu" in said
    (measured,) = backend.orders
    assert (measured.guest.cpu_percent, measured.guest.disk_bytes_per_s, measured.guest.min_ready) == (None, None, 0)
    assert [guest.destroyed for guest in backend.guests] == [True]
    assert shell.closed


def test_it_is_measured_once(settings: Settings, shell: PlayedShell) -> None:
    backend = PlayedBackend(facts(), shell)
    first = wait_for(measured_before(facts(), backend, make_order("true\n")))
    assert logged(measured_before(facts(), backend, make_order("true\n"))) == (first, "")
    assert logged(measured_before(facts(Start.COLD), backend, make_order("true\n"))) == (first, "")
    assert len(backend.orders) == 1


@pytest.mark.parametrize(
    "change", [{"hypervisor_version": "11.0.0"}, {"cpu": "other"}, {"image": "debian-13/riscv64"}, {"host": "another"}]
)
def test_what_differs_is_measured_again(settings: Settings, shell: PlayedShell, change: dict[str, str]) -> None:
    backend = PlayedBackend(facts(), shell)
    wait_for(measured_before(facts(), backend, make_order("true\n")))
    wait_for(measured_before(facts(**change), backend, make_order("true\n")))
    assert len(backend.orders) == 2


def test_a_guest_that_boots_is_measured_itself_when_it_is_up(settings: Settings, shell: PlayedShell) -> None:
    backend = PlayedBackend(facts(Start.COLD), shell)
    assert wait_for(measured_before(facts(Start.COLD), backend, make_order("true\n"))) is None
    found = wait_for(measured_in(PlayedGuest(facts(Start.COLD), shell), shell, make_order("true\n")))
    assert found
    assert backend.orders == []
    assert wait_for(measured_before(facts(), backend, make_order("true\n"))) == found


def test_a_guest_that_is_limited_is_not_measured(settings: Settings, shell: PlayedShell) -> None:
    order = make_order("true\n", guest={"cpu": "50%"})
    assert wait_for(measured_in(PlayedGuest(facts(Start.COLD), shell), shell, order)) is None
    assert shell.commands == []


def test_a_guest_that_says_itself_how_slow_it_is_is_not_measured(settings: Settings, shell: PlayedShell) -> None:
    said = Slowness(cpu=1, fork=1, disk=1)
    assert wait_for(measured_before(facts(slowness=said), PlayedBackend(facts(), shell), make_order("true\n"))) == said


def test_what_goes_wrong_is_logged_and_not_tried_again_with_that_image(settings: Settings, shell: PlayedShell) -> None:
    shell.broken = True
    backend = PlayedBackend(facts(), shell)
    found, said = logged(measured_before(facts(), backend, make_order("true\n")))
    assert found is None
    assert "it is not known how slow the guest is: cannot connect to the guest: it is gone" in said
    assert [guest.destroyed for guest in backend.guests] == [True]
    assert logged(measured_before(facts(), backend, make_order("true\n"))) == (None, "")
    shell.broken = False
    assert wait_for(measured_before(facts(image_digest="e" * 64), backend, make_order("true\n")))


def test_a_cancel_in_the_middle_leaves_nothing(settings: Settings, shell: PlayedShell) -> None:
    backend = PlayedBackend(facts(), shell)
    work = measured_before(facts(), backend, make_order("true\n"))
    while not shell.commands:
        next(work)
    work.close()
    assert [guest.destroyed for guest in backend.guests] == [True]
    assert Calibrations(settings).find(module.kind_of(facts())) is None
    with Calibrations(settings)._lock() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free


@pytest.mark.parametrize("damage", [b"", b"{", b'{"slowness": {"cpu": "fast"}}', b"\xff\xfe"])
def test_a_damaged_file_is_ignored_and_made_anew(settings: Settings, shell: PlayedShell, damage: bytes) -> None:
    backend = PlayedBackend(facts(), shell)
    path = settings.cache / "hosts" / module.kind_of(facts()).file
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    found = wait_for(measured_before(facts(), backend, make_order("true\n")))
    assert found
    assert Calibrations(settings).find(module.kind_of(facts())) == found
    assert len(backend.orders) == 1


def test_two_measure_one_after_the_other_and_the_second_takes_what_the_first_found(
    settings: Settings, shell: PlayedShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.0)
    backend = PlayedBackend(facts(), shell)
    first = measured_before(facts(), backend, make_order("true\n"))
    second = measured_before(facts(), backend, make_order("true\n"))
    while not backend.orders:
        next(first)
    assert {next(second) for _ in range(3)} == {TICK}  # it waits
    found = wait_for(first)
    assert wait_for(second) == found
    assert len(backend.orders) == 1


def test_a_host_is_shown_with_what_was_measured(settings: Settings, shell: PlayedShell) -> None:
    here = facts(host="x")
    found = wait_for(measured_before(here, PlayedBackend(here, shell), make_order("true\n")))
    offer = Offer(hypervisor="qemu", arch="s390x", emulated=True, version="10.0.2", cpu="max")
    other = replace_arch(offer, "riscv64")
    host = Host(name="x", uri="test:///", vcpus=1, memory_mib=512, offers=(offer, other))
    shown = module.with_slowness(host, settings)
    assert [offer.slowness for offer in shown.offers] == [found, None]
    elsewhere = module.with_slowness(shown, settings.model_copy(update={"cache": settings.cache / "none"}))
    assert [offer.slowness for offer in elsewhere.offers] == [None, None]


def replace_arch(offer: Offer, arch: str) -> Offer:
    return offer.model_copy(update={"arch": arch})
