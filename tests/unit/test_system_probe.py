"""What a probe of a hypervisor behind a libvirtd says of each architecture; libvirtd and guests are pretended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from farm.config import Settings
from farm.errors import FarmError, FullError, ImageError
from farm.model import Host, Offer
from runners import probe as probes
from runners.deadline import Deadline
from runners.fake import FakeBackend
from runners.guest import Work
from runners.libvirt import system_probe
from runners.libvirt.hypervisors import KVM

ARCHS = ("amd64", "i386")


class Backend(FakeBackend):
    """The scripted one, in which the guests of an architecture fail."""

    def __init__(self, settings: Settings, errors: dict[str, FarmError]) -> None:
        super().__init__(settings)
        self.errors = errors

    def create(self, order: Any, deadline: Deadline) -> Work[Any]:
        guest = yield from super().create(order, deadline)
        if error := self.errors.get(order.arch):
            raise error
        return guest


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, FarmError]], list[Offer]]:
    offers = tuple(Offer(hypervisor="kvm", arch=arch, emulated=False) for arch in ARCHS)
    monkeypatch.setattr(system_probe, "_asked", lambda *_: offers)
    monkeypatch.setattr(system_probe, "sweep", lambda *_: ())
    settings = Settings(cache=tmp_path, state=tmp_path, runtime=tmp_path)
    host: Any = SimpleNamespace()
    return lambda errors: list(system_probe.probe(host, KVM, Backend(settings, errors), settings))


def test_an_image_that_cannot_be_built_is_a_problem_of_its_architecture_only(
    probe: Callable[[dict[str, FarmError]], list[Offer]],
) -> None:
    amd64, i386 = probe({"i386": ImageError("cannot build debian-13/i386: no such mirror")})
    assert (amd64.problem, amd64.tried) == ("", True)
    assert i386.problem == "it was not tried: cannot build debian-13/i386: no such mirror"
    assert not i386.tried


def test_a_host_that_cannot_do_its_part_says_nothing_of_any_architecture(
    probe: Callable[[dict[str, FarmError]], list[Offer]],
) -> None:
    with pytest.raises(FullError):
        probe({"amd64": FullError("no space")})


def test_what_was_not_tried_is_tried_when_the_host_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(cache=tmp_path, state=tmp_path, runtime=tmp_path)
    offers = [Offer(hypervisor="kvm", arch="amd64", emulated=False, problem="no image", tried=False)]
    probed: list[str] = []

    def probe_host(_: Settings) -> Host:
        probed.append(offers[0].problem)
        return Host(name="h", uri=settings.uri, vcpus=1, memory_mib=1, offers=tuple(offers))

    monkeypatch.setattr(probes, "probe_host", probe_host)
    probes.local_host(settings)
    assert probes.known_host(settings).offers[0].problem == "no image"
    offers[:] = [offers[0].model_copy(update={"problem": "", "tried": True})]
    assert [probes.local_host(settings).offers[0].problem for _ in range(2)] == ["", ""]
    assert probed == ["no image", ""]
