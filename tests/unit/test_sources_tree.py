"""The canonical tar and its digest, and every tree that is refused."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from farm.errors import SourceError
from farm.model import FolderSource, ResolvedSource, TarballSource
from farm.sources import Limits, resolve
from farm.sources.tree import Entry, Kind, Tree, checked, pack


def _file(path: str, content: bytes = b"x", *, executable: bool = False, mtime_s: float = 0) -> Entry:
    return Entry(path, Kind.FILE, mtime_s, executable, len(content), open=lambda: io.BytesIO(content))


def _link(path: str, target: str) -> Entry:
    return Entry(path, Kind.LINK, target=target)


def _folder(path: str) -> Entry:
    return Entry(path, Kind.FOLDER)


def _paths(*entries: Entry, whole: bool = True) -> list[str]:
    return [entry.path for entry in checked(Tree("it", entries, whole=whole), Limits())]


def _resolve_folder(folder: Path) -> ResolvedSource:
    return resolve(FolderSource(folder=str(folder)), base=folder, cache=folder.parent / "cache")


def test_the_tar_is_sorted_owned_by_root_and_knows_two_modes(tmp_path: Path) -> None:
    tree = [_file("b/run", executable=True, mtime_s=1234.9), _link("b/a", "run"), _file("a")]
    packed = pack(Tree("it", tree), tmp_path)
    with tarfile.open(packed.archive) as tar:
        members = [(m.name, oct(m.mode), m.uid, m.gid, m.mtime) for m in tar]
    assert members == [
        ("a", "0o644", 0, 0, 0),
        ("b", "0o755", 0, 0, 0),
        ("b/a", "0o644", 0, 0, 0),
        ("b/run", "0o755", 0, 0, 1234),
    ]
    assert (packed.files, packed.bytes) == (3, 2)


def test_long_and_undecodable_names_survive_without_posix_headers(tmp_path: Path) -> None:
    names = ["d" * 90 + "/" + "e" * 90 + "/" + "f" * 90, "latin-\udce9"]
    packed = pack(Tree("it", [_file(name) for name in names]), tmp_path)
    assert b"PaxHeader" not in packed.archive.read_bytes()
    with tarfile.open(packed.archive, encoding="utf-8", errors="surrogateescape") as tar:
        assert set(names) <= set(tar.getnames())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(_file("a", b"1"), _file("a", b"2"), id="content"),
        pytest.param(_file("a"), _file("b"), id="path"),
        pytest.param(_file("a"), _file("a", executable=True), id="mode"),
        pytest.param(_link("a", "b"), _link("a", "c"), id="target"),
    ],
)
def test_the_digest_sees_what_matters(tmp_path: Path, one: Entry, other: Entry) -> None:
    assert pack(Tree("it", [one]), tmp_path).digest != pack(Tree("it", [other]), tmp_path).digest


def test_the_digest_does_not_see_times_order_and_empty_folders(tmp_path: Path) -> None:
    one = pack(Tree("it", [_file("a"), _file("d/b")]), tmp_path)
    other = pack(Tree("it", [_folder("empty"), _file("d/b", mtime_s=99), _file("a", mtime_s=7)]), tmp_path)
    assert one.digest == other.digest
    assert one.archive != other.archive, "yet an archive is named by all that is in it"


def test_nothing_but_the_archive_is_left_behind(tmp_path: Path) -> None:
    packed = pack(Tree("it", [_file("a")]), tmp_path)
    with pytest.raises(SourceError):
        pack(Tree("it", [_file("a"), _file("a")]), tmp_path)
    assert list(tmp_path.iterdir()) == [packed.archive]


def test_a_file_that_changes_while_it_is_read_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    shrunk = Entry("a", Kind.FILE, size=10, open=lambda: io.BytesIO(b"short"))
    with pytest.raises(SourceError, match="cannot pack it"):
        pack(Tree("it", [shrunk]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_single_folder_around_everything_is_taken_off_where_asked() -> None:
    assert _paths(_folder("p-1"), _file("p-1/a"), _file("p-1/b/c"), whole=False) == ["a", "b", "b/c"]
    assert _paths(_file("p-1/a"), whole=False) == ["a"]
    assert _paths(_file("p-1/a")) == ["p-1", "p-1/a"]
    assert _paths(_file("p/a"), _file("q"), whole=False) == ["p", "p/a", "q"]
    assert _paths(_file("alone"), whole=False) == ["alone"]


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([_link("a", "b"), _link("d/up", "../a")], id="relative"),
        pytest.param([_link("a", "no/such/file")], id="dangling"),
        pytest.param([_link("a", "b"), _link("b", "a")], id="a loop leads nowhere"),
        pytest.param([_link("d/e/back", "../.."), _link("x", "d/e/back/f")], id="by way of a link, inside"),
        pytest.param([_link("a", "..a/.b")], id="names with dots"),
    ],
)
def test_links_that_stay_inside_are_kept(links: list[Entry]) -> None:
    assert {link.path for link in links} <= set(_paths(_file("f"), *links))


@pytest.mark.parametrize(
    "links",
    [
        pytest.param([_link("a", "/etc/passwd")], id="absolute"),
        pytest.param([_link("a", "..")], id="the parent"),
        pytest.param([_link("d/a", "../../x")], id="too far up"),
        pytest.param([_link("d/a", "../d/../../tree/f")], id="out and in again"),
        pytest.param([_link("d/e/top", "../.."), _link("d/out", "e/top/../x")], id="by way of another link"),
        pytest.param([_link("d/e/top", "../.."), _link("m", "d//e/./top/..")], id="and oddly spelled"),
    ],
)
def test_links_that_lead_out_are_refused(links: list[Entry]) -> None:
    with pytest.raises(SourceError, match="leads out of it"):
        _paths(_file("f"), *links)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param([], "there is no file in it", id="nothing"),
        pytest.param([_folder("a"), _folder("a/b")], "there is no file in it", id="only folders"),
        pytest.param([_file("a"), _file("a")], "two entries named 'a'", id="twice"),
        pytest.param([_file("a"), _folder("a")], "two entries named 'a'", id="a file and a folder"),
        pytest.param([_file("a"), _file("a/b")], "'a' is no folder, but 'a/b' is in it", id="a file as a folder"),
        pytest.param([_link("a", "b"), _file("a/b")], "'a' is no folder", id="a link as a folder"),
    ],
)
def test_trees_that_contradict_themselves_are_refused(entries: list[Entry], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _paths(*entries)


@pytest.mark.parametrize(("limits", "message"), [(Limits(bytes=5), "5 bytes"), (Limits(files=2), "2 files")])
def test_more_than_the_limits_is_refused(limits: Limits, message: str) -> None:
    tree = Tree("it", [_file("a", b"123"), _file("b", b"123"), _file("c", b"")])
    with pytest.raises(SourceError, match=f"cannot use it: it holds more than {message}"):
        checked(tree, limits)


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot use the cache"):
        pack(Tree("it", [_file("a")]), tmp_path / "file" / "cache")


def test_a_socket_and_a_fifo_in_a_folder_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / "d").mkdir(parents=True)
    os.mkfifo(folder / "d" / "pipe")
    with pytest.raises(SourceError, match="'d/pipe' is a FIFO"):
        _resolve_folder(folder)
    (folder / "d" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "talk"))
        with pytest.raises(SourceError, match="'talk' is a socket"):
            _resolve_folder(folder)


_MEMBERS = [
    pytest.param({"type": tarfile.FIFOTYPE}, "'bad' is a FIFO", id="fifo"),
    pytest.param({"type": tarfile.CHRTYPE}, "'bad' is a character device", id="character device"),
    pytest.param({"type": tarfile.BLKTYPE}, "'bad' is a block device", id="block device"),
    pytest.param({"type": b"Q"}, "of the unknown type", id="unknown type"),
    pytest.param({"name": "/etc/cron.d/x"}, "the name '/etc/cron.d/x'", id="absolute name"),
    pytest.param({"name": "a/../../x"}, "the name 'a/../../x'", id="name with .."),
    pytest.param({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "leads out", id="symlink"),
    pytest.param({"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "the name '/etc/passwd'", id="hard link"),
    pytest.param({"type": tarfile.LNKTYPE, "linkname": "../x"}, "the name '../x'", id="hard link with .."),
    pytest.param({"type": tarfile.LNKTYPE, "linkname": "later"}, "hard link to 'later'", id="hard link to nothing"),
    pytest.param({"name": "./good"}, "two entries named 'good'", id="the same name in two spellings"),
]


@pytest.mark.parametrize(("member", "message"), _MEMBERS)
def test_members_of_a_tar_that_are_refused(tmp_path: Path, member: dict[str, object], message: str) -> None:
    bad = tarfile.TarInfo("bad")
    for field, value in member.items():
        setattr(bad, field, value)
    source = _tarball(tmp_path, tarfile.TarInfo("good"), bad)
    with pytest.raises(SourceError, match=message):
        resolve(source, base=tmp_path, cache=tmp_path / "cache")


def test_a_hard_link_in_a_tar_is_one_more_file(tmp_path: Path) -> None:
    first, link = tarfile.TarInfo("p/first"), tarfile.TarInfo("p/second")
    first.size, first.mode = 5, 0o755
    link.type, link.linkname = tarfile.LNKTYPE, "p/first"
    resolved = resolve(_tarball(tmp_path, first, link), base=tmp_path, cache=tmp_path / "cache")
    with tarfile.open(resolved.archive) as tar:
        second = tar.extractfile("second")
        assert second is not None
        assert second.read() == b"\0" * 5
        assert tar.getmember("second").isreg()
        assert tar.getmember("second").mode == 0o755


def _tarball(folder: Path, *members: tarfile.TarInfo) -> TarballSource:
    file = folder / "t.tar"
    with tarfile.open(file, "w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return TarballSource(tarball="t.tar", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
