"""Making guests of libvirt's embedded QEMU driver: their image, their snapshot, what they are made from."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import uuid
from collections.abc import Callable
from functools import partial

from farm.config import Settings, load_settings
from farm.errors import FullError, HostError
from farm.model import GuestFacts, Order, Start
from runners.deadline import Deadline
from runners.guest import Work
from runners.images import Catalogue, Image
from runners.libvirt.connection import Embedded, embedded
from runners.libvirt.guest import LibvirtGuest, Parts
from runners.libvirt.hypervisors import KVM, QEMU, Hypervisor
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
        with contextlib.ExitStack() as holds:
            holds.callback(os.close, catalogue.shelf.hold(image.folder.name))
            driver = embedded(self._settings)
            spec = self._domain(order, image, driver)
            snapshots = Snapshots(self._settings.cache / "snapshots", driver)
            booting = Deadline.after(min(order.timeouts.boot, deadline.remaining), "boot a guest to be kept")
            found = yield from snapshots.ensure(spec, image, order.guest.disk_mib, deadline=booting)
            if found.snapshot:
                holds.callback(os.close, snapshots.shelf.hold(found.snapshot.folder.name))
            return self._guest(order, image, spec, found, holds.pop_all())

    def cold(self, order: Order, image: Image) -> LibvirtGuest:
        """A guest of an image that boots, whatever snapshots there are."""
        holds = contextlib.ExitStack()
        holds.callback(os.close, Catalogue(image.folder.parent).shelf.hold(image.folder.name))
        spec = self._domain(order, image, embedded(self._settings))
        return self._guest(order, image, spec, Found(None, "asked for"), holds)

    def _guest(
        self, order: Order, image: Image, spec: DomainSpec, found: Found, holds: contextlib.ExitStack
    ) -> LibvirtGuest:
        driver = embedded(self._settings)
        parts = Parts(
            spec=spec,
            image=image,
            disk_mib=order.guest.disk_mib,
            host_name=host_name(order.image.name, order.arch),
            snapshot=found.snapshot,
            holds=holds,
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


kvm: Callable[[], LibvirtBackend] = partial(LibvirtBackend, KVM)
qemu: Callable[[], LibvirtBackend] = partial(LibvirtBackend, QEMU)
