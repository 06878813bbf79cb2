"""Making guests of libvirt's embedded QEMU driver: their image, their snapshot, what they are made from."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from functools import partial

from farm.config import Settings, load_settings
from farm.errors import FullError, HostError
from farm.model import GuestFacts, Order, Start, Stream
from runners.deadline import Deadline
from runners.guest import Chunk, Work
from runners.images import Catalogue, Image
from runners.images.shelf import Shelf
from runners.libvirt.connection import Embedded, embedded
from runners.libvirt.guest import LibvirtGuest, Parts
from runners.libvirt.hypervisors import KVM, QEMU, Hypervisor
from runners.libvirt.pool import pool
from runners.libvirt.snapshots import Found, Snapshots
from runners.libvirt.xml import Disk, DomainSpec, Kernel
from runners.machines import machine_for
from runners.seed import host_name


class LibvirtBackend:
    """Makes guests of one hypervisor on this host."""

    def __init__(self, hypervisor: Hypervisor, settings: Settings | None = None) -> None:
        self._hypervisor = hypervisor
        self._settings = settings or load_settings()

    def create(self, order: Order, deadline: Deadline) -> Work[LibvirtGuest]:
        """The guest of an order: its image and its snapshot (made if they are not there), and its disk."""
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        image = yield from catalogue.ensure(order.image, deadline=deadline)
        with _held(catalogue.shelf, image.folder.name):
            driver = embedded(self._settings)
            snapshots = Snapshots(self._settings.cache / "snapshots", driver)
            booting = Deadline.after(min(order.timeouts.boot, deadline.remaining), "boot a guest to be kept")
            spec = self._domain(order, image, driver)
            found = yield from snapshots.ensure(spec, image, order.guest.disk_mib, deadline=booting)
            if problem := pool().problem():
                yield Chunk(Stream.FARM, f"[farm: no clone stands ready: {problem}]\n".encode())
            ready = pool().take(found.snapshot.folder.name) if found.snapshot else None
            return ready or self._make(order, image, found)

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
                spec=self._domain(order, image, driver),
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
            pool().fill(found.snapshot.folder.name, make, order.guest.min_ready)

    def _domain(self, order: Order, image: Image, driver: Embedded) -> DomainSpec:
        folder = driver.root / "guests" / secrets.token_hex(4)
        return DomainSpec(
            name=f"farm-{folder.name}",
            uuid=str(uuid.uuid4()),
            owner=f"{os.uname().nodename}:{driver.ledger.path.stem}:{order.key}",
            hypervisor=self._hypervisor,
            machine=machine_for(order.arch),
            vcpus=order.guest.vcpus,
            memory_mib=order.guest.memory_mib,
            console=folder / "console.log",
            kernel=Kernel(image.kernel, image.initrd, image.cmdline) if image.kernel else None,
            disks=(
                Disk("farm-root", folder / "disk.qcow2", "qcow2"),
                Disk("farm-seed", folder / "seed", "raw", read_only=True),
            ),
            network=order.guest.network,
        )

    def _facts(self, order: Order, image: Image, driver: Embedded, found: Found) -> GuestFacts:
        machine = machine_for(order.arch)
        return GuestFacts(
            host=os.uname().nodename,
            hypervisor=self._hypervisor.name,
            hypervisor_version=driver.version,
            emulated=self._hypervisor.emulated,
            machine=machine.machine_type,
            cpu=self._hypervisor.cpu or machine.cpu,
            image=f"{order.image.name}/{order.arch}",
            image_digest=image.digest,
            image_kind=image.manifest.kind,
            layers=image.manifest.layers,
            vcpus=order.guest.vcpus,
            memory_mib=order.guest.memory_mib,
            start=Start.RESTORED if found.snapshot else Start.COLD,
            start_note=found.note,
        )


@contextlib.contextmanager
def _held(shelf: Shelf, name: str) -> Iterator[None]:
    """Keep a thing on its shelf."""
    descriptor = shelf.hold(name)
    try:
        yield
    finally:
        os.close(descriptor)


kvm: Callable[[], LibvirtBackend] = partial(LibvirtBackend, KVM)
qemu: Callable[[], LibvirtBackend] = partial(LibvirtBackend, QEMU)
