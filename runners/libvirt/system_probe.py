"""What a hypervisor behind a libvirtd can run, found out by asking it, and by running a guest."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt

from farm.config import Settings
from farm.errors import DeadlineError, GuestError, HostError, HypervisorError, ImageError
from farm.model import AttemptKey, Collect, GuestSpec, ImageSpec, Offer, Order, Timeouts
from runners.deadline import Deadline
from runners.guest import Backend, wait_for
from runners.hosts.folders import farm_id
from runners.hosts.libvirtd import Libvirtd
from runners.hosts.network import NETWORKS, OWN_BRIDGE
from runners.libvirt.capabilities import cpu_models, host_machine, programs_for
from runners.libvirt.connection import hypervisor_errors
from runners.libvirt.hypervisors import Hypervisor
from runners.libvirt.remains import sweep
from runners.machines import MACHINES, Machine

_IMAGE = "debian-13"
_MEMORY_MIB = 256
_IMAGE_S = 600.0
_GUEST_S = 300.0
"""A host may itself be emulated, and busy: a guest in it is up after half a minute, or three. One that dies says so."""


def look(host: Libvirtd, hypervisor: Hypervisor, settings: Settings) -> tuple[Offer, ...]:
    """What its libvirtd says; where that cannot be asked, why."""
    try:
        return _asked(host, hypervisor, settings)
    except HostError as error:
        native = next(iter(MACHINES))
        return (_offer(hypervisor, MACHINES[native], problem=error.message),)


def probe(host: Libvirtd, hypervisor: Hypervisor, backend: Backend, settings: Settings) -> tuple[Offer, ...]:
    """The same; where a device has to do the work, a guest has to come up. Dead owners' guests are destroyed first.

    One architecture whose image cannot be had is no reason not to try the next. Raises HostError where it fails for
    another reason than the hypervisor.
    """
    offers = _asked(host, hypervisor, settings)
    sweep(settings.uri, farm_id(settings.state))
    return tuple(_proved(offer, hypervisor, backend) for offer in offers)


def _asked(host: Libvirtd, hypervisor: Hypervisor, settings: Settings) -> tuple[Offer, ...]:
    networks = (*NETWORKS, *([OWN_BRIDGE] if settings.host_bridge else []))
    with hypervisor_errors(f"ask {host.link.place} what it can do"):
        return tuple(offer.model_copy(update={"networks": networks}) for offer in _offers(host, hypervisor))


def _offers(host: Libvirtd, hypervisor: Hypervisor) -> Iterator[Offer]:
    said = host.ask(libvirt.virConnect.getCapabilities)
    native = host_machine(said)
    for machine in MACHINES.values():
        own = native is not None and machine.qemu_arch == native.qemu_arch
        if machine.cpu_by_argument or not (own or hypervisor.any_arch):
            continue
        programs = programs_for(said, hypervisor, machine)
        if programs:
            models = _models(host, hypervisor, machine, programs.emulator)
            yield _offer(hypervisor, machine, version=host.version, cpus=models)


def _models(host: Libvirtd, hypervisor: Hypervisor, machine: Machine, emulator: str) -> tuple[str, ...]:
    if hypervisor.driver != "qemu":
        return ()
    asked = (emulator, machine.libvirt_arch, machine.machine_type, hypervisor.domain_type)
    return cpu_models(host.ask(lambda connection: connection.getDomainCapabilities(*asked)))


def _offer(
    hypervisor: Hypervisor, machine: Machine, *, version: str = "", problem: str = "", cpus: tuple[str, ...] = ()
) -> Offer:
    return Offer(
        hypervisor=hypervisor.name,
        arch=machine.arch,
        emulated=hypervisor.emulated,
        version=version,
        problem=problem,
        container=hypervisor.container,
        cpu=hypervisor.cpu or machine.cpu,
        cpus=cpus,
        limits=tuple(sorted(hypervisor.limits)),
    )


def _proved(offer: Offer, hypervisor: Hypervisor, backend: Backend) -> Offer:
    if not hypervisor.node:
        return offer
    order = Order(
        key=AttemptKey(run="probe", cell=f"{offer.hypervisor}/{offer.arch}", number=1),
        image=ImageSpec(name=_IMAGE, arch=offer.arch),
        hypervisor=offer.hypervisor,
        guest=GuestSpec(memory_mib=_MEMORY_MIB),
        env={},
        scripts={},
        collect=Collect(),
        timeouts=Timeouts(),
        source_digest="",
    )
    try:
        guest = wait_for(backend.create(order, Deadline.after(_IMAGE_S, "make a probe guest")))
    except (ImageError, DeadlineError) as error:  # of this architecture, and of no other
        return offer.model_copy(update={"problem": f"it was not tried: {error.message}", "tried": False})
    try:
        wait_for(guest.boot(Deadline.after(_GUEST_S, f"boot a guest with {hypervisor.name}")))
    except (GuestError, HypervisorError) as error:
        return offer.model_copy(update={"problem": f"no guest comes up: {error.message}"})
    finally:
        guest.destroy()
    return offer
