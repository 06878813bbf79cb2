"""Where the program under test comes from: one type for each kind, told apart by its first key."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from farm.model.base import Model

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FolderSource(Model):
    """A folder, relative to the matrix file; what its `.gitignore` files name is left out."""

    folder: str


class GitSource(Model):
    """A git repository, by URL or path (relative to the matrix file), at a branch, tag or commit."""

    git: str
    ref: str = "HEAD"


class TarballSource(Model):
    """A tar archive, by URL or path, with the SHA-256 of the file."""

    tarball: str
    sha256: Sha256


class DebianSource(Model):
    """A Debian source package, fetched through the machine's own apt configuration."""

    debian: str
    version: str


class PypiSource(Model):
    """The source distribution of a Python package, fetched through the machine's own pip."""

    pypi: str
    version: str


Source = FolderSource | GitSource | TarballSource | DebianSource | PypiSource


_LONGEST_VERSION = 200


def version_of(source: Source) -> str:
    """What is tested, as the source itself calls it: a branch, a tag, a version; empty where it does not."""
    if isinstance(source, GitSource):
        return "" if source.ref == "HEAD" else source.ref[:_LONGEST_VERSION]
    return source.version[:_LONGEST_VERSION] if isinstance(source, DebianSource | PypiSource) else ""


class ResolvedSource(Model):
    """A source as it was when the run was submitted.

    `digest` is the SHA-256 over the sorted paths, modes and contents of the tree, so the same tree
    has the same digest whichever way it came. `archive` is the path of an uncompressed tar of it on
    the submitting machine; the names in it are relative to the root of the tree.
    """

    kind: str
    description: str
    digest: str
    archive: str
    files: int
    bytes: int


NO_SOURCE = ResolvedSource(
    kind="none",
    description="",
    digest="",
    archive="",
    files=0,
    bytes=0,
)
"""Of a run that tests nothing."""
