"""What snapshots are called, what is remembered of one that cannot be, and what becomes of one that was harmed."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from farm.errors import HypervisorError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images import Image
from runners.images.shelf import MANIFEST
from runners.libvirt import snapshots
from runners.libvirt.hypervisors import KVM
from runners.libvirt.snapshot import SnapshotManifest
from runners.libvirt.snapshots import Found, Snapshots
from runners.libvirt.template import UselessError
from runners.libvirt.xml import DomainSpec
from runners.machines import MACHINES
from tests.unit.test_domain_xml import GUEST
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish

NAME = "debian-13-amd64-0123456789abcdef"
IMAGE = SimpleNamespace(manifest=SimpleNamespace(kind="unpacked"))


class Maker(NamedTuple):
    """Makes snapshots of nothing, or fails; counts how often it was asked to."""

    store: Snapshots
    failures: list[Exception]
    made: list[Path]

    def ensure(self) -> tuple[bytes, Found]:
        spec: Any = None
        image: Any = IMAGE
        return finish(self.store.ensure(spec, image, 2048, deadline=Deadline.after(10, "make a snapshot")))


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    driver: Any = None
    maker = Maker(Snapshots(tmp_path / "snapshots", driver), [], [])

    class Template:
        def __init__(self, *parts: Any) -> None:
            self._folder: Path = parts[-1]

        def make(self, _deadline: Deadline) -> Work[None]:
            yield TICK
            maker.made.append(self._folder)
            if maker.failures:
                raise maker.failures.pop()
            (self._folder / "state").write_bytes(b"state")
            manifest = SnapshotManifest(
                image="i", image_digest="d", arch="amd64", mode="shared", sizes={"state": 5}, disk_mib=2048,
                memory_mib=256, vcpus=1, machine="q35", qemu="10.0.0", saved_at=datetime.now(UTC), boot_s=4.0,
            )  # fmt: skip
            (self._folder / MANIFEST).write_text(manifest.model_dump_json())

    monkeypatch.setattr(snapshots, "Template", Template)
    monkeypatch.setattr(Snapshots, "name", lambda *_: NAME)
    return maker


@pytest.mark.parametrize("file", [MANIFEST, "state"])
def test_a_snapshot_with_a_truncated_file_is_made_anew(maker: Maker, file: str) -> None:
    _, found = maker.ensure()
    assert found.snapshot
    os.truncate(found.snapshot.folder / file, 3)
    heard, again = maker.ensure()
    assert f"the snapshot's {file} is damaged; it is made anew" in heard.decode()
    assert again.note == "shared"
    assert len(maker.made) == 2


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot keep a snapshot: No space left on device"),
        (HypervisorError("cannot start a guest: QEMU has gone"), "cannot start a guest: QEMU has gone"),
    ],
)
def test_what_may_be_otherwise_the_next_time_is_tried_again(maker: Maker, failure: Exception, note: str) -> None:
    maker.failures.append(failure)
    assert maker.ensure()[1] == Found(None, note)
    assert maker.ensure()[1].snapshot


def test_a_guest_that_cannot_be_restored_is_not_saved_again_for_a_day(maker: Maker) -> None:
    maker.failures.append(UselessError("cannot restore the guest"))
    assert maker.ensure()[1] == Found(None, "cannot restore the guest")
    assert maker.ensure()[1] == Found(None, "cannot restore the guest")
    assert len(maker.made) == 1


def test_where_there_is_no_room_to_remember_that_the_guest_boots_as_well(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    maker.failures.append(UselessError("cannot restore the guest"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        assert maker.ensure()[1] == Found(None, "cannot restore the guest")
    assert maker.ensure()[1].snapshot


class Kind(NamedTuple):
    """All that the name of a snapshot is made from."""

    spec: DomainSpec
    image: Image
    disk_mib: int = 2048
    libvirt: str = "10.0.2"
    emulator: tuple[int, int] = (1, 1)
    """Size and time of its file."""
    version: int = 1
    host_cpu: str = "host"

    def name(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        driver: Any = SimpleNamespace(version=self.libvirt)
        size, time_ns = self.emulator
        with monkeypatch.context() as here:
            here.setattr(Path, "stat", lambda _path: SimpleNamespace(st_size=size, st_mtime_ns=time_ns))
            here.setattr(snapshots, "VERSION", self.version)
            here.setattr(snapshots, "_host_cpu", lambda: self.host_cpu)
            return Snapshots(folder, driver).name(self.spec, self.image, self.disk_mib)


def changed_image(image: Image, **changes: Any) -> Image:
    return image.model_copy(update={"manifest": image.manifest.model_copy(update=changes)})


OTHERS: dict[str, Callable[[Kind], Kind]] = {
    "image": lambda kind: kind._replace(image=changed_image(kind.image, digest="f" * 64)),
    "folder of the image": lambda kind: kind._replace(
        image=kind.image.model_copy(update={"folder": kind.image.folder.with_name("other")})
    ),
    "architecture": lambda kind: kind._replace(spec=replace(kind.spec, machine=MACHINES["riscv64"])),
    "CPU model": lambda kind: kind._replace(spec=replace(kind.spec, cpu="EPYC")),
    "vcpus": lambda kind: kind._replace(spec=replace(kind.spec, vcpus=3)),
    "memory": lambda kind: kind._replace(spec=replace(kind.spec, memory_mib=300)),
    "disk": lambda kind: kind._replace(disk_mib=4096),
    "network": lambda kind: kind._replace(spec=replace(kind.spec, network="open")),
    "QEMU's version": lambda kind: kind._replace(libvirt="10.9.9"),
    "size of QEMU's file": lambda kind: kind._replace(emulator=(2, 1)),
    "time of QEMU's file": lambda kind: kind._replace(emulator=(1, 2)),
    "way of saving": lambda kind: kind._replace(version=2),
    "accelerator": lambda kind: kind._replace(spec=replace(kind.spec, hypervisor=KVM)),
}


@pytest.fixture
def kind(tmp_path: Path) -> Kind:
    return Kind(GUEST, make_image(tmp_path / "image"))


@pytest.mark.parametrize("what", OTHERS)
def test_of_another_kind_of_guest_there_is_another_snapshot(
    kind: Kind, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OTHERS[what](kind).name(tmp_path, monkeypatch) != kind.name(tmp_path, monkeypatch)


def test_the_hosts_cpu_matters_to_what_runs_on_it_only(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = kind._replace(spec=replace(kind.spec, hypervisor=KVM))
    for one, same in ((kind, True), (native, False)):
        other = one._replace(host_cpu="another")
        assert (one.name(tmp_path, monkeypatch) == other.name(tmp_path, monkeypatch)) is same


def test_what_is_a_guests_own_matters_to_no_snapshot(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks = tuple(replace(disk, path=Path("/elsewhere") / disk.path.name) for disk in kind.spec.disks)
    own = replace(kind.spec, name="n", uuid=str(uuid.uuid4()), owner="o", console=Path("/elsewhere/log"), disks=disks)
    assert kind._replace(spec=own).name(tmp_path, monkeypatch) == kind.name(tmp_path, monkeypatch)
