"""Temporary folders, and what is left of them when their owner is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from runners import reaper
from runners.scratch import scratch
from tests.waiting import eventually

OWNER = """
import sys, time
from pathlib import Path
from runners.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    with TemporaryDirectory(prefix="fr") as folder:
        yield Path(folder)
        eventually(lambda: not reaper.is_running(Path(folder)), what="the reaper has ended")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_it_is_there_meanwhile_and_then_gone(runtime: Path, error: type[BaseException] | None) -> None:
    try:
        with scratch(runtime) as folder:
            assert folder.stat().st_mode & 0o777 == 0o700
            assert not reaper.orphans(runtime)
            if error:
                raise error
    except KeyboardInterrupt:
        pass
    assert not folder.exists()
    assert not reaper.is_needed(runtime)


def test_the_reaper_removes_that_of_a_process_that_was_killed(runtime: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, runtime], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        assert folder.exists()
        owner.kill()
    eventually(lambda: not folder.exists(), what="it is gone")
