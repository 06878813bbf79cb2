import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from farm.errors import ImageError, NotFoundError
from runners.deadline import Deadline
from runners.guest import Chunk
from runners.images.shelf import Shelf, doomed
from tests.unit.test_images_process import finish

NOTHING = float("inf")
NOBODY = 65534


def make(shelf: Shelf, name: str, size: int = 4096) -> Path:
    place = shelf.folder / name
    place.mkdir(parents=True)
    (place / "disk").write_bytes(b"x" * size)
    (place / "manifest.json").write_text("{}")
    return place


def ensure(shelf: Shelf, name: str) -> Path:
    def work(folder: Path, _fd: int) -> Generator[Chunk, None, None]:
        (folder / "manifest.json").write_text("{}")
        yield from ()

    return finish(shelf.ensure(name, work, deadline=Deadline.after(10, "make it")))[1]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


# --- what is to go ----------------------------------------------------------------------------------

ITEMS = [("new", 300.0, 30), ("old", 100.0, 50), ("middle", 200.0, 20)]


@pytest.mark.parametrize(
    ("older_than_s", "keep_bytes", "gone"),
    [
        (0, NOTHING, ()),
        (0, 100, ()),
        (0, 99, ("old",)),
        (0, 50, ("old",)),
        (0, 49, ("old", "middle")),
        (0, 0, ("old", "middle", "new")),
        (200, NOTHING, ("old",)),
        (201, NOTHING, ("old", "middle")),
        (201, 0, ("old", "middle", "new")),
        (0, -10, ("old", "middle", "new")),
    ],
)
def test_the_longest_unused_goes_first_and_no_more_than_needs_to(
    older_than_s: float, keep_bytes: float, gone: tuple[str, ...]
) -> None:
    assert doomed(ITEMS, older_than_s=older_than_s, keep_bytes=keep_bytes) == gone


def test_a_large_thing_that_was_just_used_outlives_small_old_ones() -> None:
    items = [("large", 300.0, 90), ("small", 100.0, 5), ("other", 200.0, 5)]
    assert doomed(items, older_than_s=0, keep_bytes=95) == ("small",)


def test_of_two_that_were_used_at_the_same_time_the_first_goes_first() -> None:
    assert doomed([("a", 1.0, 10), ("b", 1.0, 10)], older_than_s=0, keep_bytes=10) == ("a",)


# --- use, removal, leftovers ------------------------------------------------------------------------


def test_what_is_held_is_in_use_and_not_removed(shelf: Shelf) -> None:
    make(shelf, "thing")
    fd = shelf.hold("thing")
    assert shelf.in_use("thing")
    assert not shelf.remove("thing")
    os.close(fd)
    assert not shelf.in_use("thing")
    assert shelf.remove("thing")
    assert shelf.names() == ()


def test_the_size_is_what_it_takes_on_the_disk(shelf: Shelf) -> None:
    place = make(shelf, "thing", size=100_000)
    with (place / "hole").open("wb") as file:
        file.truncate(10**9)
    assert 100_000 <= shelf.size_bytes("thing") < 200_000


def test_what_a_killed_process_left_is_swept_and_what_a_live_one_makes_is_not(shelf: Shelf) -> None:
    ensure(shelf, "whole")
    dead, broken = make(shelf, ".dead.partial"), make(shelf, ".thing.123.broken")
    make(shelf, ".live.partial")
    (shelf.folder / ".live.lock").touch()
    holder = subprocess.Popen(["flock", str(shelf.folder / ".live.lock"), "sh", "-c", "echo; exec cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert holder.stdout
    holder.stdout.readline()
    try:
        assert set(shelf.sweep(dry_run=True)) == {dead.name, broken.name}
        assert dead.exists()
        swept = shelf.sweep()
        assert set(swept) == {dead.name, broken.name}
        assert all(size > 0 for size in swept.values())
    finally:
        holder.communicate(b"")
    assert not dead.exists()
    assert not broken.exists()
    assert (shelf.folder / ".live.partial").exists()
    assert shelf.names() == ("whole",)


@pytest.fixture
def mounted(shelf: Shelf) -> Iterator[Path]:
    """What the killed build of an installed image may leave: a half image in which something is mounted."""
    if os.geteuid():
        pytest.skip("only root can mount")
    place = make(shelf, ".thing.partial")
    mine, elsewhere = place / "tree/with a space", shelf.folder.parent / "elsewhere"
    mine.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    subprocess.run(["mount", "--bind", str(elsewhere), str(mine)], check=True)
    yield mine
    if is_mounted(mine):
        subprocess.run(["umount", str(mine)], check=True)


def is_mounted(path: Path) -> bool:
    return str(path).replace(" ", r"\040") in Path("/proc/self/mountinfo").read_text()


def test_what_is_mounted_in_a_leftover_is_not_gone_into(shelf: Shelf, mounted: Path) -> None:
    assert shelf.sweep() == {}
    with pytest.raises(ImageError, match=r"cannot make thing: .* is in the way") as caught:
        ensure(shelf, "thing")
    assert f"umount {mounted}" in caught.value.hint
    assert (mounted / "precious").exists()
    subprocess.run(["umount", str(mounted)], check=True)
    assert ensure(shelf, "thing").name == "thing"


SUB_ID_TREE = """
import os, subprocess, sys
from runners.images.owner import as_owner
from runners.images.shelf import Shelf
from tests.unit.test_images_shelf import NOBODY, Path, ensure

folder, sub_ids = map(Path, sys.argv[1:])
for file in ("/etc/subuid", "/etc/subgid"):
    subprocess.run(["mount", "--bind", sub_ids, file], check=True)
ensure(Shelf(folder), "another")  # loads what root only may be able to read
os.setgroups([])
os.setresgid(NOBODY, NOBODY, NOBODY)
os.setresuid(NOBODY, NOBODY, NOBODY)
leftover = folder / ".thing.partial/tree"
closed = as_owner(["sh", "-c", 'mkdir -p "$0/in" && chown -R 5:5 "$0" && chmod 700 "$0"', str(leftover)])
subprocess.run(closed, check=True)
assert leftover.stat().st_uid == 200004
assert ensure(Shelf(folder), "thing").name == "thing"
subprocess.run(closed, check=True)
assert list(Shelf(folder).sweep()) == [".thing.partial"]
assert not leftover.exists()
"""
"""For a process of root's with mounts of its own: becomes nobody, with sub-ids, and clears away what that has made."""


def test_what_a_killed_build_gave_to_sub_ids_is_not_in_the_way() -> None:
    if os.geteuid() or not (shutil.which("newuidmap") and Path("/etc/subuid").exists()):
        pytest.skip("only root can become a user with sub-ids, and that takes uidmap")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:  # nobody may not go into root's own folder
        sub_ids, folder = Path(place, "sub-ids"), Path(place, "shelf")
        sub_ids.write_text(f"{NOBODY}:200000:65536\n")
        folder.mkdir()
        for path in (place, folder):
            os.chown(path, NOBODY, NOBODY)
        argv = ["unshare", "--mount", sys.executable, "-c", SUB_ID_TREE, str(folder), str(sub_ids)]
        done = subprocess.run(argv, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_thing_is_superseded_and_kept_by_another_name(shelf: Shelf) -> None:
    make(shelf, "thing", size=1)
    make(shelf, "thing-next", size=2)
    fd = shelf.hold("thing")
    assert not shelf.supersede("thing", "thing-next", kept_as="thing-old")
    os.close(fd)
    assert shelf.supersede("thing", "thing-next", kept_as="thing-old")
    assert shelf.names() == ("thing", "thing-old")
    assert (shelf.folder / "thing/disk").stat().st_size == 2
    assert (shelf.folder / "thing-old/disk").stat().st_size == 1


def test_what_is_not_there_cannot_be_held(shelf: Shelf) -> None:
    with pytest.raises(NotFoundError):
        shelf.hold("thing")
