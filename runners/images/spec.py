"""What an image is: asked for (a spec), built (an image and its manifest)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from farm.errors import ConfigError
from farm.model import Model
from runners.machines import Machine, machine_for

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

GUEST_FILES = ("init", "initramfs-init", "shell")
"""The farm's own programs in the guest."""


def guest_file(name: str) -> str:
    """The text of one of the farm's own programs in the guest."""
    return files("runners.images").joinpath("guest", name).read_text()


class ImageSpec(Model):
    """An image that is asked for."""

    name: str
    """`debian-13`."""
    arch: str
    """By Debian's name."""
    packages: Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(sorted(set(names))))] = ()
    """What it has to hold beyond the builder's own choice; kept sorted."""

    @property
    def release(self) -> str:
        """The suite it is built from. Raises ConfigError."""
        if self.name not in RELEASES:
            near = get_close_matches(self.name, RELEASES, n=2)
            meant = f"did you mean {' or '.join(near)}? " if near else ""
            known = ", ".join(RELEASES)
            raise ConfigError(
                f"cannot make an image {self.name!r}: the name is not known", hint=f"{meant}known: {known}"
            )
        return RELEASES[self.name]

    @property
    def machine(self) -> Machine:
        """What it is going to run on. Raises ConfigError."""
        return machine_for(self.arch)

    def key(self, mirror: str) -> str:
        """A SHA-256 over everything that determines what is built; `mirror` is the setting. Raises ConfigError."""
        parts = [
            self.model_dump_json(),
            self.release,
            mirror,
            str(BUILDER_VERSION),
            repr(sorted(asdict(self.machine).items())),
            *map(guest_file, GUEST_FILES),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Manifest(Model):
    """What an image holds and how it was made; kept beside it as `manifest.json`."""

    name: str
    arch: str
    kind: Literal["unpacked"] = "unpacked"
    release: str
    digest: str
    """SHA-256 over the SHA-256 of the disk, the initrd and the kernel, in this order."""
    disk_mib: int
    """The size of its disk: the least that a guest's may have."""
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
    def kernel(self) -> Path:
        """For the hypervisor to boot directly."""
        return self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        """Goes with the kernel."""
        return self.folder / "initrd"

    @property
    def disk(self) -> Path:
        """A raw disk without partitions; never to be written again."""
        return self.folder / "disk"

    @property
    def cmdline(self) -> str:
        """The kernel's command line."""
        return self.manifest.cmdline
