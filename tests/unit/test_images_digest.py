import os
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.errors import ImageError
from runners.deadline import Deadline
from runners.images import listing
from runners.images.digest import content_digest, file_digests, tree_digest
from tests.unit.test_images_process import finish

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


def make_tree(root: Path) -> Path:
    """Files, links, an empty folder and a name that is no text."""
    (root / "usr/bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "usr/bin/tool").write_bytes(b"hello")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "bin").symlink_to("usr/bin")
    (root / os.fsdecode(b"caf\xe9\n")).touch()
    return root


def digest(root: Path) -> str:
    return listing.digest(str(root))


def test_a_tree_has_the_same_digest_whenever_and_wherever_it_was_made(tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "first"), make_tree(tmp_path / "second")
    for path in second.rglob("*"):
        os.utime(path, (1.0, 1.0), follow_symlinks=False)
    assert digest(first) == digest(second)


def test_each_line_says_all_that_counts(tmp_path: Path) -> None:
    lines = list(listing.listing(str(make_tree(tmp_path / "tree"))))
    owner = f"{os.getuid()}:{os.getgid()}".encode()
    assert [line.partition(b"\0")[0] for line in lines] == [
        b".",
        b"bin",
        b"caf\xe9\n",
        b"empty",
        b"usr",
        b"usr/bin",
        b"usr/bin/tool",
    ]
    assert lines[0].startswith(b".\0folder ")
    assert b" 0:0 " in lines[0]  # whoever unpacked it: mke2fs is told so
    assert lines[1] == b"bin\0link 0777 %s %s \n" % (owner, b"usr/bin".hex().encode())
    assert lines[-1] == b"usr/bin/tool\0file 0755 %s %s \n" % (owner, HELLO.encode())


def retarget(root: Path) -> None:
    (root / "bin").unlink()
    (root / "bin").symlink_to("usr/sbin")


def turn_into_a_link(root: Path) -> None:
    (root / "empty").rmdir()
    (root / "empty").symlink_to("usr")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "usr/bin/tool").write_bytes(b"hellO"),
    "mode": lambda root: (root / "usr/bin/tool").chmod(0o4755),
    "mode of a folder": lambda root: (root / "empty").chmod(0o700),
    "another file": lambda root: (root / "empty/file").touch(),
    "another folder": lambda root: (root / "empty/folder").mkdir(),
    "name": lambda root: (root / "empty").rename(root / "emptY"),
    "target": retarget,
    "kind": turn_into_a_link,
    "pipe": lambda root: os.mkfifo(root / "pipe"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_a_guest_could_see_makes_another_digest(tmp_path: Path, change: Callable[[Path], object]) -> None:
    before = digest(make_tree(tmp_path / "tree"))
    change(tmp_path / "tree")
    assert digest(tmp_path / "tree") != before


def test_where_the_packages_came_from_does_not_count(tmp_path: Path) -> None:
    before = digest(make_tree(tmp_path / "tree"))
    (tmp_path / "tree/etc/apt").mkdir(parents=True)
    within = digest(tmp_path / "tree")
    (tmp_path / "tree/etc/apt/sources.list").write_text("deb http://mirror.example/debian stable main\n")
    assert digest(tmp_path / "tree") == within != before


def test_an_extended_attribute_counts(tmp_path: Path) -> None:
    before = digest(make_tree(tmp_path / "tree"))
    try:
        os.setxattr(tmp_path / "tree/usr/bin/tool", "user.farm", b"x")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    assert digest(tmp_path / "tree") != before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_an_owner_counts_but_for_the_root_folder(tmp_path: Path) -> None:
    before = digest(make_tree(tmp_path / "tree"))
    os.chown(tmp_path / "tree", 33, 33)
    assert digest(tmp_path / "tree") == before
    os.chown(tmp_path / "tree/usr/bin/tool", 33, 33)
    assert digest(tmp_path / "tree") != before


def test_the_program_gives_what_root_would_see(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    said, found = finish(tree_digest(tree, deadline=Deadline.after(60, "read a tree")))
    assert said.decode() == f"the content has sha256 {found}\n"
    if os.geteuid() == 0:  # else the files look like root's to it, and not to us
        assert found == digest(tree)


def test_a_tree_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file or directory"):
        finish(tree_digest(tmp_path / "none", deadline=Deadline.after(60, "read a tree")))


def test_files_have_their_sha256(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"hello")
    assert finish(file_digests(tmp_path, ["disk"])) == (b"", {"disk": HELLO})


def test_the_digest_of_an_image_goes_by_every_part_and_not_by_their_order() -> None:
    parts = {"disk": "1", "kernel": "2", "cmdline": "quiet"}
    assert content_digest(parts) == content_digest(dict(reversed(parts.items())))
    assert len({content_digest({**parts, name: "other"}) for name in parts} | {content_digest(parts)}) == 4
