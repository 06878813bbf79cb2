"""Images built from Debian's archive: what an image holds is tested by the guests that run from it, not here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import ConfigError, FullError, PackageError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.images import Catalogue
from tests.unit.test_images_process import finish

TINY = ImageSpec(name="debian-13", arch="riscv64")

# A process of its own that ensures the tiny image, and says everything that the build says.
BUILDER = """
import sys
from pathlib import Path
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.images import Catalogue

work = Catalogue(Path(sys.argv[1])).ensure(
    ImageSpec(name="debian-13", arch="riscv64"), deadline=Deadline.after(280, "build an image")
)
try:
    while True:
        sys.stdout.buffer.write(next(work).data)
        sys.stdout.buffer.flush()
except StopIteration as end:
    print("digest", end.value.digest)
"""


def deadline() -> Deadline:
    return Deadline.after(280, "build an image")


def start_builder(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def read_until(builder: subprocess.Popen[bytes], text: bytes) -> None:
    assert builder.stdout
    for line in builder.stdout:
        if text in line:
            return
    raise AssertionError(f"the build ended without saying {text!r}")


def names(folder: Path) -> set[str]:
    """What is in a catalogue's folder but its locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_two_processes_that_want_the_same_image_build_it_once(tmp_path: Path) -> None:
    first = start_builder(tmp_path)
    read_until(first, b"running apt-get update")
    second = start_builder(tmp_path)
    said_first, said_second = first.communicate()[0], second.communicate()[0]
    assert b"waiting for another process" in said_second
    assert b"unpacking the packages" not in said_second
    assert said_first.splitlines()[-1] == said_second.splitlines()[-1]

    (image,) = Catalogue(tmp_path).list()
    assert names(tmp_path) == {image.folder.name}
    assert Catalogue(tmp_path).find(TINY) == image
    assert {"busybox-static", "dropbear-bin", "libc6"} <= set(image.manifest.packages)
    assert image.manifest.disk_mib * 1024 * 1024 == image.disk.stat().st_size
    assert image.initrd.read_bytes().startswith(b"070701")
    assert subprocess.run(["e2fsck", "-fn", str(image.disk)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("moment", [b"extracting archives", b"making the disk"])
def test_a_build_that_was_killed_leaves_no_image_and_does_not_hinder_the_next(tmp_path: Path, moment: bytes) -> None:
    builder = start_builder(tmp_path)
    read_until(builder, moment)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert Catalogue(tmp_path).list() == ()
    _, image = finish(Catalogue(tmp_path).ensure(TINY, deadline=deadline()))
    assert names(tmp_path) == {image.folder.name}


def test_a_build_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    work = Catalogue(tmp_path).ensure(TINY, deadline=deadline())
    while b"extracting archives" not in next(work).data:
        pass
    with pytest.raises(KeyboardInterrupt):
        work.throw(KeyboardInterrupt())
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        (
            TINY.model_copy(update={"packages": ("no-such-package", "make")}),
            PackageError,
            "Debian trixie has no package 'no-such-package' for riscv64",
        ),
        (TINY.model_copy(update={"name": "debian-12"}), ConfigError, "Debian bookworm is not made for riscv64"),
    ],
    ids=["package", "architecture"],
)
def test_what_debian_does_not_have_is_an_error_of_who_asked(
    tmp_path: Path, spec: ImageSpec, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        finish(Catalogue(tmp_path).ensure(spec, deadline=deadline()))
    assert names(tmp_path) == set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that every build fills."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150m", "small", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_to_be_full_and_nothing_is_left_on_it(small_disk: Path) -> None:
    with pytest.raises(FullError, match="cannot build debian-13/riscv64: the disk is full"):
        finish(Catalogue(small_disk).ensure(TINY, deadline=deadline()))
    assert names(small_disk) == set()
