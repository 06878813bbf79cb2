"""Making a snapshot of a *template*: a guest that has booted as far as it can without knowing who it is.

How far that is says `runners/images/guest/identity`.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import libvirt

from farm.errors import FullError, HypervisorError, LostError
from farm.model import Stream
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.images import Image, overlay
from runners.images.shelf import MANIFEST
from runners.libvirt import monitor
from runners.libvirt.connection import Embedded, hypervisor_errors
from runners.libvirt.console import ConsoleReader
from runners.libvirt.elements import Disk
from runners.libvirt.snapshot import Mode, SnapshotManifest, cloned_memory
from runners.libvirt.xml import DomainSpec, Memory, domain_xml
from runners.seed import guest_seed, make_keys, template_seed

VERSION = 1
"""Goes up when what is saved, or how, changes."""
WAITING = b"farm-guest: waiting"
MODES: tuple[Mode, ...] = ("shared", "mapped")
"""In the order in which they are tried: the first is faster and takes less memory, see `monitor.CAPABILITIES`."""
_POLL_S = 0.02
_TRIAL_S = 5.0
"""Beyond the time that booting took: more than enough for a clone to come up, on a busy host too."""
_SPARE_BYTES = 256 * 1024 * 1024
_FULL_BYTES = 1024 * 1024
_MIB = 1024 * 1024


class UselessError(HypervisorError):
    """A guest has booted, but in no mode can it be saved so that a clone of it runs."""


class Template:
    """A guest that becomes a snapshot, in the folder of that."""

    def __init__(self, driver: Embedded, spec: DomainSpec, image: Image, disk_mib: int, folder: Path) -> None:
        self._driver = driver
        self._image = image
        self._disk_mib = disk_mib
        self._folder = folder
        self._work = driver.root / "templates" / uuid.uuid4().hex[:8]
        self.spec = self._renamed(spec, Memory(folder / "memory", shared=True), folder / "disk.qcow2")

    def make(self, deadline: Deadline) -> Work[None]:
        """Boot, save, see whether it can be restored, and write the manifest.

        Raises UselessError where it cannot be restored; GuestError, HostError and OSError where the next try may do.
        """
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
                mode = yield from self._save(domain, boot_s, deadline)
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

    def _save(self, domain: libvirt.virDomain, boot_s: float, deadline: Deadline) -> Work[Mode]:
        """The first mode in which the guest can be saved and restored."""
        with hypervisor_errors("hold the guest still"):
            domain.suspend()
        trouble: HypervisorError | None = None
        for mode in MODES:
            try:
                yield from monitor.save(domain, self._folder / "state", mode, deadline)
                yield from self._try(mode, boot_s, deadline)
            except HypervisorError as error:
                yield Chunk(Stream.FARM, f"cannot use the mode {mode}: {error.message}\n".encode())
                trouble = error
            else:
                return mode
        raise UselessError(trouble.message if trouble else "cannot save the guest: there is no way left")

    def _try(self, mode: Mode, boot_s: float, deadline: Deadline) -> Work[None]:
        """Bring up a clone, and throw it away: a machine may load, and then not run."""
        disk = self._work / "trial.qcow2"
        overlay(self._folder / "disk.qcow2", "qcow2", disk, self._disk_mib)
        spec = replace(self._renamed(self.spec, cloned_memory(self._folder, mode), disk), incoming=True)
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
