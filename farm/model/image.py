"""What an image is asked for by: a name, an architecture, and what is to be on top of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from farm.model.base import Model

_TAKEN = {
    **dict.fromkeys(("dev", "proc", "sys"), "is the kernel's"),
    **dict.fromkeys(("run", "tmp"), "is in memory, and empty when a guest starts"),
    "work": "is the folder of the source",
}
"""Folders of a guest that nothing can be put into beforehand, and why."""


def path_problem(path: str) -> str:
    """Why a file of an image cannot have this path; empty: it can."""
    first, *rest = path.removeprefix("/").split("/")
    if not path.startswith("/"):
        return "it is not absolute"
    if {"", ".", ".."} & {first, *rest}:
        return "it has an empty part, '.' or '..' in it"
    return f"/{first} {_TAKEN[first]}" if first in _TAKEN else ""


class LayerSpec(Model):
    """Something on top of an image; in the order packages, files, script."""

    name: str
    """For logs and reports; the content alone decides what is built."""
    packages: tuple[str, ...] = ()
    """Debian packages."""
    files: dict[str, str] = Field(default_factory=dict)
    """Absolute path in the guest -> content. A path that ends in no slash; mode 0644, or 0755 where the
    content begins with `#!`."""
    script: str = ""
    """Run once as root by `/bin/sh -e` in a guest of the image; what it leaves is kept."""


class CloudSpec(Model):
    """A disk that others have made, with cloud-init (or cloudbase-init) in it."""

    location: str
    """A path on the submitting machine, or an https:, http: or file: URL."""
    sha256: str
    """Of the file as it is fetched, in lower-case hexadecimal."""


class ImageSpec(Model):
    """An image that is asked for."""

    name: str
    """`debian-13`, `debian-13-installed`, or a name that the matrix gives to a cloud image."""
    arch: str
    """By Debian's name."""
    packages: Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(sorted(set(names))))] = ()
    """What it has to hold beyond the builder's own choice; kept sorted."""
    layers: tuple[LayerSpec, ...] = ()
    """In the order in which they are put on."""
    cloud: CloudSpec | None = None
    digest: str = ""
    """The only content that will do, where an alias was resolved; empty: whatever is there or is built."""
