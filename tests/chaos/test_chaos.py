"""A few faults of each sort, the same ones each time; `make chaos` injects as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import Dealt
from tests.chaos.place import campaign_in
from tests.conftest import DATABASES

SEED = 6
VOLLEYS = (
    ("kill -9 worker", "kill -9 reaper", "ssh broken", "clock jumps"),
    ("database locked", "ssh slow", "stop controller"),
    ("kill -9 controller", "stop worker", "ssh silent"),
)
OF_THE_STORE = {"sqlite": ("disk full", "database gone"), "postgresql": ("database stopped", "kill -9 database")}


@pytest.mark.timeout(900)  # it starts two servers with a Ray each
@pytest.mark.parametrize("store", DATABASES)
def test_a_farm_that_is_broken_goes_on_and_blames_nobody_wrongly(store: str, tmp_path: Path) -> None:
    with campaign_in(store, "fake", SEED, tmp_path / "serve.log", copies=1) as campaign:
        # Only a file system of its own can be filled, and not every user may mount one.
        impossible = () if campaign.scene.state.is_mount() else ("disk full",)
        volleys = tuple(
            tuple(Dealt(10 * number + place, name) for place, name in enumerate(volley) if name not in impossible)
            for number, volley in enumerate((*VOLLEYS, OF_THE_STORE[store]))
        )
        campaign.begin()
        steps = tuple(campaign.steps(volleys))
        assert [(step.fault, step.wrong) for step in steps if step.wrong or not step.injected] == []
        assert campaign.end() == ()
    assert campaign.cells > 0
    assert campaign.farm.restarts == 1
