"""Choosing and accepting files of a guest."""

from __future__ import annotations

import io
import tarfile

import pytest

from farm.errors import UntrustedError
from runners.collect import matching, read_archive

NAMES = ("results.xml", "a/results.xml", "a/b/deep.xml", "a/b.txt", "x+(1).log")


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("results.xml", {"results.xml"}),
        ("./results.xml", {"results.xml"}),
        ("*.xml", {"results.xml"}),
        ("*/*.xml", {"a/results.xml"}),
        ("**/*.xml", {"results.xml", "a/results.xml", "a/b/deep.xml"}),
        ("a/**", {"a/results.xml", "a/b/deep.xml", "a/b.txt"}),
        ("a/?.txt", {"a/b.txt"}),
        ("x+(1).log", {"x+(1).log"}),
        ("../*", set()),
        ("/etc/passwd", set()),
    ],
)
def test_a_glob_means_these_files(glob: str, expected: set[str]) -> None:
    assert set(matching(NAMES, (glob,))) == expected


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_files_that_were_asked_for_are_accepted() -> None:
    assert list(read_archive(archive((member("./a/b"), b"1"), (member("c"), b"")), ("a/b", "c"))) == [
        ("a/b", b"1"),
        ("c", b""),
    ]


@pytest.mark.parametrize(
    "evil",
    [
        member("../etc/passwd"),
        member("/etc/passwd"),
        member("unasked"),
        member("wanted", tarfile.SYMTYPE, "/etc/passwd"),
        member("wanted", tarfile.LNKTYPE, "../x"),
        member("wanted", tarfile.FIFOTYPE),
        member("wanted", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type!r}",
)
def test_anything_else_in_the_tar_is_refused(evil: tarfile.TarInfo) -> None:
    with pytest.raises(UntrustedError, match="not asked for, or is no regular file"):
        list(read_archive(archive((evil, b"")), ("wanted",)))


def test_a_file_sent_twice_is_refused() -> None:
    with pytest.raises(UntrustedError):
        list(read_archive(archive((member("a"), b"1"), (member("a"), b"2")), ("a",)))


@pytest.mark.parametrize("data", [b"rubbish" * 200, archive((member("a"), b"x" * 5000))[:2000]])
def test_a_broken_tar_is_refused(data: bytes) -> None:
    with pytest.raises(UntrustedError):
        list(read_archive(data, ("a",)))
