"""What is remembered of a snapshot that could not be made, and what becomes of one that was harmed."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from farm.errors import HypervisorError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images.shelf import MANIFEST
from runners.libvirt import snapshots
from runners.libvirt.snapshot import SnapshotManifest
from runners.libvirt.snapshots import Found, Snapshots
from runners.libvirt.template import UselessError
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
