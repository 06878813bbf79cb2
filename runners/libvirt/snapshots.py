"""Boot once, restore many: the snapshots of this host, each kept under the name of all that matters to it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from farm.errors import FarmError, FullError, GuestError, HostError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import Chunk, Work
from runners.images import Image
from runners.images.shelf import Shelf
from runners.libvirt.connection import Embedded
from runners.libvirt.snapshot import Snapshot, load
from runners.libvirt.template import VERSION, Template
from runners.libvirt.xml import DomainSpec, domain_xml

_UNKEPT = {"cloud": "cloud-init reads its seed once, while it boots"}
"""Kinds of image of which there are no snapshots, and why."""
_KEY_LENGTH = 16
_REFUSED = ".refused"
_REFUSED_S = 24 * 3600.0


class Found(NamedTuple):
    """A snapshot and the way it is restored; or none, and why."""

    snapshot: Snapshot | None
    note: str


class Snapshots:
    """The snapshots of this host, and the making of them."""

    def __init__(self, folder: Path, driver: Embedded) -> None:
        self.shelf = Shelf(folder)
        self._driver = driver

    def ensure(self, spec: DomainSpec, image: Image, disk_mib: int, *, deadline: Deadline) -> Work[Found]:
        """The snapshot for guests like `spec`, made if need be; or why there is none."""
        if why := _UNKEPT.get(image.manifest.kind, ""):
            return Found(None, why)
        name = self.name(spec, image, disk_mib)
        if why := self._refusal(name):
            return Found(None, why)

        def make(folder: Path, _fd: int) -> Work[None]:
            yield Chunk(Stream.FARM, b"booting a guest to be kept as a snapshot\n")
            yield from Template(self._driver, spec, image, disk_mib, folder).make(deadline)

        try:
            snapshot = load((yield from self.shelf.ensure(name, make, deadline=deadline)))
            if damaged := snapshot.damaged:
                yield Chunk(Stream.FARM, f"[farm: the snapshot's {damaged} is damaged; it is made anew]\n".encode())
                self.shelf.discard(name)
                snapshot = load((yield from self.shelf.ensure(name, make, deadline=deadline)))
        except (GuestError, FullError) as error:  # may be otherwise the next time
            return Found(None, error.message)
        except (HostError, OSError) as error:
            yield Chunk(Stream.FARM, f"{error}\n".encode())
            return Found(None, self.refuse(name, error))
        return Found(snapshot, snapshot.manifest.mode)

    def refuse(self, name: str, error: FarmError | OSError) -> str:
        """Remove a snapshot that is of no use, and remember for a day why; gives that."""
        why = error.message if isinstance(error, FarmError) else str(error)
        self.shelf.discard(name)
        path = self.shelf.folder / f".{name}{_REFUSED}"
        path.write_text(why)
        return why

    def name(self, spec: DomainSpec, image: Image, disk_mib: int) -> str:
        """What the snapshot is called on the shelf: the image, and a key of all that matters."""
        plain = replace(
            spec, name="", uuid="", owner="", console=Path(), memory=None, incoming=False,
            disks=tuple(replace(disk, path=Path()) for disk in spec.disks),
        )  # fmt: skip
        emulator = Path(f"/usr/bin/qemu-system-{spec.machine.qemu_arch}").stat()
        parts = [domain_xml(plain), image.folder.name, image.digest, str(disk_mib), self._driver.version, str(VERSION)]
        parts += [str(emulator.st_size), str(emulator.st_mtime_ns), "" if spec.hypervisor.emulated else _host_cpu()]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_LENGTH]
        return f"{image.manifest.name}-{image.manifest.arch}-{key}"

    def _refusal(self, name: str) -> str:
        path = self.shelf.folder / f".{name}{_REFUSED}"
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < _REFUSED_S:
                return path.read_text()
        return ""


def _host_cpu() -> str:
    """What this host's CPU calls itself and can do, for a guest that runs on it."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return "".join(line for line in lines if line.startswith(("vendor_id", "model", "stepping", "flags", "Features")))
