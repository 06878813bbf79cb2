"""A folder as a source: everything but what its `.gitignore` files name, read as git reads them.

Git itself is not needed and is not asked. Two things differ from it: a file that is ignored stays out even
if somebody has added it to the index, and a person's own ignore files (`core.excludesFile`,
`.git/info/exclude`) do not count, because the same folder would be another source for somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farm.errors import SourceError
from farm.model import FolderSource
from farm.sources.files import folder_entries
from farm.sources.ignore import Ignored
from farm.sources.tree import Kind, Limits, Tree


@contextmanager
def open_folder(source: FolderSource, *, base: Path, cache: Path, limits: Limits) -> Iterator[Tree]:
    """The folder without what is ignored; empty folders are not part of it, as in git. Raises SourceError."""
    del cache, limits  # nothing is fetched
    root = (base / source.folder).resolve()
    if not root.is_dir():
        cause = "it is not a folder" if root.exists() else "there is no such folder"
        hint = "give an archive as `tarball` with its `sha256`" if root.exists() else f"relative paths start at {base}"
        raise SourceError(f"cannot use the folder {root}: {cause}", hint=hint)
    entries = folder_entries(root, Ignored(root).skip)
    yield Tree(f"folder {source.folder}", (entry for entry in entries if entry.kind is not Kind.FOLDER))
