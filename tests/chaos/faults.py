"""The table of faults. Each is done to a farm that works, lasts for a while, and is over."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from tests.chaos import stores
from tests.chaos.processes import KINDS, freeze, kill
from tests.chaos.scene import LONGEST_S, Scene
from tests.chaos.wired import BROKEN, GOOD, SILENT, SLOW

Do = Callable[[Scene], bool]
"""Does it, and undoes it; False where there was nothing to do it to."""

EVERYWHERE = frozenset({"fake", "real"})
_EVERY_STORE = frozenset({"sqlite", "postgresql"})
_JUMPS_S = (-7200, -90, -5, 5, 90, 7200)


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    do: Do
    guests: Collection[str] = EVERYWHERE
    """With which it can be done."""
    stores: Collection[str] = _EVERY_STORE
    weight: int = 8
    """How often it is dealt: what ends the server is followed by a start, which takes as long as many others."""


def _wire(how: str) -> Do:
    def put(scene: Scene) -> bool:
        """Every connection to a guest is like that for a while."""
        try:
            scene.wire.write_text(how)
            time.sleep(scene.dice.uniform(0.2, LONGEST_S))
        finally:
            scene.wire.write_text(GOOD)
        return True

    return put


def _jump(scene: Scene) -> bool:
    """The clock of the server and of all its processes is wrong from one moment to the next, and right again later."""
    if not scene.clock:
        return False
    try:
        scene.clock.put(scene.dice.choice(_JUMPS_S))
        time.sleep(scene.dice.uniform(0.2, LONGEST_S))
    finally:
        scene.clock.put(0)
    return True


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "kill -9 worker": Fault(kill("worker")),
        "kill -9 raylet": Fault(kill("raylet"), weight=1),
        "kill -9 gcs": Fault(kill("gcs"), weight=1),
        "kill -9 reaper": Fault(kill("reaper")),
        "kill -9 controller": Fault(kill("controller"), weight=1),
        "kill -9 qemu": Fault(kill("qemu"), {"real"}),
        **{f"stop {kind}": Fault(freeze(kind), {"real"} if kind == "qemu" else EVERYWHERE) for kind in KINDS},
        "ssh broken": Fault(_wire(BROKEN), {"fake"}),
        "ssh silent": Fault(_wire(SILENT), {"fake"}),
        "ssh slow": Fault(_wire(SLOW), {"fake"}),
        "clock jumps": Fault(_jump),
        "disk full": Fault(stores.full, stores={"sqlite"}),
        "database locked": Fault(stores.locked),
        "database gone": Fault(stores.gone, stores={"sqlite"}),
        "database stopped": Fault(stores.stopped, stores={"postgresql"}, weight=4),
        "kill -9 database": Fault(stores.killed, stores={"postgresql"}, weight=4),
    }
)


class Dealt(NamedTuple):
    """A fault that is to be injected."""

    number: int
    name: str


def named(guests: str, store: str, only: Collection[str] = ()) -> tuple[str, ...]:
    """The faults that can be injected there."""
    return tuple(
        name
        for name, fault in FAULTS.items()
        if guests in fault.guests and store in fault.stores and (not only or name in only)
    )


def deal(names: Sequence[str], count: int, seed: int) -> tuple[Dealt, ...]:
    """So many faults, each as often as its weight says, in an order that the seed decides."""
    dice = random.Random(seed)  # noqa: S311 - so that it can be done again
    least = min(FAULTS[name].weight for name in names)
    deck = [name for name in names for _ in range(FAULTS[name].weight // least)]
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += dice.sample(deck, len(deck))
    return tuple(Dealt(number, name) for number, name in enumerate(dealt[:count]))


def volleys(dealt: Sequence[Dealt], size: int) -> tuple[tuple[Dealt, ...], ...]:
    """So many at a time, none of them twice: what one fault begins is not for another to end."""
    found: list[list[Dealt]] = []
    for one in dealt:
        place = next(
            (group for group in found[-3:] if len(group) < size and one.name not in {o.name for o in group}), None
        )
        if place is None:
            found.append(place := [])
        place.append(one)
    return tuple(tuple(group) for group in found)
