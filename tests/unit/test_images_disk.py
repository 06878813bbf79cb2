import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.errors import ConfigError, FullError, ImageError
from runners.deadline import Deadline
from runners.images import Image, Manifest, guest_disk
from runners.images.disk import disk_size_mib, make_disk
from runners.images.space import Usage, usage
from tests.unit.test_images_process import finish


def make_image(folder: Path, **changes: object) -> Image:
    """An image of which only the manifest and the disk's size are true."""
    values = {
        "name": "debian-13", "arch": "s390x", "release": "trixie", "digest": "0" * 64, "disk_mib": 64, "requested": (),
        "packages": {"gcc": "1"}, "mirror": "", "tools": {}, "builder_version": 1, "built_at": datetime.now(UTC),
        "cmdline": "",
    }  # fmt: skip
    manifest = Manifest.model_validate(values | changes)
    folder.mkdir(parents=True)
    with (folder / "disk").open("wb") as disk:
        disk.truncate(manifest.disk_mib * 1024 * 1024)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Image(folder=folder, manifest=manifest)


def test_a_tree_is_counted_in_blocks_and_inodes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "folder/one").write_bytes(b"x" * 4096)
    (tmp_path / "folder/two").write_bytes(b"x" * 4097)
    (tmp_path / "link").symlink_to("nowhere")
    # blocks: the tree, folder, one, two of two, the link's target; inodes: the tree and all five
    assert usage(tmp_path) == Usage(blocks=6, inodes=6)


@pytest.mark.parametrize(("need", "least"), [(Usage(100_000, 10), 391), (Usage(10, 100_000), 1563)])
def test_a_disk_is_large_enough_for_blocks_and_for_inodes(need: Usage, least: int) -> None:
    assert least <= disk_size_mib(need) < least * 1.1 + 20


def read_stat(disk: Path, name: str) -> str:
    return subprocess.run(["debugfs", "-R", f"stat {name}", str(disk)], capture_output=True, text=True).stdout  # noqa: PLW1510


def test_a_tree_becomes_a_sound_disk_that_belongs_to_root(tmp_path: Path) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/tool").write_bytes(b"x" * 100_000)
    (tree / "bin/tool").chmod(0o751)
    (tree / "bin/link").symlink_to("tool")
    _, size_mib = finish(make_disk(tree, disk, created_s=1_700_000_000, deadline=Deadline.after(60, "make a disk")))
    assert disk.stat().st_size == size_mib * 1024 * 1024
    assert subprocess.run(["e2fsck", "-fn", str(disk)], capture_output=True, check=False).returncode == 0
    stat = read_stat(disk, "/bin/tool")
    assert "Mode:  0751" in stat
    assert "Size: 100000" in stat
    assert 'Fast link dest: "tool"' in read_stat(disk, "/bin/link")
    for name in ("/", "/bin/tool"):
        assert "User:     0   Group:     0" in read_stat(disk, name)


def test_a_disk_can_grow_to_what_a_guest_may_ask_for(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    disk = tmp_path / "disk"
    finish(make_disk(tmp_path / "tree", disk, created_s=0, deadline=Deadline.after(60, "make a disk")))
    os.truncate(disk, 4 * 1024**3)
    grown = subprocess.run(["resize2fs", "-f", str(disk)], capture_output=True, text=True, check=True)
    assert "is now 1048576 (4k) blocks long" in grown.stdout + grown.stderr


def test_a_tree_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    work = make_disk(tmp_path / "none", tmp_path / "disk", created_s=0, deadline=Deadline.after(60, "make a disk"))
    with pytest.raises(ImageError, match=r"cannot see how large a disk has to be: .*No such file"):
        finish(work)


def test_what_mke2fs_says_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    disk = tmp_path / "none/disk"
    work = make_disk(tmp_path / "tree", disk, created_s=0, deadline=Deadline.after(60, "make a disk"))
    with pytest.raises(ImageError, match="mke2fs ended with 1"):
        finish(work)


def test_an_overlay_has_the_guests_size_over_the_image(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image")
    guest_disk(image, tmp_path / "overlay", 3000)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(tmp_path / "overlay")]))
    assert info["virtual-size"] == 3000 * 1024 * 1024
    assert (info["format"], info["backing-filename-format"]) == ("qcow2", "raw")
    assert info["full-backing-filename"] == str(image.disk)


def test_an_overlay_smaller_than_its_image_is_refused_with_the_size_to_ask_for(tmp_path: Path) -> None:
    image = make_image(tmp_path / "image", disk_mib=300)
    with pytest.raises(ConfigError, match=r"cannot make a disk of 299 MiB: .* needs 300 MiB") as caught:
        guest_disk(image, tmp_path / "overlay", 299)
    assert "guest.disk" in caught.value.hint
    assert not (tmp_path / "overlay").exists()


def test_an_overlay_that_cannot_be_written_is_an_error_of_the_image(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot make the disk") as caught:
        guest_disk(make_image(tmp_path / "image"), tmp_path / "no/such/folder", 100)
    assert not isinstance(caught.value, FullError)
