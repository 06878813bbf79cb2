"""Making guests behind a libvirtd: their image on its host, their folder, their network, what they are made from."""

from __future__ import annotations

import os
import secrets
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import libvirt

from farm.config import Settings
from farm.errors import ConfigError, HypervisorError
from farm.model import GuestFacts, Offer, Order
from runners.deadline import Deadline
from runners.guest import Work
from runners.hosts.folders import Folders, farm_id
from runners.hosts.libvirtd import libvirtd
from runners.hosts.network import Networks, new_mac
from runners.hosts.packing import MIB
from runners.hosts.pool import Pool, Stored
from runners.hosts.uri import parse_uri
from runners.images import Catalogue, Image, check_size
from runners.images.prune import tidy
from runners.libvirt import system_probe
from runners.libvirt.books import books
from runners.libvirt.capabilities import programs_for
from runners.libvirt.configure import Configurer
from runners.libvirt.connection import hypervisor_errors
from runners.libvirt.elements import Kernel, Limits
from runners.libvirt.furnish import Place
from runners.libvirt.guest import LibvirtGuest
from runners.libvirt.hypervisors import Hypervisor, Limit
from runners.libvirt.remains import Remains
from runners.libvirt.system_guest import SystemGuest, SystemParts
from runners.libvirt.system_seed import seed_for
from runners.libvirt.system_xml import DHCP, Programs, SystemSpec
from runners.machines import machine_for
from runners.seed import host_name

_ASK_S = 60.0


class SystemBackend:
    """Makes guests of one hypervisor on the host of its settings."""

    def __init__(
        self, hypervisor: Hypervisor, settings: Settings, cold: Callable[[Order, Image], LibvirtGuest]
    ) -> None:
        """`cold` makes a guest of an image here: layers' scripts run in one, before the image goes to the host."""
        self._hypervisor = hypervisor
        self._settings = settings
        self._cold = cold
        self._host = libvirtd(parse_uri(settings.uri))

    def look(self) -> tuple[Offer, ...]:
        """What its libvirtd says that it has."""
        return system_probe.look(self._host, self._hypervisor, self._settings)

    def probe(self) -> tuple[Offer, ...]:
        """The same; what rests on a device has to run a guest. Guests that dead owners left there are destroyed."""
        return system_probe.probe(self._host, self._hypervisor, self, self._settings)

    def create(self, order: Order, deadline: Deadline) -> Work[SystemGuest]:
        """The guest of an order. Raises ConfigError where this hypervisor cannot be what is asked for, HostError."""
        self._check(order)
        programs = self._programs(order)
        catalogue = Catalogue(self._settings.cache / "images", self._settings.mirror)
        image = yield from catalogue.ensure(order.image, deadline=deadline, configure=Configurer(order, self._cold))
        with _held(catalogue, image):
            self._check_image(order, image)
            limit = self._settings.cache_limit * MIB or float("inf")
            stored = yield from Pool(self._host.link, keep_bytes=limit).ensure(image, deadline)
            yield from tidy(self._settings)
        return (yield from self._made(order, image, stored, programs, deadline))

    def _made(
        self, order: Order, image: Image, stored: Stored, programs: Programs, deadline: Deadline
    ) -> Work[SystemGuest]:
        link, row = self._host.link, self._hypervisor
        attachment = yield from Networks(self._host.connection, link, self._settings.host_bridge).ensure(
            order.guest.network, deadline=deadline
        )
        ours, farm = books(self._settings), farm_id(self._settings.state)
        remains = Remains(self._settings.uri, farm, f"farm-{secrets.token_hex(4)}", str(uuid.uuid4()))
        place = Place(link, Folders(link, farm), remains.name, row)
        machine = machine_for(order.arch)
        spec = SystemSpec(
            name=remains.name,
            uuid=remains.uuid,
            owner=f"{os.uname().nodename}:{order.key}",
            farm=farm,
            ledger=str(ours.path),
            hypervisor=row,
            machine=machine,
            vcpus=machine.vcpus(order.guest.vcpus),
            memory_mib=machine.memory_mib(order.guest.memory_mib),
            programs=programs,
            mac=new_mac(),
            attachment=attachment,
            kernel=self._kernel(stored),
            disks=place.disks,
            root=place.root,
            cpu=order.cpu,
            limits=self._limits(order),
        )
        parts = SystemParts(
            host=self._host,
            spec=spec,
            remains=remains,
            place=place,
            seed=partial(seed_for, image.manifest.kind, host_name(order.image.name, order.arch), spec),
            when_gone=partial(ours.strike, remains),
            console=ours.open(remains) / "console.log",
        )
        guest = SystemGuest(parts, self._facts(order, image, spec))
        try:
            yield from place.furnish(stored, order.guest.disk_mib, ours.path, deadline)
        except BaseException:
            guest.destroy()
            raise
        return guest

    def _check(self, order: Order) -> None:
        """Raise ConfigError where what is asked for is nothing that this hypervisor has."""
        if order.cpu not in {"", self._hypervisor.cpu} and self._hypervisor.driver != "qemu":
            raise ConfigError(
                f"cannot make a guest of {self._hypervisor.name} with a CPU {order.cpu!r}: it has its host's",
                hint="CPU models are an affair of qemu and kvm",
            )
        asked: dict[Limit, object] = {
            "cpu": order.guest.cpu_percent,
            "disk-bandwidth": order.guest.disk_bytes_per_s,
            "network-bandwidth": order.guest.network_bytes_per_s,
        }
        for limit, value in asked.items():
            if value and limit not in self._hypervisor.limits:
                raise ConfigError(
                    f"cannot limit {limit} of a guest of {self._hypervisor.name}: libvirt's {self._hypervisor.driver}"
                    " driver has no such limit",
                    hint="leave it out, or let the cell run on kvm or qemu, which have all of them",
                )

    def _check_image(self, order: Order, image: Image) -> None:
        if not image.kernel and not self._hypervisor.own_disk:
            raise ConfigError(
                f"cannot boot {image.manifest.name}/{image.manifest.arch} with {self._hypervisor.name}: the image has"
                " its kernel on its own disk, where only firmware finds it",
                hint="use kvm, qemu or xen-hvm for images of others",
            )
        if self._hypervisor.container and image.manifest.disk_format != "raw":
            raise ConfigError(
                f"cannot run {image.manifest.name}/{image.manifest.arch} in a container: a guest has written its disk,"
                " which the host's kernel would have to read",
                hint="layers with scripts need a machine of their own: kvm, qemu, or one of Xen's",
            )
        check_size(image, order.guest.disk_mib)

    def _programs(self, order: Order) -> Programs:
        machine = machine_for(order.arch)
        with hypervisor_errors(f"ask {self._host.link.place} what it can do"):
            said = self._host.ask(libvirt.virConnect.getCapabilities)
        found = programs_for(said, self._hypervisor, machine)
        if found is None:
            raise HypervisorError(
                f"cannot make a guest of {order.arch} with {self._hypervisor.name}: the libvirt of"
                f" {self._host.link.place} does not offer it",
                hint=f"virsh -c {self._settings.uri} capabilities",
            )
        row = self._hypervisor
        return Programs(self._there(found.emulator, row.emulators), self._there(found.loader, row.loaders))

    def _there(self, said: str, elsewhere: tuple[str, ...]) -> str:
        """The first of these files that the host has, where there is a choice."""
        if not (said and elsewhere):
            return said
        look = (
            f'for file in {" ".join((shlex.quote(said), *elsewhere))}; do [ ! -e "$file" ] || break; done; echo "$file"'
        )
        deadline = Deadline.after(_ASK_S, f"look for {said} on {self._host.link.place}")
        return self._host.link.run(look, deadline=deadline).decode().strip()

    def _kernel(self, stored: Stored) -> Kernel | None:
        if self._hypervisor.container or not (stored.kernel and stored.initrd):
            return None
        row = self._hypervisor
        kernel = stored.packed_kernel if row.packed_kernel else stored.kernel
        if kernel is None:
            raise HypervisorError(f"cannot start the kernel of this image with {row.name}: it is not kept as packed")
        words = [row.console_of(stored.cmdline), DHCP, row.cmdline, f"farm_bus={row.disks.name}"]
        firmware = Path(stored.firmware) if stored.firmware else None
        return Kernel(Path(kernel), Path(stored.initrd), " ".join(filter(None, words)), firmware)

    def _limits(self, order: Order) -> Limits:
        guest = order.guest
        # A container sees all of its host's CPUs: that it uses no more than it has is a limit like the other.
        own = 100 * guest.vcpus if self._hypervisor.container else None
        return Limits(guest.cpu_percent or own, guest.disk_bytes_per_s, guest.network_bytes_per_s)

    def _facts(self, order: Order, image: Image, spec: SystemSpec) -> GuestFacts:
        row = self._hypervisor
        return GuestFacts(
            host=self._settings.host_name,
            hypervisor=row.name,
            hypervisor_version=self._host.version,
            emulated=row.emulated,
            machine=row.machine or ("container" if row.container else spec.machine.machine_type),
            cpu=spec.cpu or row.cpu or spec.machine.cpu,
            image=f"{order.image.name}/{order.arch}",
            image_digest=image.digest,
            image_kind=image.manifest.kind,
            layers=tuple(layer.name for layer in order.image.layers),
            vcpus=spec.vcpus,
            memory_mib=spec.memory_mib,
            start_note="no snapshots behind a libvirtd",
        )


@contextmanager
def _held(catalogue: Catalogue, image: Image) -> Iterator[None]:
    """Keep an image on its shelf while it is being copied."""
    descriptor = catalogue.shelf.hold(image.folder.name)
    try:
        yield
    finally:
        os.close(descriptor)
