"""What is worked out in another process is the same, and that process never stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from farm import report
from farm.aside import Aside
from farm.compat import Compatibility, compat_of, patterns_text
from farm.documents import rendered
from farm.errors import HostError, NotFoundError
from farm.store import Store
from tests.service.seeding import NOW, seeded
from tests.unit.test_serve import NoImages
from tests.waiting import eventually

AXES = {"image": ["debian-13"], "arch": ["amd64", "s390x"], "hypervisor": ["qemu"]}


@pytest.fixture
def aside(tmp_path: Path) -> Iterator[Aside[Store]]:
    made = Aside(partial(Store.open, f"sqlite:///{tmp_path / 'farm.db'}", tmp_path))
    yield made
    made.close()


def worker(aside: Aside[Store]) -> int:
    return aside._started().pool.submit(os.getpid).result()


def until_gone(process: int) -> None:
    eventually(lambda: not arguments(process), what=lambda: f"it has ended; it is still there: {arguments(process)!r}")


def arguments(process: int) -> bytes:
    """None where it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def test_a_report_is_the_same_as_one_that_is_made_here(store: Store, aside: Aside[Store]) -> None:
    run = seeded(store, AXES, failing={"arch": "s390x"})
    for name in report.FORMATS:
        assert aside.ask(rendered, run, name) == report.render(name, store.run(run), store.files.log)
    assert worker(aside) != os.getpid()


def test_a_judgement_is_the_same_as_one_that_is_made_here(store: Store, tmp_path: Path) -> None:
    before, after = seeded(store, AXES), seeded(store, AXES, failing={"arch": "s390x"})
    open_ = partial(compat_of, f"sqlite:///{tmp_path / 'farm.db'}", tmp_path, NoImages())
    here, aside = open_(), Aside(open_)
    asked = partial(Compatibility.statement, now=NOW, baseline=before)
    assert aside.ask(Compatibility.compare, before, after) == here.compare(before, after)
    assert aside.ask(asked, after) == here.statement(after, now=NOW, baseline=before)
    assert aside.ask(patterns_text, after, "text") == patterns_text(here, after, "text") != ""
    aside.close()


def test_what_is_wrong_comes_back_as_itself(store: Store, aside: Aside[Store]) -> None:
    with pytest.raises(NotFoundError, match="nope-1") as caught:
        aside.ask(rendered, "nope-1", "json")
    assert caught.value.hint


def test_a_process_that_is_killed_is_told_and_another_takes_its_place(store: Store, aside: Aside[Store]) -> None:
    run = seeded(store, AXES)
    process = aside._started()
    os.kill(worker(aside), signal.SIGKILL)
    with pytest.raises(HostError, match="has died"):
        for _ in range(100):
            aside.ask(rendered, run, "json")
    assert process.ours.closed
    assert aside.ask(rendered, run, "json")


def test_a_process_that_dies_before_it_begins_is_told_too(
    store: Store, aside: Aside[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = seeded(store, AXES)
    with monkeypatch.context() as broken:
        broken.setattr("farm.aside._begin", sys.exit)
        with pytest.raises(HostError, match="has died"):
            aside.ask(rendered, run, "json")
    assert aside.ask(rendered, run, "json")


def test_it_ends_with_whoever_closes_it(store: Store, aside: Aside[Store]) -> None:
    process = worker(aside)
    aside.close()
    until_gone(process)
    aside.close()


def test_it_ends_with_a_server_that_is_killed(store: Store, tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from functools import partial\n"
        "from farm.aside import Aside\n"
        "from farm.store import Store\n"
        "if __name__ == '__main__':\n"
        f"    r = Aside(partial(Store.open, 'sqlite:///{tmp_path / 'farm.db'}', pathlib.Path({str(tmp_path)!r})))\n"
        "    print(r._started().pool.submit(os.getpid).result(), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    script = tmp_path / "server.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as server:
        assert server.stdout
        process = int(server.stdout.readline())
        server.kill()
    until_gone(process)
