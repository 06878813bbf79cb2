"""A tree of files as a checked, sorted list, and its one canonical form: an uncompressed tar with a digest.

The digest is the SHA-256 over one record for each file and link, sorted by path: path, mode, type, and the
SHA-256 of the content or the target. Folders have no record, as in git: so the same files have the same
digest whether they come from a folder, from git or from an archive. The tar does hold the folders, also
empty ones, and the times, because builds with autotools compare them.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import IO

from farm.errors import SourceError
from farm.sources.cached import written


class Kind(StrEnum):
    """What an entry of a tree is."""

    FILE = "file"
    LINK = "link"
    FOLDER = "folder"


def _nothing() -> IO[bytes]:
    return io.BytesIO()


@dataclass(frozen=True)
class Entry:
    """A file, symbolic link or folder of a tree; `path` is relative to its root, with `/` between names."""

    path: str
    kind: Kind
    mtime_s: float = 0
    executable: bool = False
    size: int = 0
    """Of a file, in bytes."""
    target: str = ""
    """Of a link."""
    open: Callable[[], IO[bytes]] = _nothing
    """The content of a file."""


@dataclass(frozen=True)
class Limits:
    """The most that a source may hold."""

    bytes: int = 1024**3
    """Of its files together, and of everything that is fetched or unpacked on the way to it."""
    files: int = 200_000
    """Files, links and folders."""


LIMITS = Limits()


@dataclass(frozen=True)
class Tree:
    """An open source: its entries can be read as long as it is open.

    `whole` says that a single folder at the top, which archives have around everything, is part of the
    tree; where it is False that folder is taken off.
    """

    description: str
    entries: Iterable[Entry]
    whole: bool = True


@dataclass(frozen=True)
class Packed:
    """A tree as a tar file."""

    archive: Path
    digest: str
    files: int
    """Files and links."""
    bytes: int


_LATEST_S = 8**11 - 1
"""The latest time (year 2242) that every tar program can read."""


def pack(tree: Tree, folder: Path, *, limits: Limits = LIMITS) -> Packed:
    """Check a tree and write it to a tar in `folder`, named by the SHA-256 of the tar itself.

    Entries are sorted, owned by 0:0, with modes 0644 or 0755. GNU format, because busybox in a guest does
    not know the long names of the POSIX one. Raises SourceError.
    """
    entries = checked(tree, limits)
    digest = hashlib.sha256()
    with written(folder, ".tar") as (file, name):
        try:
            with tarfile.open(
                fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
            ) as tar:
                for entry in entries:
                    digest.update(_add(tar, entry))
        except (tarfile.TarError, EOFError, OSError) as error:
            raise SourceError(f"cannot pack {tree.description}: {error}") from error
        file.seek(0)
        archive = name(hashlib.file_digest(file, "sha256").hexdigest())
    contents = [entry for entry in entries if entry.kind is not Kind.FOLDER]
    return Packed(archive, digest.hexdigest(), len(contents), sum(entry.size for entry in contents))


def checked(tree: Tree, limits: Limits) -> list[Entry]:
    """The entries sorted by path, every folder among them. Raises SourceError for a tree that is not accepted."""
    found = _gathered(tree, limits)
    if not tree.whole:
        found = _without_root(found)
    if all(entry.kind is Kind.FOLDER for entry in found.values()):
        raise SourceError(f"cannot use {tree.description}: there is no file in it")
    _complete(found)
    for entry in found.values():
        if entry.kind is Kind.LINK and _leads_out(entry, found):
            raise SourceError(
                f"cannot use {tree.description}: the link {entry.path!r} leads out of it ({entry.target!r})"
            )
    return [found[path] for path in sorted(found, key=_as_bytes)]


def clean_path(name: str) -> str:
    """A name as an archive spells it, without `./`, doubled and trailing slashes; empty for the root.

    Raises SourceError if it is absolute or has `..` in it.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise SourceError(f"cannot use the source: it holds the name {name!r}, which is not inside of it")
    return "/".join(parts)


def _as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _gathered(tree: Tree, limits: Limits) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    total = 0
    for entry in tree.entries:
        earlier = found.get(entry.path)
        if earlier and not earlier.kind is entry.kind is Kind.FOLDER:
            raise SourceError(f"cannot use {tree.description}: it holds two entries named {entry.path!r}")
        found[entry.path] = entry
        total += entry.size
        if total > limits.bytes:
            raise SourceError(f"cannot use {tree.description}: it holds more than {limits.bytes} bytes")
        if len(found) > limits.files:
            raise SourceError(f"cannot use {tree.description}: it holds more than {limits.files} files")
    return found


def _without_root(found: dict[str, Entry]) -> dict[str, Entry]:
    tops = {path.partition("/")[0] for path in found}
    if len(tops) != 1:
        return found
    top = tops.pop()
    if top in found and found[top].kind is not Kind.FOLDER:
        return found
    inner = {path.removeprefix(f"{top}/"): entry for path, entry in found.items() if path != top}
    return {path: replace(entry, path=path) for path, entry in inner.items()}


def _complete(found: dict[str, Entry]) -> None:
    """Add the folders that are only implied."""
    for path in list(found):
        for parent in PurePosixPath(path).parents[:-1]:
            if found.setdefault(str(parent), Entry(str(parent), Kind.FOLDER)).kind is not Kind.FOLDER:
                raise SourceError(f"cannot use the source: {str(parent)!r} is no folder, but {path!r} is in it")


_MOST_LINKS = 40
"""As many as Linux follows before it calls it a loop: path_resolution(7)."""


def _leads_out(link: Entry, found: dict[str, Entry]) -> bool:
    """Whether a link leaves the tree, also by way of other links, however its target is spelled."""
    here = link.path.split("/")[:-1]
    todo = deque([link.target])
    followed = 0
    while todo and followed < _MOST_LINKS:
        target = todo.popleft()
        if target.startswith("/"):
            return True
        first, _, rest = target.partition("/")
        if rest:
            todo.appendleft(rest.lstrip("/"))
        if first == "..":
            if not here:
                return True
            here.pop()
        elif first not in ("", "."):
            step = found.get("/".join([*here, first]))
            if step and step.kind is Kind.LINK:
                followed += 1
                todo.appendleft(step.target)
            else:
                here.append(first)
    return False


class _Hashing:
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.hash.update(data)
        return data


_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.LINK: tarfile.SYMTYPE, Kind.FOLDER: tarfile.DIRTYPE}


def _add(tar: tarfile.TarFile, entry: Entry) -> bytes:
    """Write an entry to the tar; its record for the digest, empty for a folder."""
    info = tarfile.TarInfo(entry.path)
    info.type = _TYPES[entry.kind]
    info.mode = 0o755 if entry.executable or entry.kind is Kind.FOLDER else 0o644
    info.mtime = int(min(max(0, entry.mtime_s), _LATEST_S))
    info.linkname = entry.target
    if entry.kind is not Kind.FILE:
        tar.addfile(info)
        return b"" if entry.kind is Kind.FOLDER else _record(entry, 0o777, entry.target)
    info.size = entry.size
    with entry.open() as file:
        content = _Hashing(file)
        tar.addfile(info, content)
    return _record(entry, info.mode, content.hash.hexdigest())


def _record(entry: Entry, mode: int, content: str) -> bytes:
    return _as_bytes("\0".join((entry.path, f"{mode:04o}", entry.kind, content))) + b"\n"
