"""Where the program under test comes from: every kind of source becomes one canonical tar with one digest.

Each kind is a module with one function that opens a source: it fetches what is needed into the cache and
gives a `Tree`, which `farm.sources.tree` checks and packs, always in the same way. A new kind is a type in
`farm.model.source`, a module here and a row of `_KINDS`. Nothing here runs code of a source.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from farm.model import (
    DebianSource,
    FolderSource,
    GitSource,
    PypiSource,
    ResolvedSource,
    Source,
    TarballSource,
)
from farm.sources.debian import open_debian
from farm.sources.folder import open_folder
from farm.sources.git import open_git
from farm.sources.pypi import open_pypi
from farm.sources.tarball import open_tarball
from farm.sources.tree import LIMITS, Limits, Tree, pack

__all__ = ["LIMITS", "Limits", "resolve"]

_KINDS: dict[type, tuple[str, Callable[..., AbstractContextManager[Tree]]]] = {
    FolderSource: ("folder", open_folder),
    GitSource: ("git", open_git),
    TarballSource: ("tarball", open_tarball),
    DebianSource: ("debian", open_debian),
    PypiSource: ("pypi", open_pypi),
}


def resolve(source: Source, *, base: Path, cache: Path, limits: Limits = LIMITS) -> ResolvedSource:
    """The source as it is now: fetched, checked, and packed into a tar under `cache`.

    `base` is the folder of the matrix file, to which paths are relative. `cache` may be shared by several
    processes and deleted while none of them runs. Raises SourceError.
    """
    kind, opened = _KINDS[type(source)]
    arguments: dict[str, Any] = {"base": base.absolute(), "cache": cache.absolute(), "limits": limits}
    with opened(source, **arguments) as tree:
        packed = pack(tree, cache.absolute() / "archives", limits=limits)
    return ResolvedSource(
        kind=kind,
        description=tree.description,
        digest=packed.digest,
        archive=str(packed.archive),
        files=packed.files,
        bytes=packed.bytes,
    )
