"""Guests of the farm, as an attempt makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from farm.config import Settings
from farm.model import GuestSpec, ImageSpec, LayerSpec, Order, Start
from runners.deadline import Deadline
from runners.guest import Shell, wait_for
from runners.images import Catalogue, Image
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.configure import Configurer
from runners.libvirt.guest import LibvirtGuest
from runners.libvirt.hypervisors import QEMU
from tests.guests.test_architectures import settings_for
from tests.orders import make_order

_BUILD_S = 3600


def soon() -> Deadline:
    """Far enough away for whatever is measured."""
    return Deadline.after(900, "do what is measured")


@dataclass(frozen=True)
class Kind:
    """A kind of guest: an image for an architecture, on a machine with so much memory."""

    arch: str
    image: str = "debian-13"
    memory: str = "512M"
    disk: str = "4G"
    packages: tuple[str, ...] = ()
    layers: tuple[LayerSpec, ...] = ()

    @property
    def name(self) -> str:
        """For a row."""
        return f"{self.image} {self.arch}"

    @property
    def order(self) -> Order:
        """For one guest."""
        guest = GuestSpec(memory=self.memory, disk=self.disk)
        image = ImageSpec(name=self.image, arch=self.arch, packages=self.packages, layers=self.layers)
        return make_order("true", hypervisor="qemu", guest=guest, image=image)

    def restored(self) -> LibvirtGuest:
        """From request to a guest that is not started yet."""
        guest = wait_for(backend(self.image).create(self.order, soon()))
        assert guest.facts.start is Start.RESTORED, guest.facts.start_note
        return guest

    def cold(self) -> LibvirtGuest:
        """The same for one that boots."""
        return backend(self.image).cold(self.order, image_of(self))


@cache
def settings_of(image: str) -> Settings:
    """Those by which an image is found, once for all that is measured."""
    return settings_for(image.removesuffix("-installed"))


@cache
def backend(image: str) -> LibvirtBackend:
    """The one for an image."""
    return LibvirtBackend(QEMU, settings_of(image))


def image_of(kind: Kind) -> Image:
    """An image, built if it is not there, which is not measured."""
    settings = settings_of(kind.image)
    catalogue = Catalogue(settings.cache / "images", settings.mirror)
    configure = Configurer(kind.order, backend(kind.image).cold)
    deadline = Deadline.after(_BUILD_S, "build the image")
    return wait_for(catalogue.ensure(kind.order.image, deadline=deadline, configure=configure))


def start(guest: LibvirtGuest) -> Shell:
    """To the end of its first command."""
    wait_for(guest.boot(soon()))
    shell = wait_for(guest.connect(soon()))
    assert wait_for(shell.execute(":", deadline=soon())) == 0
    return shell


def first_command_s(make: Callable[[], LibvirtGuest]) -> float:
    """Seconds from the request to the end of the first command."""
    started = time.monotonic()
    guest = make()
    try:
        shell = start(guest)
        took_s = time.monotonic() - started
        shell.close()
    finally:
        guest.destroy()
    return took_s


@contextmanager
def running(guest: LibvirtGuest) -> Iterator[tuple[LibvirtGuest, Shell]]:
    """A guest that is up."""
    try:
        shell = start(guest)
        yield guest, shell
        shell.close()
    finally:
        guest.destroy()
