"""A tar archive, by URL or path, as a source. Nothing looks into the file before its SHA-256 is right."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from farm.errors import SourceError
from farm.model import TarballSource
from farm.sources.cached import blocks_of, copy, written
from farm.sources.files import tar_tree
from farm.sources.programs import run_into
from farm.sources.tree import Limits, Tree
from farm.sources.urls import fetched, opened, shown


@contextmanager
def open_tarball(source: TarballSource, *, base: Path, cache: Path, limits: Limits) -> Iterator[Tree]:
    """The tree in the archive, without a single folder around everything. Raises SourceError."""
    file = kept(source.tarball, source.sha256, base=base, cache=cache, limits=limits)
    with unpacked(file, f"tarball {shown(source.tarball)}", limits, whole=False) as tree:
        yield tree


def kept(place: str, sha256: str, *, base: Path, cache: Path, limits: Limits) -> Path:
    """The file of a URL or path in the cache, where it is kept by its SHA-256. Raises SourceError."""
    ready = cache / "files" / sha256
    if ready.exists():
        return ready
    with _content(place, base) as blocks, written(ready.parent) as (file, name):
        found = copy(blocks, file, limit=limits.bytes, to=f"fetch {shown(place)}")
        if found != sha256:
            raise SourceError(
                f"cannot use {shown(place)}: its SHA-256 is {found}, expected {sha256}",
                hint="if the new file is the right one, put its SHA-256 into the matrix",
            )
        return name(sha256)


@contextmanager
def _content(place: str, base: Path) -> Iterator[Iterator[bytes]]:
    if "://" in place:
        with fetched(place) as blocks:
            yield blocks
        return
    # By the path as it is: a URL of it would make `nowhere/../file` the same as `file`.
    with opened(base / place) as file:
        yield blocks_of(file)


@contextmanager
def unpacked(path: Path, description: str, limits: Limits, *, whole: bool) -> Iterator[Tree]:
    """The tree in a tar archive, compressed or not; `whole` as in `Tree`. Raises SourceError."""
    with TemporaryFile() as plain:
        _decompress(path, plain, description, limits)
        plain.seek(0)
        with tar_tree(plain, description, whole=whole) as tree:
            yield tree


_READERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
"""By the first bytes of a file: a URL need not end in what it gives."""
_ZSTD = b"\x28\xb5\x2f\xfd"


def _decompress(path: Path, plain: IO[bytes], what: str, limits: Limits) -> None:
    limit = limits.bytes + 1024 * limits.files  # a tar has up to 1 KiB of its own for each file
    with opened(path) as file:
        magic = file.read(6)
    if magic.startswith(_ZSTD):
        run_into(plain, ["zstd", "-dcq", "--", str(path)], to=f"decompress {what}", limit=limit)
        return
    reader = next((reader for start, reader in _READERS.items() if magic.startswith(start)), open)
    try:
        with reader(path, "rb") as content:
            copy(blocks_of(content), plain, limit=limit, to=f"decompress {what}")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SourceError(f"cannot decompress {what}: {error}") from error
