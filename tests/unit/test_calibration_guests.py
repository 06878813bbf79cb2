"""Which guest is measured, and when: a played one that can be restored, or boots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farm.config import Settings
from farm.errors import LostError
from farm.model import GuestFacts, Order, Slowness, Start, Usage
from runners.calibration import cache, guests, measure
from runners.calibration.guests import measured_before, measured_in
from runners.deadline import Deadline
from runners.guest import TICK, Work, wait_for
from tests.orders import make_order
from tests.unit.slowed import HOST, TENFOLD, SlowShell, facts


class PlayedGuest:
    """A guest with a slow shell, or none that can be reached."""

    def __init__(self, facts: GuestFacts, shell: SlowShell | None) -> None:
        self.facts, self.shell = facts, shell
        self.destroyed = False

    def boot(self, deadline: Deadline) -> Work[None]:
        deadline.check()
        yield TICK

    def connect(self, deadline: Deadline) -> Work[SlowShell]:
        deadline.check()
        yield TICK
        if self.shell is None:
            raise LostError("cannot connect to the guest: it is gone")
        return self.shell

    def usage(self) -> Usage:
        return Usage()

    def destroy(self) -> None:
        self.destroyed = True


class PlayedBackend:
    """Makes them, and remembers what for."""

    def __init__(self, facts: GuestFacts, shell: SlowShell | None) -> None:
        self.facts, self.shell = facts, shell
        self.orders: list[Order] = []
        self.guests: list[PlayedGuest] = []

    def create(self, order: Order, deadline: Deadline) -> Work[Any]:
        deadline.check()
        yield TICK
        self.orders.append(order)
        self.guests.append(PlayedGuest(self.facts, self.shell))
        return self.guests[-1]


@pytest.fixture(autouse=True)
def nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the host answers at once."""
    settings = Settings(cache=tmp_path / "cache", state=tmp_path / "state", runtime=tmp_path / "runtime")
    for module in (cache, guests):
        monkeypatch.setattr(module, "load_settings", lambda: settings)
    monkeypatch.setattr(measure, "_on_host", lambda _folder, _kind: HOST)


@pytest.fixture
def shell() -> SlowShell:
    return SlowShell()


def test_a_guest_that_can_be_restored_is_measured_in_another_one(shell: SlowShell) -> None:
    backend = PlayedBackend(facts(), shell)
    order = make_order("true\n", arch="s390x", guest={"cpu": "50%", "disk-bandwidth": "20M", "min-ready": 2})
    assert wait_for(measured_before(facts(), backend, order)) == TENFOLD
    (measured,) = backend.orders
    assert (measured.guest.cpu_percent, measured.guest.disk_bytes_per_s, measured.guest.min_ready) == (None, None, 0)
    assert [guest.destroyed for guest in backend.guests] == [True]
    assert shell.closed


def test_what_is_known_is_not_measured_again(shell: SlowShell) -> None:
    backend = PlayedBackend(facts(), shell)
    for start in (Start.RESTORED, Start.RESTORED, Start.COLD):
        assert wait_for(measured_before(facts(start), backend, make_order("true\n"))) == TENFOLD
    assert len(backend.orders) == 1


def test_a_guest_that_boots_is_measured_itself_when_it_is_up(shell: SlowShell) -> None:
    backend = PlayedBackend(facts(Start.COLD), shell)
    assert wait_for(measured_before(facts(Start.COLD), backend, make_order("true\n"))) is None
    found = wait_for(measured_in(PlayedGuest(facts(Start.COLD), shell), shell, make_order("true\n")))
    assert found
    assert backend.orders == []
    assert wait_for(measured_before(facts(), backend, make_order("true\n"))) == found


def test_a_guest_that_is_limited_is_not_measured(shell: SlowShell) -> None:
    order = make_order("true\n", guest={"cpu": "50%"})
    assert wait_for(measured_in(PlayedGuest(facts(Start.COLD), shell), shell, order)) is None
    assert shell.commands == []


def test_a_guest_that_says_itself_how_slow_it_is_is_not_measured(shell: SlowShell) -> None:
    said = Slowness(cpu=1, fork=1, disk=1)
    backend = PlayedBackend(facts(), shell)
    assert wait_for(measured_before(facts(slowness=said), backend, make_order("true\n"))) == said
    assert backend.orders == []


def test_a_guest_that_cannot_be_reached_is_destroyed() -> None:
    backend = PlayedBackend(facts(), None)
    assert wait_for(measured_before(facts(), backend, make_order("true\n"))) is None
    assert [guest.destroyed for guest in backend.guests] == [True]


def test_a_cancel_in_the_middle_leaves_no_guest(shell: SlowShell) -> None:
    backend = PlayedBackend(facts(), shell)
    work = measured_before(facts(), backend, make_order("true\n"))
    while not shell.commands:
        next(work)
    work.close()
    assert [guest.destroyed for guest in backend.guests] == [True]
    assert shell.closed
