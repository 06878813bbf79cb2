"""Finding out what this host can run, by running it.

An emulator has to start a machine of each architecture without a disk, and has passed when the machine's
firmware is heard on the console; where nothing is to be heard before a kernel speaks, when the machine runs.
For a hypervisor that rests on a device that is no proof: a `/dev/kvm`
may open, make a virtual machine, run its firmware, and still die in the kernel of every real guest. It
has to bring up a real guest in the time in which a working one does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import libvirt

from farm.config import Settings
from farm.errors import GuestError, HostError, HypervisorError
from farm.model import AttemptKey, Collect, GuestSpec, Host, ImageSpec, Offer, Order, Timeouts
from runners.calibrate import with_slowness
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.libvirt import quota
from runners.libvirt.backend import LibvirtBackend
from runners.libvirt.connection import embedded, hypervisor_errors
from runners.libvirt.hypervisors import FASTEST_FIRST, Hypervisor, native_arch
from runners.libvirt.xml import DomainSpec, domain_xml
from runners.machines import MACHINES, Machine

_PROBE_S = 20.0
_POLL_S = 0.05
_PROBE_MEMORY_MIB = 256
_PROBE_IMAGE = "debian-13"
_PROBE_IMAGE_S = 300.0
_PROBE_GUEST_S = 10.0
"""A guest with hardware virtualisation is up in one or two; emulated it takes four or more."""
_KEPT_FOR_HOST_MIB = 2048


def local_host(settings: Settings) -> Host:
    """This host, probed; what was found out before is used while the machine and QEMU are the same."""
    remembered = _remembered(settings)
    if remembered.exists():
        return _measured(settings, Host.model_validate_json(remembered.read_text()))
    host = probe_host(settings)
    return remember(settings, host) if host.probed else host


def remember(settings: Settings, host: Host) -> Host:
    """Keep what was found out, for `local_host` and `known_host`."""
    path = _remembered(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(host.model_dump_json(indent=2))
    temporary.rename(path)
    return host


def known_host(settings: Settings) -> Host:
    """This host without running anything: as it was probed before, else by which programs are there."""
    remembered = _remembered(settings)
    if remembered.exists():
        return _measured(settings, Host.model_validate_json(remembered.read_text()))
    offers = (_looked_at(hypervisor, machine) for hypervisor, machine in _candidates())
    return _host(offers, probed=False, cpu_limit_problem="" if os.geteuid() == 0 else quota.NOT_ROOT)


def probe_host(settings: Settings) -> Host:
    """This host, by running a machine of every kind."""
    try:
        driver = embedded(settings)
    except HypervisorError as error:
        offers = (_offer(hypervisor, machine, problem=error.message) for hypervisor, machine in _candidates())
        return _host(offers, probed=True, cpu_limit_problem=error.message)
    found: list[Offer] = []
    certain = True
    for hypervisor, machine in _candidates():
        try:
            found.append(_probed(settings, driver.version, hypervisor, machine))
        except HostError as error:  # says something about the mirror or the disk, and nothing about a hypervisor
            found.append(_offer(hypervisor, machine, version=driver.version, problem=error.message))
            certain = False
    return _measured(settings, _host(found, probed=certain, cpu_limit_problem=quota.problem(settings)))


def _measured(settings: Settings, host: Host) -> Host:
    """With how slow its guests are, as far as attempts have measured it."""
    cpus = {(hypervisor.name, machine.arch): hypervisor.cpu or machine.cpu for hypervisor, machine in _candidates()}
    return with_slowness(host, cpus, settings)


def _candidates() -> Iterator[tuple[Hypervisor, Machine]]:
    for hypervisor in FASTEST_FIRST:
        for machine in MACHINES.values():
            if hypervisor.any_arch or machine.arch == native_arch():
                yield hypervisor, machine


def _host(offers: Iterable[Offer], *, probed: bool, cpu_limit_problem: str) -> Host:
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 // 1024
    return Host(
        name=os.uname().nodename,
        uri="qemu:///embed",
        vcpus=len(os.sched_getaffinity(0)),
        memory_mib=max(512, memory_mib - _KEPT_FOR_HOST_MIB),
        offers=(*offers, *_scripted()),
        probed=probed,
        cpu_limit_problem=cpu_limit_problem,
    )


def _scripted() -> Iterator[Offer]:
    for arch in MACHINES:
        yield Offer(hypervisor="fake", arch=arch, emulated=True, scripted=True)


def _offer(hypervisor: Hypervisor, machine: Machine, *, version: str = "", problem: str = "") -> Offer:
    return Offer(
        hypervisor=hypervisor.name,
        arch=machine.arch,
        emulated=hypervisor.emulated,
        version=version,
        problem=problem,
    )


def _looked_at(hypervisor: Hypervisor, machine: Machine) -> Offer:
    """What can be said without running anything."""
    problem = ""
    if not shutil.which(f"qemu-system-{machine.qemu_arch}"):
        problem = f"there is no qemu-system-{machine.qemu_arch}"
    elif hypervisor.node and not os.access(hypervisor.node, os.R_OK | os.W_OK):
        problem = f"{hypervisor.node} cannot be opened"
    return _offer(hypervisor, machine, problem=problem)


def _probed(settings: Settings, version: str, hypervisor: Hypervisor, machine: Machine) -> Offer:
    offer = _looked_at(hypervisor, machine)
    if not offer.problem:
        try:
            proof = _bring_up if hypervisor.node else _hear_firmware
            proof(settings, hypervisor, machine)
        except HypervisorError as error:
            return _offer(hypervisor, machine, version=version, problem=error.message)
    return offer.model_copy(update={"version": version})


def _bring_up(settings: Settings, hypervisor: Hypervisor, machine: Machine) -> None:
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
    guest = wait_for(
        LibvirtBackend(hypervisor, settings).create(order, Deadline.after(_PROBE_IMAGE_S, "make a probe guest"))
    )
    try:
        wait_for(guest.boot(Deadline.after(_PROBE_GUEST_S, f"boot a guest with {hypervisor.name}")))
    except GuestError as error:
        cause = error.message.partition(": ")[2]
        raise HypervisorError(f"{hypervisor.node} is there, but no guest comes up in it: {cause}") from error
    finally:
        guest.destroy()


def _hear_firmware(settings: Settings, hypervisor: Hypervisor, machine: Machine) -> None:
    """Start a machine that has nothing to boot; return when its firmware, if it has any, has spoken."""
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


def _remembered(settings: Settings) -> Path:
    """Where the findings are kept: named after all that could change them."""
    programs = sorted(Path("/usr/bin").glob("qemu-system-*"))
    facts = [Path("/proc/sys/kernel/random/boot_id").read_text(), os.uname().release, str(os.geteuid()), *MACHINES]
    facts += [f"{program} {program.stat().st_mtime_ns}" for program in programs]
    facts += [f"{point.name} {point.value}" for point in entry_points(group="farm.backends")]
    facts += [str(len(os.sched_getaffinity(0))), *Host.model_fields]
    return settings.cache / "hosts" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
