"""Files in a cache, and what killed processes have left of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from farm.sources.cached import scratch, written

WRITER = """
import sys, time
from pathlib import Path
from farm.sources.cached import scratch, written
with dict(scratch=scratch, written=written)[sys.argv[1]](Path(sys.argv[2])):
    print("begun", flush=True)
    time.sleep(600)
"""
MAKERS = pytest.mark.parametrize("make", [written, scratch], ids=["a file", "a folder"])
Make = Callable[[Path], AbstractContextManager[Any]]


def begun(folder: Path, make: Make) -> subprocess.Popen[str]:
    """A process that has begun to make one, an hour ago."""
    name = "written" if make is written else "scratch"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, name, folder], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    assert writer.stdout.readline() == "begun\n"
    (new,) = folder.iterdir()
    if new.is_dir():
        (new / "file").touch()
    os.utime(new, (time.time() - 3600,) * 2)
    return writer


@MAKERS
def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path, make: Make) -> None:
    with begun(tmp_path, make) as writer:
        writer.kill()
    with make(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


@MAKERS
def test_what_somebody_is_making_stays_however_old_it_is(tmp_path: Path, make: Make) -> None:
    with begun(tmp_path, make) as writer:
        with make(tmp_path):
            assert len(list(tmp_path.iterdir())) == 2
        assert len(list(tmp_path.iterdir())) == 1
        writer.kill()


def test_what_has_just_begun_stays_though_it_is_not_locked_yet(tmp_path: Path) -> None:
    (tmp_path / ".new-young").touch()
    with written(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".new-young"]


def test_a_file_that_has_got_its_name_is_no_longer_new(tmp_path: Path) -> None:
    with written(tmp_path, ".tar") as (file, name):
        file.write(b"x")
        assert name("a") == tmp_path / "a.tar"
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]
