"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Postgres, postgres, programs

# How fast a machine makes examples says nothing about the farm: no deadlines, on no machine.
settings.register_profile("farm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("farm")

# Two who test side by side look each into a runtime folder of their own for what was left behind.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["FARM_RUNTIME"] = str(Path(tempfile.gettempdir()) / f"farm-{os.getuid()}-{worker}")

DATABASES = ("sqlite", "postgresql")
"""What a store may be on; what holds of one has to hold of the other."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real one, for all tests that want it."""
    with postgres(programs()) as server:
        yield server


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    return url_of(request, tmp_path)


def url_of(request: pytest.FixtureRequest, folder: Path) -> str:
    """The same for a fixture of another scope, which has DATABASES as its parameters."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'farm.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.create()
