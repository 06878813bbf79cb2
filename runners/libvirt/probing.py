"""What libvirt's embedded QEMU driver can run here, found out by looking, and by running it.

An emulator has to start a machine of each architecture without a disk, and has passed when the machine's
firmware is heard on the console; where nothing is to be heard before a kernel speaks, when the machine runs.
For a hypervisor that rests on a device that is no proof: a `/dev/kvm`
may open, make a virtual machine, run its firmware, and still die in the kernel of every real guest. It
has to bring up a real guest in the time in which a working one does.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt

from farm.config import Settings
from farm.errors import GuestError, HypervisorError
from farm.model import AttemptKey, Collect, GuestSpec, ImageSpec, Offer, Order, Timeouts
from runners.deadline import Deadline
from runners.guest import Backend, wait_for
from runners.libvirt.connection import embedded, hypervisor_errors
from runners.libvirt.hypervisors import Hypervisor, native_arch
from runners.libvirt.xml import DomainSpec, domain_xml
from runners.machines import CPU_MODELS, MACHINES, Machine

_PROBE_S = 20.0
_POLL_S = 0.05
_ASK_S = 10.0
_PROBE_MEMORY_MIB = 256
_PROBE_IMAGE = "debian-13"
_PROBE_IMAGE_S = 300.0
_PROBE_GUEST_S = 10.0
"""A guest with hardware virtualisation is up in one or two; emulated it takes four or more."""


def look(hypervisor: Hypervisor) -> tuple[Offer, ...]:
    """What can be said without running any machine."""
    return tuple(_looked_at(hypervisor, machine) for machine in _machines(hypervisor))


def probe(hypervisor: Hypervisor, settings: Settings, backend: Backend) -> tuple[Offer, ...]:
    """What a machine of every kind came to. Raises HostError where that says nothing about the hypervisor."""
    try:
        version = embedded(settings).version
    except HypervisorError as error:
        return tuple(offer.model_copy(update={"problem": error.message}) for offer in look(hypervisor))
    probed = (_probed(settings, hypervisor, machine, backend) for machine in _machines(hypervisor))
    return tuple(offer.model_copy(update={"version": version}) for offer in probed)


def hear_firmware(settings: Settings, hypervisor: Hypervisor, machine: Machine) -> None:
    """Start a machine that has nothing to boot; return when its firmware, if it has any, has spoken.

    Raises HypervisorError.
    """
    driver = embedded(settings)
    console = driver.root / f"probe-{hypervisor.name}-{machine.arch}.log"
    spec = DomainSpec(
        name=f"farm-probe-{machine.arch}",
        uuid=str(uuid.uuid4()),
        owner=f"{os.uname().nodename}:{driver.ledger.path.stem}:probe",
        hypervisor=hypervisor,
        machine=machine,
        vcpus=1,
        memory_mib=_PROBE_MEMORY_MIB,
        console=console,
    )
    with hypervisor_errors(f"run a guest with {hypervisor.name}"):
        domain = driver.connection.createXML(domain_xml(spec), 0)
    try:
        if machine.firmware_text:
            _wait_for(machine.firmware_text, console, domain, hypervisor)
        elif not _runs(domain):
            raise HypervisorError(f"a machine in {hypervisor.name} ends as soon as it is started")
    finally:
        driver.kill(domain)
        console.unlink(missing_ok=True)


def _machines(hypervisor: Hypervisor) -> Iterator[Machine]:
    return (machine for machine in MACHINES.values() if hypervisor.any_arch or machine.arch == native_arch())


def _looked_at(hypervisor: Hypervisor, machine: Machine) -> Offer:
    program = f"qemu-system-{machine.qemu_arch}"
    problem = ""
    if not shutil.which(program):
        problem = f"there is no {program}"
    elif hypervisor.node and not os.access(hypervisor.node, os.R_OK | os.W_OK):
        problem = f"{hypervisor.node} cannot be opened"
    return Offer(
        hypervisor=hypervisor.name,
        arch=machine.arch,
        emulated=hypervisor.emulated,
        cpu=hypervisor.cpu or machine.cpu,
        cpus=_models(program, machine) if hypervisor.emulated and not problem else (),
        problem=problem,
    )


def _models(program: str, machine: Machine) -> tuple[str, ...]:
    return tuple(model for model in _cpu_models(program) if re.fullmatch(CPU_MODELS[machine.arch], model))


@functools.cache
def _cpu_models(program: str) -> tuple[str, ...]:
    """All that an emulator knows, as it lists them itself: each first on an indented line."""
    command = [program, "-machine", "none", "-cpu", "help"]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ASK_S).stdout
    models = said.partition("\n\n")[0].splitlines()
    return tuple(line.split()[0] for line in models if line.startswith(" "))


def _probed(settings: Settings, hypervisor: Hypervisor, machine: Machine, backend: Backend) -> Offer:
    offer = _looked_at(hypervisor, machine)
    if offer.problem:
        return offer
    try:
        if hypervisor.node:
            _bring_up(hypervisor, machine, backend)
        else:
            hear_firmware(settings, hypervisor, machine)
    except HypervisorError as error:
        return offer.model_copy(update={"problem": error.message})
    return offer


def _bring_up(hypervisor: Hypervisor, machine: Machine, backend: Backend) -> None:
    """Boot a real guest, from the smallest image there is."""
    key = AttemptKey(run="probe", cell=f"{hypervisor.name}/{machine.arch}", number=1)
    order = Order(
        key=key,
        image=ImageSpec(name=_PROBE_IMAGE, arch=machine.arch),
        hypervisor=hypervisor.name,
        guest=GuestSpec(memory_mib=_PROBE_MEMORY_MIB),
        env={},
        scripts={},
        collect=Collect(),
        timeouts=Timeouts(),
        source_digest="",
    )
    guest = wait_for(backend.create(order, Deadline.after(_PROBE_IMAGE_S, "make a probe guest")))
    try:
        wait_for(guest.boot(Deadline.after(_PROBE_GUEST_S, f"boot a guest with {hypervisor.name}")))
    except GuestError as error:
        cause = error.message.partition(": ")[2]
        raise HypervisorError(f"{hypervisor.node} is there, but no guest comes up in it: {cause}") from error
    finally:
        guest.destroy()


def _wait_for(text: str, console: Path, domain: libvirt.virDomain, hypervisor: Hypervisor) -> None:
    until = time.monotonic() + _PROBE_S
    while time.monotonic() < until:
        if text.encode() in console.read_bytes():
            return
        if not _runs(domain):
            raise HypervisorError(f"a machine in {hypervisor.name} ends before its firmware says anything")
        time.sleep(_POLL_S)
    raise HypervisorError(f"a guest was started, but nothing was heard of its firmware for {_PROBE_S:g} s")


def _runs(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)
    except libvirt.libvirtError:
        return False
