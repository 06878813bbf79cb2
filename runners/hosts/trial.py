"""What a hypervisor is like to have guests on, found out by having some: how long each step takes, and what it costs.

The guests come one after the other and do nothing else; each number is the middle one of all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import TypeVar

from farm.config import Settings
from farm.errors import FarmError
from farm.model import (
    AttemptKey,
    Collect,
    GuestSpec,
    Host,
    ImageSpec,
    Offer,
    Order,
    Slowness,
    Timeouts,
    Trial,
    Tried,
)
from runners.calibration.cache import with_slowness
from runners.calibration.guests import measured_in
from runners.calibration.measure import calibrate
from runners.deadline import Deadline
from runners.guest import Backend, Work, load_backend, wait_for
from runners.hosts.node import room_of

STEPS = 10
MEMORY_MIB = 512
_TRIAL_S = 900.0
_IMAGE = "debian-13"

_T = TypeVar("_T")


def trials(host: Host, settings: Settings, *, image: str, arch: str, guests: int) -> Iterator[Trial]:
    """A trial of each hypervisor that the host has for an architecture, one after the other, as it is done."""
    for offer in host.offers:
        if offer.arch == arch and not (offer.scripted or offer.problem):
            try:
                yield _trial(host.name, offer, settings, ImageSpec(name=image, arch=arch), guests)
            except FarmError as error:
                yield Trial(host=host.name, offer=offer, problem=error.message)


def calibrated(host: Host, settings: Settings) -> tuple[Host, tuple[str, ...]]:
    """A host of which it is known how slow its native guests are, and why that is not known of some.

    What was not measured yet is measured now. There are few such offers, and each takes seconds; emulated ones are
    many, and measured by the first attempt at each.
    """
    unknown = []
    for offer in host.offers:
        if not (offer.emulated or offer.scripted or offer.problem or offer.slowness):
            order = _order(offer, ImageSpec(name=_IMAGE, arch=offer.arch), 0)
            try:
                wait_for(_measure(load_backend(offer.hypervisor, settings), order))
            except FarmError as error:
                unknown.append(f"it is not known how slow {offer.hypervisor} is: {error.message}")
    return with_slowness(host, settings), tuple(unknown)


def _measure(backend: Backend, order: Order) -> Work[None]:
    deadline = Deadline.after(_TRIAL_S, f"measure how slow {order.hypervisor} is")
    guest = yield from backend.create(order, deadline)
    try:
        yield from guest.boot(deadline)
        shell = yield from guest.connect(deadline)
        try:
            yield from measured_in(guest, shell, order)
        finally:
            shell.close()
    finally:
        guest.destroy()


def _trial(host: str, offer: Offer, settings: Settings, image: ImageSpec, guests: int) -> Trial:
    backend = load_backend(offer.hypervisor, settings)
    deadline = Deadline.after(_TRIAL_S, f"try {offer.hypervisor}")
    # The first one brings the image, and where there are snapshots one of those: it is measured for what stays.
    slowness = wait_for(_slowness(backend, _order(offer, image, 0), settings, deadline))
    found = [wait_for(_guest(backend, _order(offer, image, number), settings, deadline)) for number in range(guests)]
    return Trial(host=host, offer=offer, guests=tuple(found), slowness=slowness)


def _slowness(backend: Backend, order: Order, settings: Settings, deadline: Deadline) -> Work[Slowness]:
    guest = yield from backend.create(order, deadline)
    try:
        yield from guest.boot(deadline)
        shell = yield from guest.connect(deadline)
        try:
            found = yield from calibrate(shell, lambda: guest.usage().cpu_s, settings.runtime, deadline)
        finally:
            shell.close()
    finally:
        guest.destroy()
    return found.slowness


def _guest(backend: Backend, order: Order, settings: Settings, deadline: Deadline) -> Work[Tried]:
    free_mib = room_of(settings).memory_mib
    guest, provision_s = yield from _timed(backend.create(order, deadline))
    try:
        _, boot_s = yield from _timed(guest.boot(deadline))
        shell, connect_s = yield from _timed(guest.connect(deadline))
        try:
            steps = []
            for _ in range(STEPS):
                _, step_s = yield from _timed(shell.execute("true", deadline=deadline))
                steps.append(step_s)
        finally:
            shell.close()
        facts, taken_mib = guest.facts, free_mib - room_of(settings).memory_mib
    finally:
        began = time.monotonic()
        guest.destroy()
        destroy_s = time.monotonic() - began
    return Tried(
        facts=facts,
        provision_s=provision_s,
        boot_s=boot_s,
        connect_s=connect_s,
        step_s=statistics.median(steps),
        taken_mib=taken_mib,
        destroy_s=destroy_s,
    )


def _timed(work: Work[_T]) -> Work[tuple[_T, float]]:
    """A work, and the seconds that it took."""
    began = time.monotonic()
    result = yield from work
    return result, time.monotonic() - began


def _order(offer: Offer, image: ImageSpec, number: int) -> Order:
    return Order(
        key=AttemptKey(run="trial", cell=f"{image.name}/{image.arch}/{offer.hypervisor}", number=number),
        image=image,
        hypervisor=offer.hypervisor,
        guest=GuestSpec(memory_mib=MEMORY_MIB),
        env={},
        scripts={},
        collect=Collect(),
        timeouts=Timeouts(),
        source_digest="",
    )
