"""What a snapshot is: a machine's state, its memory and its disk, in a folder with a manifest.

The disk is an overlay on the image's. A clone gets an overlay on that, the state, and the memory in one of two ways
(`monitor.CAPABILITIES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import libvirt
from pydantic import ValidationError

from farm.errors import ImageError
from farm.model import Model
from runners.deadline import Deadline
from runners.guest import Work
from runners.images.shelf import MANIFEST
from runners.libvirt import monitor
from runners.libvirt.xml import Memory

Mode = Literal["shared", "mapped"]


class SnapshotManifest(Model):
    """What is known of a snapshot; kept beside it as `manifest.json`."""

    image: str
    """The folder of its image."""
    image_digest: str
    arch: str
    mode: Mode
    sizes: dict[str, int]
    """The files of the snapshot -> their bytes."""
    disk_mib: int
    memory_mib: int
    vcpus: int
    machine: str
    qemu: str
    saved_at: datetime
    boot_s: float
    """How long the template took to boot."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on this host."""

    folder: Path
    manifest: SnapshotManifest

    @property
    def disk(self) -> Path:
        """The qcow2 under the clones' own."""
        return self.folder / "disk.qcow2"

    @property
    def state(self) -> Path:
        """Of the machine."""
        return self.folder / "state"

    @property
    def memory(self) -> Memory:
        """What a clone's memory is backed by."""
        return cloned_memory(self.folder, self.manifest.mode)


def damaged_file(folder: Path) -> str:
    """The name of a file of a snapshot that cannot be read, or is not as long as it was; empty where all is well."""
    try:
        sizes = load(folder).manifest.sizes
    except ImageError:
        return MANIFEST
    for name, size in sizes.items():
        path = folder / name
        if not path.exists() or path.stat().st_size != size:
            return name
    return ""


def load(folder: Path) -> Snapshot:
    """The snapshot in a folder. Raises ImageError where its manifest cannot be read."""
    try:
        return Snapshot(folder, SnapshotManifest.model_validate_json((folder / MANIFEST).read_bytes()))
    except (OSError, ValidationError) as error:
        raise ImageError(f"cannot read the snapshot {folder.name}: {error}") from error


def restore(domain: libvirt.virDomain, snapshot: Snapshot, deadline: Deadline) -> Work[None]:
    """Load a snapshot into a clone's machine, which stands still afterwards. Raises HypervisorError, DeadlineError."""
    yield from monitor.load(domain, snapshot.state, snapshot.manifest.mode, deadline)


def cloned_memory(folder: Path, mode: Mode) -> Memory:
    """What the memory of a snapshot's clone is backed by."""
    return Memory(folder / "memory") if mode == "shared" else Memory()
