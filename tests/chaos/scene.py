"""Where faults are injected."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.clock import Clock
from tests.postgres import Postgres

LONGEST_S = 6.0
"""That a fault lasts, as a rule."""


@dataclass(frozen=True)
class Scene:
    """A farm, and all that can be broken around it."""

    state: Path
    runtime: Path
    database: str
    """Its URL."""
    wire: Path
    """The file that says how connections to scripted guests are."""
    clock: Clock | None
    """The farm's; None: the machine's."""
    server: Postgres | None
    """The database's, where it has one."""
    dice: random.Random
