"""The images of this host as others may see them; who shows them is put in by `farm.cli`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from farm.model import Model

Change = tuple[str, str]
"""Before and after; empty where there was nothing, or is nothing."""


class ImageLine(Model):
    """An image at a glance."""

    name: str
    arch: str
    kind: str
    """`unpacked`, `installed` or `cloud`."""
    release: str
    """The suite of Debian; empty for a cloud image."""
    digest: str
    """Names its content."""
    package_count: int | None
    """None: it is not known what it holds."""
    requested: tuple[str, ...]
    """The packages that were asked for besides the builder's own choice."""
    layers: tuple[str, ...]
    built_at: datetime
    used_at: datetime
    in_use: bool
    size_bytes: int
    """On this host."""


class ImageFacts(Model):
    """All that is known of an image."""

    image: ImageLine
    packages: dict[str, str]
    """Every package in it -> its version; none where it is not known what it holds, as of a cloud image."""
    files: dict[str, str]
    """Its own files -> their SHA-256."""
    base: str
    """The digest of the image under its layers, where these had to be put on in a guest; else empty."""
    disk_mib: int
    """The least that a guest's disk may have."""
    disk_format: str
    cmdline: str
    mirror: str
    tools: dict[str, str]
    """The programs that it was made with -> their versions."""


class ImageDifference(Model):
    """From one image to another."""

    before: ImageLine
    after: ImageLine
    packages: dict[str, Change] | None
    """Every package that is not the same in both -> its versions; None where it is not known what one of them holds."""
    facts: dict[str, Change]
    """What else is not the same -> what it was and is."""


class Images(Protocol):
    """The images of a host."""

    def all(self) -> tuple[ImageLine, ...]:
        """Every whole image, by name."""

    def show(self, name: str) -> ImageFacts:
        """One by `debian-13/riscv64` or the first digits of its digest.

        Raises NotFoundError, and ConfigError where several have this name.
        """

    def diff(self, before: str, after: str) -> ImageDifference:
        """What differs between two, each named as for `show`."""
