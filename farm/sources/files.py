"""Reading a folder or an open tar as entries of a tree."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, cast

from farm.errors import SourceError
from farm.sources.tree import Entry, Kind, Tree, clean_path

_SPECIAL_FILES = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_SPECIAL_MEMBERS = {
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
}


def folder_entries(root: Path, skip: Callable[[str, bool], bool] = lambda _path, _folder: False) -> Iterator[Entry]:
    """Everything in a folder except what `skip(path, is_folder)` says. Raises SourceError."""
    folders = [""]
    while folders:
        for item in _listing(root / folders.pop()):
            path = Path(item.path).relative_to(root).as_posix()
            is_folder = item.is_dir(follow_symlinks=False)
            if skip(path, is_folder):
                continue
            if is_folder:
                folders.append(path)
            yield _file_entry(root, path)


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise SourceError(f"cannot read the folder {folder}: {error.strerror}") from error


def _file_entry(root: Path, path: str) -> Entry:
    full = root / path
    try:
        facts = full.lstat()
        if stat.S_ISLNK(facts.st_mode):
            return Entry(path, Kind.LINK, facts.st_mtime, target=str(full.readlink()))
    except OSError as error:
        raise SourceError(f"cannot read {full}: {error.strerror}") from error
    if stat.S_ISDIR(facts.st_mode):
        return Entry(path, Kind.FOLDER, facts.st_mtime)
    if special := _SPECIAL_FILES.get(stat.S_IFMT(facts.st_mode)):
        raise SourceError(
            f"cannot use the source: {path!r} is {special}", hint="remove it, or name it in a .gitignore file"
        )
    executable = bool(facts.st_mode & stat.S_IXUSR)
    return Entry(path, Kind.FILE, facts.st_mtime, executable, facts.st_size, open=partial(_open_file, full))


def _open_file(path: Path) -> IO[bytes]:
    # It was a plain file when it was listed; a link put in its place since then is not followed.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


@contextmanager
def tar_tree(file: IO[bytes], description: str, *, whole: bool) -> Iterator[Tree]:
    """The tree in an uncompressed tar. Raises SourceError, also for a file that is no tar."""
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            yield Tree(description, _tar_entries(tar), whole=whole)
    except tarfile.TarError as error:
        raise SourceError(f"cannot read {description} as a tar archive: {error}") from error


def _tar_entries(tar: tarfile.TarFile) -> Iterator[Entry]:
    files: dict[str, Entry] = {}
    for member in _members(tar):
        path = clean_path(member.name)
        if not path:
            continue
        entry = _hard_link(path, member, files) if member.islnk() else _tar_entry(path, member, tar)
        if entry.kind is Kind.FILE:
            files[path] = entry
        yield entry


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    try:
        for member in tar:
            if member.size < 0:
                raise tarfile.ReadError(f"{member.name!r} has the size {member.size}")
            yield member
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:  # what tarfile raises for a broken header
        raise SourceError(f"cannot read the tar archive: {error}") from error


def _tar_entry(path: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> Entry:
    if member.isdir():
        return Entry(path, Kind.FOLDER, member.mtime)
    if member.issym():
        return Entry(path, Kind.LINK, member.mtime, target=member.linkname)
    if not member.isreg():
        special = _SPECIAL_MEMBERS.get(member.type, f"of the unknown type {member.type!r}")
        raise SourceError(f"cannot use the source: {path!r} is {special}")
    executable = bool(member.mode & stat.S_IXUSR)
    return Entry(path, Kind.FILE, member.mtime, executable, member.size, open=partial(_open_member, tar, member))


def _hard_link(path: str, member: tarfile.TarInfo, files: dict[str, Entry]) -> Entry:
    """A hard link is one more file with the same content; it can only mean a file that came before it."""
    target = clean_path(member.linkname)
    if target not in files:
        raise SourceError(
            f"cannot use the source: {path!r} is a hard link to {target!r}, which is no earlier file in it"
        )
    return replace(files[target], path=path)


def _open_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    return cast("IO[bytes]", tar.extractfile(member))  # only a folder or a special file has none
