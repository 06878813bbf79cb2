"""Guests that are had to see what that is like, played by the scripted backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.config import Settings
from farm.errors import HypervisorError
from farm.model import Host, Offer, Room, Slowness
from runners.calibration.measure import Calibration, Rates
from runners.fake import FakeBackend
from runners.guest import Backend
from runners.hosts import trial

NATIVE = Offer(hypervisor="kvm", arch="amd64", emulated=False)
HOST = Host(
    name="h",
    uri="qemu:///embed",
    vcpus=1,
    memory_mib=512,
    offers=(
        NATIVE,
        NATIVE.model_copy(update={"hypervisor": "broken", "problem": "it does not work"}),
        NATIVE.model_copy(update={"hypervisor": "qemu", "emulated": True}),
        NATIVE.model_copy(update={"hypervisor": "fake", "scripted": True}),
        NATIVE.model_copy(update={"arch": "s390x"}),
    ),
)
FOUND = Slowness(cpu=1.5, fork=2.0, disk=1.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path, state=tmp_path, runtime=tmp_path)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[str]:
    """The hypervisors that are asked for a guest, in turn; all are scripted, and a guest takes 100 MiB."""
    asked: list[str] = []
    free = iter(range(10_000, 0, -100))

    def load(name: str, _settings: Settings) -> Backend:
        asked.append(name)
        return FakeBackend(settings)

    monkeypatch.setattr(trial, "load_backend", load)
    monkeypatch.setattr(trial, "room_of", lambda _: Room(memory_mib=next(free), disk_mib=1))
    rates = Rates(1.0, 1.0, 1.0)

    def calibrate(*_: object) -> object:
        yield from ()
        return Calibration.model_validate(
            {"slowness": FOUND, "host": rates, "guest": rates, "measured_at": "2026-11-26T00:00:00Z"}
        )

    monkeypatch.setattr(trial, "calibrate", calibrate)
    return asked


def test_each_hypervisor_that_works_has_its_guests(loaded: list[str], settings: Settings) -> None:
    kvm, qemu = trial.trials(HOST, settings, image="debian-13", arch="amd64", guests=3)
    assert loaded == ["kvm", "qemu"]
    assert (kvm.host, kvm.offer.hypervisor, qemu.offer.hypervisor) == ("h", "kvm", "qemu")
    assert kvm.slowness == FOUND
    assert [guest.taken_mib for guest in kvm.guests] == [100, 100, 100]
    assert kvm.middle(lambda guest: guest.taken_mib) == 100
    assert all(guest.destroy_s >= 0 and guest.facts.image == "debian-13/amd64" for guest in kvm.guests)


def test_one_that_fails_says_why_and_the_others_go_on(
    loaded: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str, _settings: Settings) -> Backend:
        if name == "kvm":
            raise HypervisorError("it refuses")
        return FakeBackend(settings)

    monkeypatch.setattr(trial, "load_backend", load)
    kvm, qemu = trial.trials(HOST, settings, image="debian-13", arch="amd64", guests=1)
    assert (kvm.problem, kvm.guests) == ("it refuses", ())
    assert (qemu.problem, len(qemu.guests)) == ("", 1)


def test_only_what_is_native_and_unknown_is_measured_beforehand(
    loaded: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(guest: object, shell: object, order: object) -> object:
        measured.append(order.arch)  # type: ignore[attr-defined]
        yield from ()

    monkeypatch.setattr(trial, "measured_in", measure)
    known = HOST.model_copy(update={"offers": (NATIVE.model_copy(update={"slowness": FOUND}), *HOST.offers[1:])})
    host, unknown = trial.calibrated(known, settings)
    assert measured == ["s390x"]
    assert unknown == ()
    assert host.name == "h"


def test_what_cannot_be_measured_is_told_and_holds_up_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str, _settings: Settings) -> Backend:
        raise HypervisorError("it refuses")

    monkeypatch.setattr(trial, "load_backend", load)
    _, unknown = trial.calibrated(HOST.model_copy(update={"offers": (NATIVE,)}), settings)
    assert unknown == ("it is not known how slow kvm is: it refuses",)
