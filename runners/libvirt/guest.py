"""A guest under libvirt's embedded QEMU driver: boot or restore, connect, destroy."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from farm.errors import FarmError, FullError, GuestError, HostError, HypervisorError, LostError, UntrustedError
from farm.model import GuestFacts, Start, Stream, Usage
from runners import forwarded
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Shell, Work
from runners.images import Image, guest_disk, nocloud, overlay
from runners.images.shelf import Shelf
from runners.images.spec import Kind
from runners.libvirt import monitor
from runners.libvirt.connection import Embedded, hypervisor_errors
from runners.libvirt.console import ConsoleReader
from runners.libvirt.snapshot import Snapshot, restore
from runners.libvirt.usage import Meter
from runners.libvirt.xml import DomainSpec, domain_xml
from runners.machines import Machine
from runners.seed import SEED_BYTES, Keys, guest_seed, make_keys
from runners.ssh import connect, tcp

_POLL_S = 0.01
_TICK_S = 0.25
_RESTORE_S = 20.0
"""Beyond the time that booting took: after that, booting is tried."""
_CONSOLE_LIMIT_BYTES = 64 * 1024 * 1024

_SEEDS: Mapping[Kind, Callable[[Keys, str, Machine], bytes]] = {
    "unpacked": lambda keys, name, _machine: guest_seed(keys, name),
    "installed": lambda keys, name, _machine: guest_seed(keys, name),
    "cloud": lambda keys, name, machine: nocloud.cd(
        keys, name, str(uuid.uuid4()), machine.console, nocloud.user_network()
    ),
}
"""What a guest that boots reads to know who it is."""


@dataclass(frozen=True)
class Parts:
    """What a guest is made from."""

    spec: DomainSpec
    """As it boots; its files are all in the folder of its console."""
    image: Image
    disk_mib: int
    host_name: str
    snapshot: Snapshot | None
    """None: it boots."""
    when_up: Callable[[], None]
    """Called once, when somebody is connected to it."""
    holds: contextlib.ExitStack
    """Keeps the image and the snapshot from being removed until it is closed."""

    @property
    def folder(self) -> Path:
        """Of everything that is made for the guest."""
        return self.spec.console.parent


class LibvirtGuest:
    """A guest and everything that was made for it, all of it in one folder."""

    def __init__(self, driver: Embedded, parts: Parts, facts: GuestFacts) -> None:
        self._driver = driver
        self._parts = parts
        self._facts = facts
        self._snapshot = parts.snapshot
        self._console = ConsoleReader(parts.spec.console)
        self._meter = Meter(driver)
        self._keys = make_keys()
        self._domain: libvirt.virDomain | None = None
        self._port = 0

    @property
    def facts(self) -> GuestFacts:
        """What it really is."""
        return self._facts

    @property
    def disk(self) -> Path:
        """Its root disk, a qcow2 on top of another; at rest once the machine has ended."""
        return self._parts.spec.disks[0].path

    @property
    def stands_ready(self) -> bool:
        """It has been loaded, and waits to be told who it is."""
        try:
            return self._domain is not None and self._domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
        except libvirt.libvirtError:
            return False

    def furnish(self) -> None:
        """Make its folder and its disk. Raises ConfigError, FullError, ImageError, OSError."""
        self._parts.folder.mkdir(parents=True, mode=0o700)
        self._make_disk()

    def load(self, deadline: Deadline) -> Work[None]:
        """Restore it as far as it can be without knowing for whom; it stands still then. Once is enough."""
        if self._domain is None and self._snapshot:
            self._write_seed(bytes(SEED_BYTES))
            flags = libvirt.VIR_DOMAIN_START_PAUSED
            self._start(replace(self._parts.spec, incoming=True, memory=self._snapshot.memory), flags)
            yield from restore(self._domain, self._snapshot, deadline)

    def boot(self, deadline: Deadline) -> Work[None]:
        """Bring it up, from its snapshot if it has one, until its system says that it is up."""
        if self._snapshot:
            try:
                longest_s = _RESTORE_S + self._snapshot.manifest.boot_s
                yield from self._restore(Deadline.after(min(longest_s, deadline.remaining / 2), "restore the guest"))
            except FullError:
                raise
            except (GuestError, HostError) as error:
                deadline.check()
                yield Chunk(Stream.FARM, f"[farm: booting instead of restoring: {error.message}]\n".encode())
                self._give_up(self._snapshot, error)
        if not self._snapshot:
            seed = _SEEDS[self._parts.image.manifest.kind]
            self._write_seed(seed(self._keys, self._parts.host_name, self._parts.spec.machine))
            self._start(self._parts.spec, 0)
            yield from self._wait_until_ready(deadline)
        self._port = monitor.forwarded_port(self._domain)

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Come to a shell that works."""
        client, server = self._keys
        shell = yield from connect(tcp("127.0.0.1", self._port), client=client, server=server, deadline=deadline)
        self._parts.when_up()
        return shell

    def console(self) -> bytes:
        """The last 64 KiB its console said."""
        return self._console.last()

    def heard(self) -> bytes:
        """What its console said since this was last asked."""
        return self._console.new()

    def trouble(self) -> str:
        """Why it cannot go on; empty where it runs.

        Raises FullError where the host's disk is full, UntrustedError where the guest is about to fill it.
        """
        if self._console.size() > _CONSOLE_LIMIT_BYTES:
            raise UntrustedError(
                f"cannot go on with the guest: its console said more than {_CONSOLE_LIMIT_BYTES // 1024 // 1024} MiB",
                hint="write to the script's output instead, which is bounded",
            )
        try:
            state, reason = self._domain.state() if self._domain else (libvirt.VIR_DOMAIN_SHUTOFF, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                return _STATES[libvirt.VIR_DOMAIN_SHUTOFF]
            raise HypervisorError(f"cannot ask for the state of the guest: {error}") from error
        if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            raise FullError(
                "cannot go on with the guest: the host could not write to its disk", hint="free some disk space"
            )
        return "" if state == libvirt.VIR_DOMAIN_RUNNING else _STATES.get(state, f"it is in state {state}")

    def has_ended(self) -> bool:
        """Whether there is no machine any more. Raises as `trouble`."""
        return self.trouble() == _STATES[libvirt.VIR_DOMAIN_SHUTOFF]

    def usage(self) -> Usage:
        """What it has used of its host so far; of a machine that has ended, what was known last."""
        return self._meter.read(self._domain)

    def access(self) -> str:
        """The ssh command for a person on this host."""
        return forwarded.access(self._parts.folder, self._keys, self._port)

    def invitation(self) -> str:
        """The same for a person whose key it knows."""
        return forwarded.invitation(self._keys, self._port)

    def destroy(self) -> None:
        """End it and remove its folder; does nothing the second time."""
        self._end()
        shutil.rmtree(self._parts.folder, ignore_errors=True)
        self._parts.holds.close()

    def _make_disk(self) -> None:
        path = self._parts.spec.disks[0].path
        path.unlink(missing_ok=True)
        if self._snapshot:
            overlay(self._snapshot.disk, "qcow2", path, self._parts.disk_mib)
        else:
            guest_disk(self._parts.image, path, self._parts.disk_mib)

    def _restore(self, deadline: Deadline) -> Work[None]:
        yield from self.load(deadline)
        self._write_seed(guest_seed(self._keys, self._parts.host_name, now_s=time.time()))
        monitor.go_on(self._domain)
        yield from self._wait_until_ready(deadline)

    def _give_up(self, snapshot: Snapshot, error: FarmError) -> None:
        self._end()
        Shelf(snapshot.folder.parent).discard(snapshot.folder.name)  # the next one makes it anew
        self._snapshot = None
        # libvirt may not have noticed yet that the first machine is gone.
        again = replace(self._parts.spec, name=f"{self._parts.spec.name}-cold", uuid=str(uuid.uuid4()))
        self._parts = replace(self._parts, spec=again)
        self._make_disk()
        self._facts = self._facts.model_copy(update={"start": Start.COLD, "start_note": error.message})

    def _write_seed(self, seed: bytes) -> None:
        # In place: QEMU may have it open already.
        path = self._parts.spec.disks[1].path
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            file.write(seed)

    def _start(self, spec: DomainSpec, flags: int) -> None:
        with hypervisor_errors("start the guest"):
            self._domain = self._driver.connection.createXML(domain_xml(spec), flags)

    def _wait_until_ready(self, deadline: Deadline) -> Work[None]:
        ticked = 0.0
        while READY not in self.console():
            if trouble := self.trouble():
                raise LostError(f"cannot boot the guest: {trouble}")
            deadline.check()
            if time.monotonic() - ticked > _TICK_S:
                ticked = time.monotonic()
                yield TICK
            time.sleep(_POLL_S)
        yield TICK

    def _end(self) -> None:
        domain, self._domain = self._domain, None
        if domain is None:
            domain = _find(self._driver.connection, self._parts.spec.uuid)
        if domain is not None:
            self._driver.kill(domain)


_STATES = {
    libvirt.VIR_DOMAIN_SHUTOFF: "its machine has ended",
    libvirt.VIR_DOMAIN_CRASHED: "its machine has crashed",
    libvirt.VIR_DOMAIN_PAUSED: "its machine stands still",
    libvirt.VIR_DOMAIN_SHUTDOWN: "its machine is shutting down",
}


def _find(connection: libvirt.virConnect, domain_uuid: str) -> libvirt.virDomain | None:
    # A cancel that came while createXML was at work leaves a domain without a handle.
    try:
        return connection.lookupByUUIDString(domain_uuid)
    except libvirt.libvirtError:
        return None
