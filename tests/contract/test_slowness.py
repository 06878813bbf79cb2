"""How slow real, emulated guests are, and the deadlines that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.config import load_settings
from farm.model import (
    AttemptEnded,
    Ending,
    Event,
    GuestCreated,
    LogChunk,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Slowness,
    Start,
    Stream,
    Timeouts,
)
from runners.attempt import run_attempt
from runners.calibration import guests
from runners.calibration.measure import Calibration
from runners.deadline import Deadline
from runners.guest import Guest, Work
from runners.images import Catalogue
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.hypervisors import QEMU
from tests.orders import make_order, make_source

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module", autouse=True)
def kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured here, in this module's first attempt; images and snapshots are those that are there."""
    apart = load_settings().model_copy(update={"cache": tmp_path_factory.mktemp("cache")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guests, "load_settings", lambda: apart)
        yield


@pytest.fixture
def nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Not even what other tests have measured; the folder where it will be kept."""
    apart = load_settings().model_copy(update={"cache": tmp_path})
    monkeypatch.setattr(guests, "load_settings", lambda: apart)
    return tmp_path / "hosts"


def attempt(test: str, *, arch: str = "amd64", timeouts: Timeouts | None = None) -> list[Event]:
    order = make_order(test, hypervisor="qemu", arch=arch, timeouts=timeouts or Timeouts())
    return list(run_attempt(order, make_source()))


def slowness(events: list[Event]) -> Slowness:
    found = [event.facts.slowness for event in events if isinstance(event, GuestCreated)][-1]
    assert found
    return found


def said(events: list[Event], *streams: Stream) -> str:
    return b"".join(e.data for e in events if isinstance(e, LogChunk) and e.stream in streams).decode()


def test_a_guest_is_measured_by_the_first_attempt_and_not_by_the_second(nothing_is_known: Path) -> None:
    first = attempt("ls -A ~\n")
    measured = slowness(first)
    assert measured.cpu > 1.5
    assert measured.fork > 1.5
    assert "measuring how slow amd64 is with qemu" in said(first, Stream.FARM)
    assert "farm-calibration" not in said(first, Stream.STDOUT)
    (kept,) = nothing_is_known.glob("slowness-amd64-qemu-*.json")
    second = attempt("true\n")
    assert slowness(second) == measured
    assert "measuring" not in said(second, Stream.FARM)
    assert Calibration.model_validate_json(kept.read_bytes()).slowness == measured
    assert [event.phase for event in first if isinstance(event, PhaseStarted)] == [
        event.phase for event in second if isinstance(event, PhaseStarted)
    ]


def test_a_script_may_take_as_many_times_longer_as_its_guest_is_slower() -> None:
    events = attempt("sleep 3\necho done\n", timeouts=Timeouts(test=2.0))
    assert said(events, Stream.STDOUT) == "done\n"
    assert isinstance(events[-1], AttemptEnded)
    assert events[-1].evidence.failure is None
    assert re.search(r"timeouts × [\d.]+: .*test [\d.]+ s", said(events, Stream.FARM))


def test_a_script_that_takes_too_long_is_ended_where_nothing_is_to_scale() -> None:
    events = attempt("sleep 60\n", timeouts=Timeouts(test=2.0, scale=False))
    (ended,) = [event for event in events if isinstance(event, PhaseEnded) and event.phase is Phase.TEST]
    assert ended.ending is Ending.TIMEOUT
    assert ended.detail.startswith("cannot test: not done within 2 s")
    assert "timeouts ×" not in said(events, Stream.FARM)


def test_a_script_that_never_ends_is_ended_and_told_why_so_late() -> None:
    events = attempt("sleep 600\n", timeouts=Timeouts(test=0.5))
    (ended,) = [event for event in events if isinstance(event, PhaseEnded) and event.phase is Phase.TEST]
    assert ended.ending is Ending.TIMEOUT
    assert re.search(r"not done within [\d.]+ s \(0.5 s × [\d.]+ for emulation\)", ended.detail)


class _ColdBackend:
    """Makes guests that boot, as where there can be no snapshots."""

    def __init__(self, name: str) -> None:
        self._backend = LibvirtBackend({"qemu": QEMU}[name])

    def create(self, order: Order, deadline: Deadline) -> Work[Guest]:
        settings = load_settings()
        catalogue = Catalogue(settings.cache / "images", settings.mirror)
        image = yield from catalogue.ensure(order.image, deadline=deadline)
        return self._backend.cold(order, image)


@pytest.mark.usefixtures("nothing_is_known")
def test_a_guest_that_cannot_be_restored_is_measured_itself() -> None:
    order = make_order("ls -A ~\n", hypervisor="qemu")
    events = list(run_attempt(order, make_source(), load=_ColdBackend))
    before, after = [event.facts for event in events if isinstance(event, GuestCreated)]
    assert (before.start, before.slowness) == (Start.COLD, None)
    assert slowness(events).cpu > 1.5
    assert after == before.model_copy(update={"slowness": slowness(events)})
    log = [event for event in events if isinstance(event, LogChunk) and b"measuring how slow" in event.data]
    assert {event.phase for event in log} == {Phase.CONNECT}
    assert "farm-calibration" not in said(events, Stream.STDOUT)
    assert "not known how slow it is; timeouts × 10: " in said(events, Stream.FARM)
