"""A server that is told to end does, soon, with all that it has made, whatever it is doing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.processes import processes
from tests.service.serving import PROGRAM, Serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

LONG_S = 120.0


def left_behind(runtime: Path) -> list[str]:
    """Processes that name the server's runtime folder, but for the reaper, which ends by itself; and ledgers."""
    found = [str(path) for path in (runtime / "ledger").glob("*")]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(runtime) in words and "runners.reaper" not in words:
            found.append(words)
    return found


def gone(server: Serving) -> None:
    """Wait until nothing is left of it."""
    eventually(
        lambda: not left_behind(server.runtime),
        within_s=LONG_S,
        what=lambda: f"nothing is left of the server; there is: {left_behind(server.runtime)}",
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_lets_listeners_go_destroys_guests_and_exits_with_0(
    own_server: Callable[..., Serving], how: signal.Signals
) -> None:
    server = own_server(environment={"FARM_LOG": "debug"})
    client = server.client("submit")
    run = server.submit(client, "sleep 300")
    server.wait_for(client, run, "running")
    heard, ended = threading.Event(), threading.Event()

    def listen() -> None:
        headers = {"Authorization": f"Bearer {server.token('read')}"}
        with httpx.stream("GET", f"{server.url}/api/v1/events", headers=headers, timeout=LONG_S) as answer:
            for _ in answer.iter_raw():
                heard.set()
        ended.set()

    server.token("read")
    listener = threading.Thread(target=listen)
    listener.start()
    assert heard.wait(LONG_S)
    server.stop(how)
    listener.join(LONG_S)
    assert ended.is_set()  # the stream came to its end, and was not cut off
    assert server.process is not None
    assert server.process.returncode == 0, server.log.read_text()
    gone(server)
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_told_twice_it_leaves_at_once_and_the_reaper_does_the_rest(
    own_server: Callable[..., Serving], how: signal.Signals
) -> None:
    server = own_server()
    client = server.client("submit")
    run = server.submit(client, "sleep 300")
    server.wait_for(client, run, "running")
    client.close()
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    eventually(
        lambda: "ending: the guests" in server.log.read_text(),
        within_s=LONG_S,
        as_long_as=lambda: process.poll() is None,
        what=lambda: f"it ends its guests; it said: {server.log.read_text()}",
    )
    process.send_signal(how)
    assert process.wait(LONG_S) == 128 + how
    assert "leaving at once: the reaper destroys the guests" in server.log.read_text()
    gone(server)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A path short enough for sockets; nothing is there yet."""
    folder = Path(tempfile.mkdtemp(prefix="fe-", dir="/tmp"))
    yield folder / "r"
    shutil.rmtree(folder)


def test_told_to_end_while_it_starts_it_leaves_nothing(tmp_path: Path, runtime: Path) -> None:
    environment = os.environ | {"FARM_STATE": str(tmp_path / "state"), "FARM_RUNTIME": str(runtime)}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(PROGRAM), "serve"], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    eventually(
        lambda: list(runtime.glob("r????/*")),
        within_s=LONG_S,
        as_long_as=lambda: process.poll() is None,
        what=lambda: f"Ray has begun to make its files; the server said: {log.read_text()}",
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG_S) != 0
    gone(Serving(tmp_path, runtime))


def test_what_is_wrong_with_the_settings_is_told_before_anything_is_started(tmp_path: Path, runtime: Path) -> None:
    (tmp_path / "farm.toml").write_text("prot = 80\n")
    environment = os.environ | {"FARM_STATE": str(tmp_path / "state"), "FARM_RUNTIME": str(runtime)}
    command = [str(PROGRAM), "serve", "--config", str(tmp_path / "farm.toml")]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=LONG_S)
    assert (done.returncode, "prot" in done.stderr, runtime.exists()) == (2, True, False)


@pytest.mark.parametrize("busy", [False, True])
def test_where_rays_head_is_killed_it_ends_soon_says_so_and_can_be_started_again(
    own_server: Callable[..., Serving], *, busy: bool
) -> None:
    """Ray itself would end it after a minute, in the middle of whatever it does."""
    server = own_server()
    client = server.client("submit")
    if busy:
        run = server.submit(client, "sleep 5")
        server.wait_for(client, run, "running")
    (head,) = (one.pid for one in processes(server.runtime) if one.kind == "gcs")
    os.kill(head, signal.SIGKILL)
    assert server.process
    assert server.process.wait(50) == 2, "a service manager starts it again"
    said = server.log.read_text()
    assert "error: cannot go on: Ray's head is gone" in said
    assert "start it again; a service of systemd with `Restart=` is started again by itself" in said
    assert "Traceback" not in said
    gone(server)
    if busy:
        server.start()
        assert server.wait_for(server.client("submit"), run, timeout_s=LONG_S)["run"]["exit_code"] == 0
