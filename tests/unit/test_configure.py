"""What is decided about the disk of a guest that has been configured; that it is made at all is for tests/e2e."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import get_args

import pytest

from farm.errors import ImageError, LostError
from runners.deadline import Deadline
from runners.images.spec import Kind
from runners.libvirt import configure
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish


def soon() -> Deadline:
    return Deadline.after(60, "keep a disk")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An overlay on an ext4 that is at rest."""
    base = tmp_path / "base"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", str(base), "2M"], check=True)
    made = tmp_path / "overlay"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(made), "4M"]
    subprocess.run(argv, check=True)
    return made


def write(disk: Path, offset: int, byte: int) -> None:
    command = f"write -P {byte} {offset} 1"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, str(disk)], check=True, capture_output=True)


def test_a_disk_at_rest_is_kept_and_nothing_is_left_beside_it(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    finish(configure._check_unmounted(disk, tmp_path / "image", soon()))
    assert list((tmp_path / "image").iterdir()) == []


@pytest.mark.parametrize(
    ("offset", "byte"), [(1024 + 58, 0), (1024 + 58, 3), (1024 + 56, 0)], ids=["mounted", "error", "magic"]
)
def test_a_disk_that_was_not_left_at_rest_is_not(disk: Path, tmp_path: Path, offset: int, byte: int) -> None:
    write(disk, offset, byte)
    with pytest.raises(LostError, match="it was not unmounted"):
        finish(configure._check_unmounted(disk, tmp_path, soon()))


def test_what_is_kept_has_nothing_under_it_and_boots_as_its_base(disk: Path, tmp_path: Path) -> None:
    write(disk, 1024 * 1024, 7)
    boots_with = ("firmware", "initrd", "kernel", "packed-kernel")
    base = make_image(tmp_path / "under", files=dict.fromkeys(boots_with, "0" * 64))
    for name in boots_with:
        (base.folder / name).write_text(name)
    folder = tmp_path / "image"
    folder.mkdir()
    _, files = finish(configure._keep(disk, base, folder, deadline=soon(), keep_fds=()))
    assert [path.name for path in files] == ["disk", "initrd", "kernel", "packed-kernel", "firmware"]
    for path in (disk, tmp_path / "base", *(base.folder / name for name in boots_with)):
        path.unlink()
    assert all((folder / name).read_text() == name for name in boots_with)
    read = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-r", "-c", f"read -P 7 {1024 * 1024} 1", str(folder / "disk")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Pattern verification failed" not in read.stdout


def test_a_disk_that_cannot_be_read_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot keep the disk of a guest: qemu-img dd ended with 1"):
        finish(configure._check_unmounted(tmp_path / "none", tmp_path, soon()))


def test_every_kind_of_image_has_an_identity_to_forget() -> None:
    assert set(configure._FORGET) == set(get_args(Kind))


def test_the_last_lines_of_a_script_are_clean_and_few() -> None:
    said = bytearray(b"".join(b"line %d\r\n" % number for number in range(1000)) + b"\x1b[31mred\x1b[0m\x00\n")
    first, *lines = configure._last(said).splitlines()
    assert first == ":"
    assert lines[-2:] == ["line 999", "red"]
    assert len(lines) == 15
    assert configure._last(bytearray()) == ", and said nothing"


def test_packages_that_a_guest_tells_of_are_read_with_care() -> None:
    told = "gcc-12\t12.4.0-5\nlibc6\t2.41-12+deb13u5\n\x1b[2J\tx\nNot A Package\t1\nmake\t4.4.1-2\n"
    assert dict(configure._PACKAGE.findall(told)) == {
        "gcc-12": "12.4.0-5",
        "libc6": "2.41-12+deb13u5",
        "make": "4.4.1-2",
    }
