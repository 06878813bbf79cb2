"""What many unit tests begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a file of its own; modules whose tests hold for every database have their own."""
    opened = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    yield opened
    opened.close()
