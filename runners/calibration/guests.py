"""Which guest is measured, and when.

One that is there for nothing else, where it can be restored; else the attempt's own, before anything has run in it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from farm.config import load_settings
from farm.model import GuestFacts, Order, Slowness, Start
from runners.calibration.cache import Calibrations, kind_of
from runners.calibration.measure import Calibration, calibrate
from runners.deadline import Deadline
from runners.guest import Backend, Guest, Shell, Work


def measured_before(facts: GuestFacts, backend: Backend, order: Order) -> Work[Slowness | None]:
    """How slow a guest that is not started yet will be; None where only the guest itself can tell."""
    settings, kind = load_settings(), kind_of(facts)
    calibrations = Calibrations(settings)
    if found := facts.slowness or calibrations.find(kind):
        return found
    if facts.start is Start.COLD:
        return None
    measure = partial(_in_clone, backend, order, settings.runtime)
    return (yield from calibrations.ensure(kind, facts.image_digest, measure))


def measured_in(guest: Guest, shell: Shell, order: Order) -> Work[Slowness | None]:
    """How slow a guest is in which nothing has run yet; None where it cannot be told, or its order limits it."""
    if order.guest.cpu_percent or order.guest.disk_bytes_per_s:
        return None
    settings, facts = load_settings(), guest.facts
    measure = partial(_in_guest, guest, shell, settings.runtime)
    return (yield from Calibrations(settings).ensure(kind_of(facts), facts.image_digest, measure))


def _in_clone(backend: Backend, order: Order, folder: Path, deadline: Deadline) -> Work[Calibration]:
    """Measure in a guest of an order that is there for nothing else."""
    free = order.guest.model_copy(
        update={"cpu_percent": None, "disk_bytes_per_s": None, "network_bytes_per_s": None, "min_ready": 0}
    )
    guest = yield from backend.create(order.model_copy(update={"guest": free}), deadline)
    try:
        yield from guest.boot(deadline)
        shell = yield from guest.connect(deadline)
        try:
            return (yield from _in_guest(guest, shell, folder, deadline))
        finally:
            shell.close()
    finally:
        guest.destroy()


def _in_guest(guest: Guest, shell: Shell, folder: Path, deadline: Deadline) -> Work[Calibration]:
    """Measure in a guest that is there already. Nothing is left in it."""
    return calibrate(shell, lambda: guest.usage().cpu_s, folder, deadline)
