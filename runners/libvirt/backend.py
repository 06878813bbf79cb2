"""Making guests of libvirt's embedded QEMU driver: their image, their snapshot, what they are made from."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from farm.config import EMBEDDED, Settings, load_settings
from farm.errors import ConfigError, FullError, HostError, HypervisorError
from farm.model import GuestFacts, Offer, Order, Phase, Start, Stream
from farm.slowness import allowed
from runners.deadline import Deadline
from runners.guest import TICK, Backend, Chunk, Guest, Work
from runners.hosts.uri import parse_uri
from runners.images import Catalogue, Image
from runners.images.prune import tidy
from runners.images.shelf import Shelf
from runners.libvirt import probing
from runners.libvirt.configure import Configurer
from runners.libvirt.connection import Embedded, embedded
from runners.libvirt.elements import Disk, Kernel, Limits
from runners.libvirt.guest import LibvirtGuest, Parts
from runners.libvirt.hypervisors import HYPERVISORS, KVM, QEMU, Hypervisor
from runners.libvirt.pool import pool
from runners.libvirt.snapshot import Snapshot
from runners.libvirt.snapshots import Found, Snapshots
from runners.libvirt.system import SystemBackend
from runners.libvirt.xml import DomainSpec
from runners.machines import machine_for
from runners.seed import host_name


class LibvirtBackend:
    """Makes guests of one hypervisor on this host."""

    def __init__(self, hypervisor: Hypervisor, settings: Settings | None = None) -> None:
        self._hypervisor = hypervisor
        self._settings = settings or load_settings()

    def create(self, order: Order, deadline: Deadline) -> Work[LibvirtGuest]:
        """The guest of an order: its image and its snapshot (made if they are not there), and its disk.

        Raises ConfigError where the guest's network cannot be what is asked for, HostError.
        """
        if order.guest.network == "bridge" or order.guest.network_bytes_per_s:
            raise ConfigError(
                "cannot make the guest's network: QEMU's own has neither a bridge nor a limiter",
                hint="let the cell run behind a libvirtd: FARM_HOST_URI=qemu:///system",
            )
        if order.guest.cpu_percent and not self._settings.cgroups:
            raise HypervisorError(
                "cannot limit the CPU of the guest: libvirt is open in this process without control groups",
                hint="set FARM_CGROUPS=1 for a process that makes limited guests",
            )
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        configure = Configurer(order, self.cold)
        image = yield from catalogue.ensure(order.image, deadline=deadline, configure=configure)
        with _held(catalogue.shelf, image.folder.name):
            driver = embedded(self._settings)
            snapshots = Snapshots(self._settings.cache / "snapshots", driver)
            boot = allowed(order.timeouts, Phase.BOOT, None, emulated=self._hypervisor.emulated)
            booting = Deadline.after(min(boot.seconds, deadline.remaining), "boot a guest to be kept")
            spec = self._domain(order, image, driver)
            found = yield from snapshots.ensure(spec, image, order.guest.disk_mib, deadline=booting)
            yield from tidy(self._settings)
            if problem := pool().problem():
                yield Chunk(Stream.FARM, f"[farm: no clone stands ready: {problem}]\n".encode())
            ready = pool().take(_kind(order, found.snapshot)) if found.snapshot else None
            return ready or self._make(order, image, found)

    def look(self) -> tuple[Offer, ...]:
        """What is here."""
        return probing.look(self._hypervisor)

    def probe(self) -> tuple[Offer, ...]:
        """What runs here."""
        return probing.probe(self._hypervisor, self._settings, self)

    def cold(self, order: Order, image: Image) -> LibvirtGuest:
        """A guest of an image that boots, whatever snapshots there are."""
        return self._make(order, image, Found(None, "asked for"))

    def _make(self, order: Order, image: Image, found: Found) -> LibvirtGuest:
        """A guest with its disk, not started."""
        driver = embedded(self._settings)
        with contextlib.ExitStack() as holds:
            holds.enter_context(_held(Shelf(image.folder.parent), image.folder.name))
            if found.snapshot:
                holds.enter_context(_held(Shelf(found.snapshot.folder.parent), found.snapshot.folder.name))
            parts = Parts(
                spec=replace(self._domain(order, image, driver), limits=_limits(order)),
                image=image,
                disk_mib=order.guest.disk_mib,
                host_name=host_name(order.image.name, order.arch),
                snapshot=found.snapshot,
                when_up=partial(self._stock, order, image, found),
                holds=holds.pop_all(),
            )
        guest = LibvirtGuest(driver, parts, self._facts(order, image, driver, found))
        try:
            guest.furnish()
        except OSError as error:
            guest.destroy()
            kind = FullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else HostError
            raise kind(f"cannot make the guest's disks: {error.strerror}", hint=f"look at {driver.root}") from error
        except BaseException:
            guest.destroy()
            raise
        return guest

    def _stock(self, order: Order, image: Image, found: Found) -> None:
        """While a guest is at work, make ready what comes after it."""
        if found.snapshot and order.guest.min_ready:
            make = partial(self._make, order, image, found)
            pool().fill(_kind(order, found.snapshot), make, order.guest.min_ready)

    def _domain(self, order: Order, image: Image, driver: Embedded) -> DomainSpec:
        folder = driver.root / "guests" / secrets.token_hex(4)
        machine = machine_for(order.arch)
        return DomainSpec(
            name=f"farm-{folder.name}",
            uuid=str(uuid.uuid4()),
            owner=f"{os.uname().nodename}:{driver.ledger.path.stem}:{order.key}",
            hypervisor=self._hypervisor,
            machine=machine,
            vcpus=machine.vcpus(order.guest.vcpus),
            memory_mib=machine.memory_mib(order.guest.memory_mib),
            console=folder / "console.log",
            kernel=Kernel(image.kernel, image.initrd, image.cmdline, image.firmware) if image.kernel else None,
            disks=(
                Disk("farm-root", folder / "disk.qcow2", "qcow2"),
                Disk("farm-seed", folder / "seed", "raw", read_only=True),
            ),
            network=order.guest.network,
            cpu="" if order.cpu == self._own_cpu(order.arch) else order.cpu,
        )

    def _own_cpu(self, arch: str) -> str:
        """The model of a guest that asks for none."""
        return self._hypervisor.cpu or machine_for(arch).cpu

    def _facts(self, order: Order, image: Image, driver: Embedded, found: Found) -> GuestFacts:
        machine = machine_for(order.arch)
        return GuestFacts(
            host=self._settings.host_name,
            hypervisor=self._hypervisor.name,
            hypervisor_version=driver.version,
            emulated=self._hypervisor.emulated,
            machine=machine.machine_type,
            cpu=order.cpu or self._own_cpu(order.arch),
            image=f"{order.image.name}/{order.arch}",
            image_digest=image.digest,
            image_kind=image.manifest.kind,
            layers=tuple(layer.name for layer in order.image.layers),
            vcpus=machine.vcpus(order.guest.vcpus),
            memory_mib=machine.memory_mib(order.guest.memory_mib),
            start=Start.RESTORED if found.snapshot else Start.COLD,
            start_note=found.note,
        )


def _limits(order: Order) -> Limits:
    # Of the guest alone: a snapshot is booted without, and is the same for all.
    return Limits(cpu_percent=order.guest.cpu_percent, disk_bytes_per_s=order.guest.disk_bytes_per_s)


def _kind(order: Order, snapshot: Snapshot) -> str:
    """What two orders have in common of which one can have the other's clone."""
    return f"{snapshot.folder.name} {_limits(order)}"


@contextlib.contextmanager
def _held(shelf: Shelf, name: str) -> Iterator[None]:
    """Keep a thing on its shelf."""
    descriptor = shelf.hold(name)
    try:
        yield
    finally:
        os.close(descriptor)


def kvm(settings: Settings | None = None) -> Backend:
    """QEMU with the hardware's virtualisation."""
    return _backend("kvm", settings)


def qemu(settings: Settings | None = None) -> Backend:
    """QEMU's emulation."""
    return _backend("qemu", settings)


def xen_hvm(settings: Settings | None = None) -> Backend:
    """Xen, its guest a whole PC."""
    return _backend("xen-hvm", settings)


def xen_pvh(settings: Settings | None = None) -> Backend:
    """Xen, its guest without a PC's devices."""
    return _backend("xen-pvh", settings)


def xen_pv(settings: Settings | None = None) -> Backend:
    """Xen, its guest para-virtualised."""
    return _backend("xen-pv", settings)


def lxc(settings: Settings | None = None) -> Backend:
    """A container."""
    return _backend("lxc", settings)


_EMBEDDED = {"kvm": KVM, "qemu": QEMU}


def _backend(name: str, settings: Settings | None) -> Backend:
    """Which one there is for a hypervisor depends on whose hypervisor it is."""
    wanted = settings or load_settings()
    if wanted.uri == EMBEDDED and name in _EMBEDDED:
        return LibvirtBackend(_EMBEDDED[name], wanted)
    if wanted.uri != EMBEDDED and parse_uri(wanted.uri).driver == HYPERVISORS[name].driver:
        return SystemBackend(HYPERVISORS[name], wanted, LibvirtBackend(QEMU, wanted).cold)
    return Absent(name, wanted.uri)


class Absent:
    """A hypervisor that the host of the settings does not have: it offers nothing."""

    def __init__(self, name: str, uri: str) -> None:
        self._name = name
        self._uri = uri

    def create(self, order: Order, deadline: Deadline) -> Work[Guest]:
        """Refuse. Raises HypervisorError."""
        deadline.check()
        yield TICK
        raise HypervisorError(
            f"cannot make the guest of {order.key}: {self._uri} does not offer {self._name}",
            hint="`farm hosts` lists what each host offers",
        )

    def look(self) -> tuple[Offer, ...]:
        """Nothing."""
        return ()

    def probe(self) -> tuple[Offer, ...]:
        """Nothing."""
        return ()
