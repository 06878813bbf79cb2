"""What this process' host can run: what all backends say of it, put together and remembered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from farm.config import Settings
from farm.errors import HostError
from farm.model import Host, Offer
from runners import capacity, processor
from runners.calibration.cache import with_slowness
from runners.guest import backend_names, load_backend
from runners.hosts.uri import parse_uri
from runners.machines import MACHINES

_PROGRAMS = ("qemu-system-*", "bochs")
"""Those in /usr/bin that offers rest on."""


def local_host(settings: Settings) -> Host:
    """This host, probed; what was found out before is used while the machine and its hypervisors are the same.

    What could not be tried then is tried now.
    """
    remembered = _remembered(settings)
    if remembered.exists():
        host = _recalled(remembered, settings)
        if all(offer.tried for offer in host.offers):
            return host
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
        return _recalled(remembered, settings)
    offers = (offer for name in backend_names() for offer in load_backend(name, settings).look())
    return _host(settings, capacity.look(settings), offers, probed=False)


def probe_host(settings: Settings) -> Host:
    """This host, by running a machine of every kind."""
    found: list[Offer] = []
    certain = True
    for name in backend_names():
        backend = load_backend(name, settings)
        try:
            found += backend.probe()
        except HostError as error:  # says something about the mirror or the disk, and nothing about the hypervisor
            found += [offer.model_copy(update={"problem": error.message}) for offer in backend.look()]
            certain = False
    return with_slowness(_host(settings, capacity.probe(settings), found, probed=certain), settings)


def _host(settings: Settings, has: capacity.Capacity, offers: Iterable[Offer], *, probed: bool) -> Host:
    """Its offers in the order in which they are shown: what is native first, what is none last."""
    order = sorted(offers, key=lambda offer: (offer.scripted, offer.emulated))
    cpus = processor.of_host(parse_uri(settings.uri))
    return Host(uri=settings.uri, offers=tuple(order), probed=probed, processor=cpus, **has._asdict())


def _recalled(remembered: Path, settings: Settings) -> Host:
    host = Host.model_validate_json(remembered.read_text())
    # Several hosts of a cluster may share a machine, and so what was found out about it.
    return with_slowness(host.model_copy(update={"name": settings.host_name}), settings)


def _remembered(settings: Settings) -> Path:
    """Where the findings are kept: named after all that could change them."""
    programs = sorted(path for pattern in _PROGRAMS for path in Path("/usr/bin").glob(pattern))
    facts = [settings.uri, Path("/proc/sys/kernel/random/boot_id").read_text(), os.uname().release, str(os.geteuid())]
    facts += [f"{program} {program.stat().st_mtime_ns}" for program in programs]
    facts += [f"{point.name} {point.value}" for point in entry_points(group="farm.backends")]
    facts += [str(len(os.sched_getaffinity(0))), *MACHINES, *Host.model_fields, *Offer.model_fields]
    return settings.cache / "hosts" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
