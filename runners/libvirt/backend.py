"""The lifecycle of a guest under libvirt's embedded QEMU driver: create, boot, connect, destroy."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import libvirt
import libvirt_qemu

from farm.config import Settings, load_settings
from farm.errors import ConnectError, FullError, HostError, HypervisorError, LostError, UntrustedError
from farm.model import GuestFacts, Order
from runners.console import READY
from runners.deadline import Deadline
from runners.guest import TICK, Shell, Work
from runners.images import Catalogue, Image, overlay
from runners.keys import KeyPair, make_key_pair
from runners.libvirt.connection import Embedded, embedded, hypervisor_errors
from runners.libvirt.hypervisors import KVM, QEMU, Hypervisor
from runners.libvirt.xml import Disk, DomainSpec, Kernel, domain_xml
from runners.machines import machine_for
from runners.ssh import connect

_POLL_S = 0.05
_CONSOLE_BYTES = 64 * 1024
_CONSOLE_LIMIT_BYTES = 64 * 1024 * 1024
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")


class Keys(NamedTuple):
    """The two key pairs of an attempt."""

    client: KeyPair
    server: KeyPair


class LibvirtBackend:
    """Makes guests of one hypervisor on this host."""

    def __init__(self, hypervisor: Hypervisor, settings: Settings | None = None) -> None:
        self._hypervisor = hypervisor
        self._settings = settings or load_settings()

    def create(self, order: Order, deadline: Deadline) -> Work[LibvirtGuest]:
        """The guest of an order: its image (built if it is not there), disks and keys."""
        machine = machine_for(order.arch)
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        image = yield from catalogue.ensure(order.image, deadline=deadline)
        driver = embedded(self._settings)
        folder = driver.root / "guests" / secrets.token_hex(4)
        keys = Keys(client=make_key_pair(), server=make_key_pair())
        try:
            folder.mkdir(parents=True, mode=0o700)
            _make_disks(folder, image, order, keys)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            kind = FullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
            raise kind(f"cannot make the guest's disks: {error.strerror}", hint=f"look at {driver.root}") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        domain = DomainSpec(
            name=f"farm-{folder.name}",
            uuid=str(uuid.uuid4()),
            owner=f"{os.uname().nodename}:{driver.ledger.path.stem}:{order.key}",
            hypervisor=self._hypervisor,
            machine=machine,
            vcpus=order.guest.vcpus,
            memory_mib=order.guest.memory_mib,
            console=folder / "console.log",
            kernel=Kernel(image.kernel, image.initrd, image.cmdline) if image.kernel else None,
            disks=(
                Disk("farm-root", folder / "disk.qcow2", "qcow2"),
                Disk("farm-seed", folder / "seed.tar", "raw", read_only=True),
            ),
            network=order.guest.network,
        )
        facts = GuestFacts(
            host=os.uname().nodename,
            hypervisor=self._hypervisor.name,
            hypervisor_version=driver.version,
            emulated=self._hypervisor.emulated,
            machine=machine.machine_type,
            cpu=self._hypervisor.cpu or machine.cpu,
            image=f"{order.image.name}/{order.arch}",
            image_digest=image.digest,
            vcpus=order.guest.vcpus,
            memory_mib=order.guest.memory_mib,
        )
        return LibvirtGuest(driver, domain, facts, keys)


class LibvirtGuest:
    """A guest and everything that was made for it, all of it in one folder."""

    def __init__(self, driver: Embedded, spec: DomainSpec, facts: GuestFacts, keys: Keys) -> None:
        self._driver = driver
        self._spec = spec
        self._facts = facts
        self._keys = keys
        self._folder = spec.console.parent
        self._heard = ConsoleReader(spec.console)
        self._domain: libvirt.virDomain | None = None
        self._port = 0

    @property
    def facts(self) -> GuestFacts:
        """What it really is."""
        return self._facts

    def boot(self, deadline: Deadline) -> Work[None]:
        """Start it and wait for its init's word on the console."""
        self.start()
        while READY not in self.console():
            if trouble := self.trouble():
                raise LostError(f"cannot boot the guest: {trouble}")
            deadline.check()
            yield TICK
            time.sleep(_POLL_S)
        yield TICK
        self._port = self._forwarded_port()

    def start(self) -> None:
        """Start it, without waiting for anything."""
        with hypervisor_errors("start the guest"):
            self._domain = self._driver.connection.createXML(domain_xml(self._spec), 0)

    def connect(self, deadline: Deadline) -> Work[Shell]:
        """Come to a shell that works."""
        client, server = self._keys
        return (yield from connect("127.0.0.1", self._port, client=client, server=server, deadline=deadline))

    def console(self) -> bytes:
        """The last 64 KiB its console said."""
        with contextlib.suppress(FileNotFoundError), self._spec.console.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _CONSOLE_BYTES))
            return file.read()
        return b""

    def heard(self) -> bytes:
        """What its console said since this was last asked."""
        return self._heard.new()

    def trouble(self) -> str:
        """Why it cannot go on; empty where it runs.

        Raises FullError where the host's disk is full, UntrustedError where the guest is about to fill it.
        """
        if self._heard.size() > _CONSOLE_LIMIT_BYTES:
            raise UntrustedError(
                f"cannot go on with the guest: its console said more than {_CONSOLE_LIMIT_BYTES // 1024 // 1024} MiB",
                hint="write to the script's output instead, which is bounded",
            )
        try:
            state, reason = self._domain.state() if self._domain else (libvirt.VIR_DOMAIN_SHUTOFF, 0)
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                return "its machine has ended"
            raise HypervisorError(f"cannot ask for the state of the guest: {error}") from error
        if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
            raise FullError(
                "cannot go on with the guest: the host could not write to its disk", hint="free some disk space"
            )
        return "" if state == libvirt.VIR_DOMAIN_RUNNING else _STATES.get(state, f"it is in state {state}")

    def access(self) -> str:
        """The ssh command for a person on this host."""
        key = self._folder / "id_ed25519"
        key.touch(mode=0o600)
        key.write_text(self._keys.client.openssh)
        known = self._folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self._port} {self._keys.server.public}\n")
        return f"ssh -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known} -p {self._port} root@127.0.0.1"

    def destroy(self) -> None:
        """End it and remove its folder; does nothing the second time."""
        domain, self._domain = self._domain, None
        if domain is None:
            domain = _find(self._driver.connection, self._spec.uuid)
        if domain is not None:
            self._driver.kill(domain)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _forwarded_port(self) -> int:
        with hypervisor_errors("find the guest's SSH port"):
            said = libvirt_qemu.qemuMonitorCommand(
                self._domain, "info usernet", libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
            )
        match = _FORWARD.search(said)
        if not match:
            raise ConnectError(f"cannot find the guest's SSH port: QEMU forwards none ({said.strip()!r})")
        return int(match[1])


class ConsoleReader:
    """Reads what a console file has got since the last time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def size(self) -> int:
        """How much has been said."""
        return self._path.stat().st_size if self._path.exists() else 0

    def new(self) -> bytes:
        """What was said since; empty if nothing was."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_CONSOLE_BYTES)
        except FileNotFoundError:
            return b""
        self._at += len(data)
        return data


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


def _make_disks(folder: Path, image: Image, order: Order, keys: Keys) -> None:
    overlay(image, folder / "disk.qcow2", order.guest.disk_mib)
    with tarfile.open(folder / "seed.tar", "w") as seed:
        for name, data, mode in (
            ("authorized_keys", f"{keys.client.public}\n".encode(), 0o600),
            ("dropbear_ed25519_host_key", keys.server.dropbear, 0o600),
            ("hostname", f"{_host_name(order)}\n".encode(), 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), mode, int(time.time())
            seed.addfile(member, io.BytesIO(data))


def _host_name(order: Order) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{order.image.name}-{order.arch}".lower()).strip("-")[:63]


kvm: Callable[[], LibvirtBackend] = partial(LibvirtBackend, KVM)
qemu: Callable[[], LibvirtBackend] = partial(LibvirtBackend, QEMU)
