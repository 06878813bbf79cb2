"""What is in a tree, written down in the one way in which it can be: a program that prints the SHA-256 of that.

`digest` runs it like the program that makes the disk, so that owners are those that the disk will have. It is run
as a file, and imports nothing that is not Python's own.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator

_KINDS = {
    stat.S_IFDIR: b"folder",
    stat.S_IFREG: b"file",
    stat.S_IFLNK: b"link",
    stat.S_IFCHR: b"character device",
    stat.S_IFBLK: b"block device",
    stat.S_IFIFO: b"pipe",
    stat.S_IFSOCK: b"socket",
}
_PROVENANCE = frozenset({b"etc/apt/sources.list"})
"""Says where the packages came from, not what they are: the mirror, and the name by which it knew the release."""
_HOSTS_OWN = frozenset({"security.selinux"})
"""Attributes that the host gives to every file."""


def digest(tree: str) -> str:
    """SHA-256 of the listing of a tree. Raises OSError."""
    whole = hashlib.sha256()
    for line in listing(tree):
        whole.update(line)
    return whole.hexdigest()


def listing(tree: str) -> Iterator[bytes]:
    """A line for each thing in a tree, in the order of their paths: path, kind, mode, owner, content, attributes.

    No times, and not where the packages came from; a file with several names is a file by each of them. Paths end
    with a NUL, so that none can pass for something else.
    """
    root = os.fsencode(tree)
    yield _line(root, b".", owner="0:0")  # mke2fs is told so
    for path in sorted(_paths(root)):
        if path not in _PROVENANCE:
            yield _line(b"%s/%s" % (root, path), path)


def _paths(root: bytes, below: bytes = b"") -> Iterator[bytes]:
    """Every path below a folder, relative to the root; `below` ends with a slash."""
    with os.scandir(b"%s/%s" % (root, below)) as entries:
        for entry in entries:
            yield below + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _paths(root, b"%s%s/" % (below, entry.name))


def _line(place: bytes, path: bytes, owner: str = "") -> bytes:
    found = os.lstat(place)
    facts = f"{stat.S_IMODE(found.st_mode):04o} {owner or f'{found.st_uid}:{found.st_gid}'}".encode()
    return b"%s\0%s %s %s %s\n" % (path, _kind(found), facts, _content(place, found), _attributes(place))


def _kind(found: os.stat_result) -> bytes:
    return _KINDS[stat.S_IFMT(found.st_mode)]


def _content(place: bytes, found: os.stat_result) -> bytes:
    if stat.S_ISREG(found.st_mode):
        with open(place, "rb") as file:  # noqa: PTH123 - paths are bytes here, which a Path is not
            return hashlib.file_digest(file, "sha256").hexdigest().encode()
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(place).hex().encode()  # noqa: PTH115
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}".encode()
    return b"-"


def _attributes(place: bytes) -> bytes:
    """The extended ones, such as capabilities, which mke2fs takes into the disk."""
    try:
        names = sorted({*os.listxattr(place, follow_symlinks=False)} - _HOSTS_OWN)
        values = [f"{name}={os.getxattr(place, name, follow_symlinks=False).hex()}" for name in names]
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system that has none
            return b""
        raise
    return " ".join(values).encode()


if __name__ == "__main__":
    print(f"the content has sha256 {digest(sys.argv[1])}")  # noqa: T201 - this is what the program is for
