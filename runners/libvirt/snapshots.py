"""Boot once, restore many: the snapshots of this host, each kept under the name of all that matters to it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from farm.errors import GuestError, HostError
from farm.model import Stream
from runners.deadline import Deadline
from runners.guest import Chunk, Work
from runners.images import Image
from runners.images.shelf import Shelf
from runners.libvirt.connection import Embedded
from runners.libvirt.snapshot import Snapshot, damaged_file, load
from runners.libvirt.template import VERSION, Template, UselessError
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
            folder = yield from self.shelf.ensure(name, make, deadline=deadline)
            if damaged := damaged_file(folder):
                yield Chunk(Stream.FARM, f"[farm: the snapshot's {damaged} is damaged; it is made anew]\n".encode())
                self.shelf.discard(name)
                folder = yield from self.shelf.ensure(name, make, deadline=deadline)
            snapshot = load(folder)
        except UselessError as error:
            yield Chunk(Stream.FARM, f"{error}\n".encode())
            self._refuse(name, error.message)
            return Found(None, error.message)
        except (GuestError, HostError) as error:  # may be otherwise the next time
            return Found(None, error.message)
        except OSError as error:
            return Found(None, f"cannot keep a snapshot: {error.strerror or error}")
        return Found(snapshot, snapshot.manifest.mode)

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

    def _refuse(self, name: str, why: str) -> None:
        """Remember for a day that there can be no such snapshot; where there is no room for that, it is tried again."""
        with contextlib.suppress(OSError):
            (self.shelf.folder / f".{name}{_REFUSED}").write_text(why)

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
