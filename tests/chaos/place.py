"""Where a campaign takes place: folders of its own, a store of its own, and nothing left afterwards."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from farm.config import Settings
from tests.chaos import wired
from tests.chaos.campaign import Campaign
from tests.chaos.clock import Clock
from tests.chaos.scene import Scene
from tests.chaos.supervised import Supervised, environment
from tests.postgres import postgres, programs
from tests.service.serving import Serving

_STATE_MIB = 256
_HYPERVISORS = {"fake": wired.NAME, "real": "qemu"}
_SETTINGS = "rate = 1e6\nburst = 100000\n"


@contextmanager
def campaign_in(store: str, guests: str, seed: int, log: Path, copies: int = 2) -> Iterator[Campaign]:
    """A campaign that has not begun yet; what its server says is kept in `log`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ch-", dir="/tmp")))
        state = stack.enter_context(_small(folder / "state"))
        server = stack.enter_context(postgres(programs(), durable=True)) if store == "postgresql" else None
        database = server.create() if server else Settings(state=state, cache=folder, runtime=runtime).database
        wire, clock = folder / "wire", Clock(folder) if Clock.can_be_made() else None
        wire.write_text(wired.GOOD)
        told = environment(folder, clock) | {wired.WIRE: str(wire), "FARM_DATABASE": database}
        serving = Serving(folder, runtime, environment=told, settings=_SETTINGS)
        scene = Scene(state, runtime, database, wire, clock, server, random.Random(seed))  # noqa: S311 - to be repeated
        stack.callback(serving.log.rename, log)
        stack.callback(serving.stop)
        yield Campaign(Supervised(serving, _HYPERVISORS[guests], copies), scene, seed)


@contextmanager
def _small(state: Path) -> Iterator[Path]:
    """A folder that is a small file system of its own, where this user may mount one."""
    state.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={_STATE_MIB}m,mode=700", "none", state]
    )
    try:
        yield state
    finally:
        if mounted:
            subprocess.check_call(["umount", "--lazy", state])
