"""Keeping how slow guests are: what was measured once is found, and only one measures at a time."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.config import Settings
from farm.errors import FarmError, LostError
from farm.model import Host, Offer, Slowness
from runners.calibration import cache
from runners.calibration.cache import Calibrations, kind_of, with_slowness
from runners.calibration.measure import Calibration, Rates
from runners.deadline import Deadline
from runners.guest import TICK, Work, wait_for
from tests.unit.slowed import TENFOLD, facts

IMAGE = "d" * 64


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made = Settings(cache=tmp_path / "cache", state=tmp_path / "state", runtime=tmp_path / "runtime")
    monkeypatch.setattr(cache, "load_settings", lambda: made)
    return made


class Measuring:
    """Finds what it is told to, in two steps, and counts how often it was begun."""

    def __init__(self, error: FarmError | None = None) -> None:
        self.error = error
        self.begun = 0

    def __call__(self, deadline: Deadline) -> Work[Calibration]:
        self.begun += 1
        deadline.check()
        yield TICK
        if self.error:
            raise self.error
        host, guest = Rates(100, 100, 100), Rates(10, 10, 10)
        return Calibration(slowness=TENFOLD, host=host, guest=guest, measured_at=datetime.now(UTC))


def logged(work: Work[Slowness | None]) -> tuple[Slowness | None, str]:
    said = b""
    while True:
        try:
            said += next(work).data
        except StopIteration as end:
            return end.value, said.decode()


def test_it_is_measured_once(settings: Settings) -> None:
    measure = Measuring()
    found, said = logged(Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure))
    assert found == TENFOLD
    assert said == "[farm: measuring how slow s390x is with qemu]\n"
    assert logged(Calibrations(settings).ensure(kind_of(facts()), "e" * 64, measure)) == (TENFOLD, "")
    assert measure.begun == 1


@pytest.mark.parametrize(
    "change", [{"hypervisor_version": "11.0.0"}, {"cpu": "other"}, {"image": "debian-13/riscv64"}, {"host": "another"}]
)
def test_what_differs_is_measured_again(settings: Settings, change: dict[str, str]) -> None:
    measure = Measuring()
    wait_for(Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure))
    wait_for(Calibrations(settings).ensure(kind_of(facts(**change)), IMAGE, measure))
    assert measure.begun == 2


def test_what_goes_wrong_is_logged_and_not_tried_again_with_that_image(settings: Settings) -> None:
    calibrations, measure = Calibrations(settings), Measuring(LostError("cannot connect to the guest: it is gone"))
    found, said = logged(calibrations.ensure(kind_of(facts()), IMAGE, measure))
    assert found is None
    assert "it is not known how slow the guest is: cannot connect to the guest: it is gone" in said
    assert logged(calibrations.ensure(kind_of(facts()), IMAGE, measure)) == (None, "")
    assert measure.begun == 1
    assert wait_for(calibrations.ensure(kind_of(facts()), "e" * 64, Measuring())) == TENFOLD


def test_a_cancel_in_the_middle_leaves_nothing(settings: Settings) -> None:
    measure = Measuring()
    work = Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure)
    while not measure.begun:
        next(work)
    work.close()
    assert Calibrations(settings).find(kind_of(facts())) is None
    with Calibrations(settings)._lock() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is free


@pytest.mark.parametrize("damage", [b"", b"{", b'{"slowness": {"cpu": "fast"}}', b"\xff\xfe"])
def test_a_damaged_file_is_ignored_and_made_anew(settings: Settings, damage: bytes) -> None:
    path = settings.cache / "hosts" / kind_of(facts()).file
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    measure = Measuring()
    assert wait_for(Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure)) == TENFOLD
    assert Calibrations(settings).find(kind_of(facts())) == TENFOLD
    assert measure.begun == 1


def test_two_measure_one_after_the_other_and_the_second_takes_what_the_first_found(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_WAIT_S", 0.0)
    measure = Measuring()
    first = Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure)
    second = Calibrations(settings).ensure(kind_of(facts()), IMAGE, measure)
    while not measure.begun:
        next(first)
    assert {next(second) for _ in range(3)} == {TICK}  # it waits
    found = wait_for(first)
    assert wait_for(second) == found
    assert measure.begun == 1


def test_a_host_is_shown_with_what_was_measured(settings: Settings) -> None:
    found = wait_for(Calibrations(settings).ensure(kind_of(facts(host="x")), IMAGE, Measuring()))
    offer = Offer(hypervisor="qemu", arch="s390x", emulated=True, version="10.0.2", cpu="max")
    other = offer.model_copy(update={"arch": "riscv64"})
    host = Host(name="x", uri="test:///", vcpus=1, memory_mib=512, offers=(offer, other))
    shown = with_slowness(host, settings)
    assert [offer.slowness for offer in shown.offers] == [found, None]
    elsewhere = with_slowness(shown, settings.model_copy(update={"cache": settings.cache / "none"}))
    assert [offer.slowness for offer in elsewhere.offers] == [None, None]
