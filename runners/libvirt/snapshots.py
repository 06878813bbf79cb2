"""Boot once, restore many: guests that have booted are saved, and cloned.

A snapshot is made of a *template*: a guest that has booted as far as it can without knowing who it is
(`runners/images/guest/identity`). It holds the machine's state, its memory and its disk, which is an overlay on the
image's. A clone gets an overlay on that, the state, and the memory in one of two ways (`MODES`).
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import libvirt
from pydantic import ValidationError

from farm.errors import FarmError, FullError, GuestError, HostError, HypervisorError, ImageError, LostError
from farm.model import Model, Stream
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.images import Image, overlay
from runners.images.shelf import MANIFEST, Shelf
from runners.libvirt import monitor
from runners.libvirt.connection import Embedded, hypervisor_errors
from runners.libvirt.console import ConsoleReader
from runners.libvirt.elements import Disk
from runners.libvirt.xml import DomainSpec, Memory, domain_xml
from runners.seed import guest_seed, make_keys, template_seed

Mode = Literal["shared", "mapped"]

VERSION = 1
"""Goes up when what is saved, or how, changes."""
WAITING = b"farm-guest: waiting"
MODES: tuple[Mode, ...] = ("shared", "mapped")
"""In the order in which they are tried: the first is faster and takes less memory, see `monitor.CAPABILITIES`."""
_UNKEPT = {"cloud": "cloud-init reads its seed once, while it boots"}
"""Kinds of image of which there are no snapshots, and why."""
_KEY_LENGTH = 16
_POLL_S = 0.02
_TRIAL_S = 5.0
"""Beyond the time that booting took: more than enough for a clone to come up, on a busy host too."""
_REFUSED = ".refused"
_REFUSED_S = 24 * 3600.0
_SPARE_BYTES = 256 * 1024 * 1024
_FULL_BYTES = 1024 * 1024
_MIB = 1024 * 1024


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
        return _cloned_memory(self.folder, self.manifest.mode)

    @property
    def damaged(self) -> str:
        """The name of a file that is not as long as it was; empty where all are."""
        for name, size in self.manifest.sizes.items():
            path = self.folder / name
            if not path.exists() or path.stat().st_size != size:
                return name
        return ""


class Found(NamedTuple):
    """A snapshot and the way it is restored; or none, and why."""

    snapshot: Snapshot | None
    note: str


class Snapshots:
    """The snapshots of this host, and the making of them."""

    def __init__(self, folder: Path, driver: Embedded, modes: tuple[Mode, ...] | None = None) -> None:
        """`modes` are tried in this order; None: as in MODES."""
        self.shelf = Shelf(folder)
        self._driver = driver
        self._modes = modes or MODES

    def ensure(self, spec: DomainSpec, image: Image, disk_mib: int, *, deadline: Deadline) -> Work[Found]:
        """The snapshot for guests like `spec`, made if need be; or why there is none."""
        if why := _UNKEPT.get(image.manifest.kind, ""):
            return Found(None, why)
        name = self.name(spec, image, disk_mib)
        if why := self._refusal(name):
            return Found(None, why)

        def make(folder: Path, _fd: int) -> Work[None]:
            yield Chunk(Stream.FARM, b"booting a guest to be kept as a snapshot\n")
            yield from _Template(self._driver, spec, image, disk_mib, folder).make(self._modes, deadline)

        try:
            snapshot = _load((yield from self.shelf.ensure(name, make, deadline=deadline)))
            if damaged := snapshot.damaged:
                yield Chunk(Stream.FARM, f"[farm: the snapshot's {damaged} is damaged; it is made anew]\n".encode())
                self.shelf.discard(name)
                snapshot = _load((yield from self.shelf.ensure(name, make, deadline=deadline)))
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


class _Template:
    """A guest that becomes a snapshot, in the folder of that."""

    def __init__(self, driver: Embedded, spec: DomainSpec, image: Image, disk_mib: int, folder: Path) -> None:
        self._driver = driver
        self._image = image
        self._disk_mib = disk_mib
        self._folder = folder
        self._work = driver.root / "templates" / uuid.uuid4().hex[:8]
        self.spec = self._renamed(spec, Memory(folder / "memory", shared=True), folder / "disk.qcow2")

    def make(self, modes: tuple[Mode, ...], deadline: Deadline) -> Work[None]:
        """Boot, save, see whether it can be restored, and write the manifest."""
        _room(self._folder, self.spec.memory_mib * _MIB)
        self._work.mkdir(parents=True, mode=0o700)
        try:
            (self._work / "seed").write_bytes(template_seed())
            with (self._folder / "memory").open("wb") as memory:
                memory.truncate(self.spec.memory_mib * _MIB)
            overlay(self._image.disk, self._image.manifest.disk_format, self._folder / "disk.qcow2", self._disk_mib)
            started = time.monotonic()
            with self._running(self.spec) as domain:
                yield from self._wait_until_it_waits(domain, deadline)
                boot_s = time.monotonic() - started
                mode = yield from self._save(domain, modes, boot_s, deadline)
        except HypervisorError as error:
            if shutil.disk_usage(self._folder).free < _FULL_BYTES:
                raise FullError(f"cannot keep a snapshot: the disk is full ({error.message})") from error
            raise
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        self._write_manifest(mode, boot_s)

    def _wait_until_it_waits(self, domain: libvirt.virDomain, deadline: Deadline) -> Work[None]:
        console = ConsoleReader(self.spec.console)
        while WAITING not in console.last():
            yield Chunk(Stream.CONSOLE, console.new())
            if not _runs(domain):
                raise LostError("cannot boot a guest to be kept as a snapshot: its machine has ended")
            deadline.check()
            time.sleep(_POLL_S)

    def _save(
        self, domain: libvirt.virDomain, modes: tuple[Mode, ...], boot_s: float, deadline: Deadline
    ) -> Work[Mode]:
        """The first mode in which the guest can be saved and restored."""
        with hypervisor_errors("hold the guest still"):
            domain.suspend()
        trouble: HypervisorError | None = None
        for mode in modes:
            try:
                yield from monitor.save(domain, self._folder / "state", mode, deadline)
                yield from self._try(mode, boot_s, deadline)
            except HypervisorError as error:
                yield Chunk(Stream.FARM, f"cannot use the mode {mode}: {error.message}\n".encode())
                trouble = error
            else:
                return mode
        raise trouble or HypervisorError("cannot save the guest: there is no way left")

    def _try(self, mode: Mode, boot_s: float, deadline: Deadline) -> Work[None]:
        """Bring up a clone, and throw it away: a machine may load, and then not run."""
        disk = self._work / "trial.qcow2"
        overlay(self._folder / "disk.qcow2", "qcow2", disk, self._disk_mib)
        spec = replace(self._renamed(self.spec, _cloned_memory(self._folder, mode), disk), incoming=True)
        seed = spec.disks[1].path
        until = time.monotonic() + _TRIAL_S + boot_s
        with self._running(spec) as domain:
            yield from monitor.load(domain, self._folder / "state", mode, deadline)
            seed.write_bytes(guest_seed(make_keys(), "trial", now_s=time.time()))
            monitor.go_on(domain)
            console = ConsoleReader(spec.console)
            while READY not in console.last():
                if not _runs(domain) or time.monotonic() > until:
                    raise HypervisorError("cannot restore the guest: it was loaded, but does not run")
                deadline.check()
                yield TICK
                time.sleep(_POLL_S)
        seed.write_bytes(template_seed())

    @contextlib.contextmanager
    def _running(self, spec: DomainSpec) -> Iterator[libvirt.virDomain]:
        flags = libvirt.VIR_DOMAIN_START_PAUSED if spec.incoming else 0
        with hypervisor_errors("start a guest to be kept as a snapshot"):
            domain = self._driver.connection.createXML(domain_xml(spec), flags)
        try:
            yield domain
        finally:
            self._driver.kill(domain)

    def _renamed(self, spec: DomainSpec, memory: Memory, disk: Path) -> DomainSpec:
        name = f"farm-template-{uuid.uuid4().hex[:8]}"
        return replace(
            spec,
            name=name,
            uuid=str(uuid.uuid4()),
            console=self._work / f"{name}.log",
            disks=(Disk("farm-root", disk, "qcow2"), Disk("farm-seed", self._work / "seed", "raw", read_only=True)),
            memory=memory,
        )

    def _write_manifest(self, mode: Mode, boot_s: float) -> None:
        if mode != "shared":
            (self._folder / "memory").unlink()
        manifest = SnapshotManifest(
            image=self._image.folder.name,
            image_digest=self._image.digest,
            arch=self.spec.machine.arch,
            mode=mode,
            sizes={path.name: path.stat().st_size for path in self._folder.iterdir()},
            disk_mib=self._disk_mib,
            memory_mib=self.spec.memory_mib,
            vcpus=self.spec.vcpus,
            machine=self.spec.machine.machine_type,
            qemu=self._driver.version,
            saved_at=datetime.now(UTC),
            boot_s=boot_s,
        )
        (self._folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))


def restore(domain: libvirt.virDomain, snapshot: Snapshot, deadline: Deadline) -> Work[None]:
    """Load a snapshot into a clone's machine, which stands still afterwards. Raises HypervisorError, DeadlineError."""
    yield from monitor.load(domain, snapshot.state, snapshot.manifest.mode, deadline)


def _cloned_memory(folder: Path, mode: Mode) -> Memory:
    return Memory(folder / "memory") if mode == "shared" else Memory()


def _load(folder: Path) -> Snapshot:
    try:
        return Snapshot(folder, SnapshotManifest.model_validate_json((folder / MANIFEST).read_bytes()))
    except (OSError, ValidationError) as error:
        raise ImageError(f"cannot read the snapshot {folder.name}: {error}") from error


def _runs(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)
    except libvirt.libvirtError:
        return False


def _room(folder: Path, size: int) -> None:
    """A guest whose memory is a file dies when there is no room for a page of it."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE_BYTES:
        raise FullError(
            f"cannot keep a snapshot: it may need {(size + _SPARE_BYTES) // _MIB} MiB, and {free // _MIB} are free",
            hint="`farm images prune` makes room",
        )


def _host_cpu() -> str:
    """What this host's CPU calls itself and can do, for a guest that runs on it."""
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return "".join(line for line in lines if line.startswith(("vendor_id", "model", "stepping", "flags", "Features")))
