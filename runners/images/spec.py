"""What an image is: what its name means, and what is there once it is built (an image and its manifest)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from farm.errors import ConfigError
from farm.model import ImageSpec, Model
from runners.machines import machine_for

BUILDER_VERSION = 2
"""Goes up with every change of the builder that changes what it builds."""

RELEASES = {
    "debian-11": "bullseye",
    "debian-12": "bookworm",
    "debian-13": "trixie",
    "debian-sid": "sid",
}
"""The name of an image -> the suite it is built from."""

OTHER_NAMES = {"bullseye": "oldoldstable", "bookworm": "oldstable", "trixie": "stable", "sid": "unstable"}
"""The archive holds each suite under a second name, which a mirror brings up to date by itself. It may
have moved on to another release by now: what it gives has to be checked."""

GUEST_FILES = ("init", "identity", "initramfs-init", "shell")
"""The farm's own programs in the guest."""


def guest_file(name: str) -> str:
    """The text of one of the farm's own programs in the guest."""
    return files("runners.images").joinpath("guest", name).read_text()


Kind = Literal["unpacked", "installed", "cloud"]

_INSTALLED = "-installed"
"""The name of an image with this at its end is the same release, installed."""


class Recipe(NamedTuple):
    """What the name of an image means."""

    kind: Kind
    release: str
    """The suite it is built from; empty for a cloud image."""


def recipe(spec: ImageSpec) -> Recipe:
    """How an image is made. Raises ConfigError where the name is not known."""
    if spec.cloud:
        return Recipe("cloud", "")
    name = spec.name.removesuffix(_INSTALLED)
    if name not in RELEASES:
        near = get_close_matches(name, RELEASES, n=2)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"cannot make an image {spec.name!r}: the name is not known", hint=f"{meant}known: {', '.join(RELEASES)}"
        )
    return Recipe("installed" if spec.name.endswith(_INSTALLED) else "unpacked", RELEASES[name])


def key(spec: ImageSpec, mirror: str) -> str:
    """A SHA-256 over everything that determines what is made; `mirror` is the setting. Raises ConfigError.

    Names of layers do not count, only what is in them; nor does the digest that is asked for.
    """
    content = spec.model_copy(
        update={"digest": "", "layers": tuple(layer.model_copy(update={"name": ""}) for layer in spec.layers)}
    )
    parts = [
        content.model_dump_json(),
        repr(recipe(spec)),
        mirror,
        str(BUILDER_VERSION),
        repr(sorted(asdict(machine_for(spec.arch)).items())),
        *map(guest_file, GUEST_FILES),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Manifest(Model):
    """What an image holds and how it was made; kept beside it as `manifest.json`."""

    name: str
    arch: str
    kind: Kind = "unpacked"
    release: str
    digest: str
    """Names the content: the same packages and files have the same on every host, see `digest`."""
    files: dict[str, str] = Field(default_factory=dict)
    """The files of the image's folder -> their SHA-256."""
    layers: tuple[str, ...] = ()
    """The names of what is on top."""
    disk_mib: int
    """The size of its disk: the least that a guest's may have."""
    disk_format: Literal["raw", "qcow2"] = "raw"
    requested: tuple[str, ...]
    packages: dict[str, str]
    """Every package in it -> its version."""
    mirror: str
    tools: dict[str, str]
    """The programs it was made with -> their versions."""
    builder_version: int
    built_at: datetime
    cmdline: str


class Image(Model):
    """An image on this host."""

    folder: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """Names its content."""
        return self.manifest.digest

    @property
    def kernel(self) -> Path | None:
        """For the hypervisor to boot directly; None: the firmware finds what to boot on the disk."""
        return None if self.manifest.kind == "cloud" else self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        """Goes with the kernel."""
        return self.folder / "initrd"

    @property
    def disk(self) -> Path:
        """Never to be written again. Without partitions, but for a cloud image's."""
        return self.folder / "disk"

    @property
    def cmdline(self) -> str:
        """The kernel's command line."""
        return self.manifest.cmdline
