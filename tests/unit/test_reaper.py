"""The ledger and the reaper, with real processes and locks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from farm.errors import ConfigError, HostError
from runners import reaper
from runners.ledger import Entry, Ledger, is_owned, private_folder, read
from runners.session import local_session, node_session
from tests.waiting import eventually

OWNER = """
import sys, time
from pathlib import Path
from runners.ledger import Entry, Ledger
runtime, folder = Path(sys.argv[1]), Path(sys.argv[2])
ledger = Ledger(runtime)
ledger.add(Entry("folder", str(folder)))
folder.mkdir()
print("made", flush=True)
time.sleep(600)
"""


@pytest.fixture
def runtime() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fr"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def start_owner(runtime: Path, folder: Path) -> subprocess.Popen[str]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, runtime, folder], stdout=subprocess.PIPE, text=True)
    assert owner.stdout
    assert owner.stdout.readline() == "made\n"
    return owner


def end(owner: subprocess.Popen[str]) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert owner.stdout
    owner.stdout.close()


def until_there(runtime: Path) -> None:
    """Wait until a reaper looks after the folder."""
    eventually(lambda: reaper.is_running(runtime), what=lambda: f"a reaper runs; there is: {_reapers(runtime)}")


def until_ended(runtime: Path) -> None:
    """Wait until no reaper looks after the folder."""
    eventually(lambda: not _reapers(runtime), what=lambda: f"the reaper has ended; there is: {_reapers(runtime)}")


def until_destroyed(folder: Path) -> None:
    """Wait until the reaper has destroyed a folder."""
    eventually(lambda: not folder.exists(), what=f"{folder} is destroyed")


def test_what_is_added_and_not_dropped_is_listed_newest_first(runtime: Path) -> None:
    ledger = Ledger(runtime)
    for name in "abc":
        ledger.add(Entry("folder", name))
    ledger.drop(Entry("folder", "b"))
    assert read(ledger.path) == (Entry("folder", "c"), Entry("folder", "a"))
    ledger.close()
    assert ledger.path.exists()


def test_a_line_cut_off_by_a_kill_is_no_entry(runtime: Path) -> None:
    file = runtime / "x.jsonl"
    file.write_text('{"op": "add", "kind": "folder", "value": "a"}\n{"op": "add", "ki')
    assert read(file) == (Entry("folder", "a"),)


def test_an_empty_ledger_goes_with_its_owner(runtime: Path) -> None:
    ledger = Ledger(runtime)
    ledger.close()
    assert not ledger.path.exists()


def test_what_has_a_living_owner_is_not_touched(runtime: Path) -> None:
    owner = start_owner(runtime, runtime / "thing")
    try:
        assert reaper.orphans(runtime) == ()
        assert reaper.sweep(runtime) == ()
        assert (runtime / "thing").exists()
    finally:
        end(owner)


def test_what_a_killed_owner_left_is_shown_then_destroyed(runtime: Path) -> None:
    end(start_owner(runtime, runtime / "thing"))
    assert [orphan.entry for orphan in reaper.orphans(runtime)] == [Entry("folder", str(runtime / "thing"))]
    assert (runtime / "thing").exists()
    assert len(reaper.sweep(runtime)) == 1
    assert not (runtime / "thing").exists()
    assert reaper.sweep(runtime) == ()


def test_the_reaper_process_destroys_and_ends_by_itself(runtime: Path) -> None:
    owner = start_owner(runtime, runtime / "thing")
    reaper.ensure_reaper(runtime)
    assert (runtime / "thing").exists()
    end(owner)
    until_destroyed(runtime / "thing")
    until_ended(runtime)


def test_only_one_reaper_runs_for_a_folder(runtime: Path) -> None:
    owner = start_owner(runtime, runtime / "thing")
    reaper.ensure_reaper(runtime)
    until_there(runtime)
    reaper.ensure_reaper(runtime)
    assert len(_reapers(runtime)) == 1
    end(owner)
    until_ended(runtime)


def unreachable(value: str) -> None:
    raise HostError(f"cannot reach {value}")


def test_what_cannot_be_reached_stays_listed_and_the_rest_goes(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reaper.DESTROYERS, "elsewhere", unreachable)
    end(start_owner(runtime, runtime / "thing"))
    (ledger,) = (runtime / "ledger").iterdir()
    there = Entry("elsewhere", "far away")
    with ledger.open("a") as file:
        file.write(json.dumps({"op": "add", "kind": there.kind, "value": there.value}) + '\n{"op": "a')
    told: list[str] = []
    swept = reaper.sweep(runtime, lambda orphan, error: told.append(f"{orphan.entry.value}: {error.message}"))
    assert [orphan.entry.kind for orphan in swept] == ["folder"]
    assert told == ["far away: cannot reach far away"]
    assert read(ledger) == (there,)
    assert reaper.sweep(runtime, lambda _orphan, _error: None) == ()
    monkeypatch.setitem(reaper.DESTROYERS, "elsewhere", lambda _value: None)
    assert [orphan.entry for orphan in reaper.sweep(runtime)] == [there]
    assert not ledger.exists()


def test_whoever_cannot_be_reached_holds_up_nobody_else(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def destroy_slowly(_value: str) -> None:
        asked.set()
        assert answered.wait(20)

    monkeypatch.setitem(reaper.DESTROYERS, "elsewhere", destroy_slowly)
    slow, quick = start_owner(runtime, runtime / "slow"), start_owner(runtime, runtime / "quick")
    for owner, kind in ((slow, "elsewhere"), (quick, "folder")):
        (ledger,) = (runtime / "ledger").glob(f"*-{owner.pid}-*")
        with ledger.open("a") as file:
            file.write(json.dumps({"op": "add", "kind": kind, "value": str(runtime / "more")}) + "\n")
    (runtime / "more").mkdir()
    watching = threading.Thread(target=reaper.main, args=(runtime,))
    watching.start()
    end(slow)
    eventually(asked.is_set, what="what cannot be reached is asked")
    end(quick)
    until_destroyed(runtime / "more")
    answered.set()
    watching.join(timeout=20)
    assert not watching.is_alive()


def test_a_ledger_tells_whether_its_owner_lives(runtime: Path) -> None:
    owner = start_owner(runtime, runtime / "thing")
    (ledger,) = (runtime / "ledger").iterdir()
    assert is_owned(ledger)
    end(owner)
    assert not is_owned(ledger)
    assert not is_owned(runtime / "ledger/none.jsonl")


def test_a_root_s_machines_are_ended_and_a_stranger_s_are_not(runtime: Path) -> None:
    (runtime / "root").mkdir()
    (runtime / "root2").mkdir()
    ours = _machine(runtime, "qemu-system-none", runtime / "root/disk")
    strangers = [
        _machine(runtime, "qemu-system-none", runtime / "root2/disk"),
        _machine(runtime, "editor", runtime / "root/disk"),
    ]
    try:
        reaper.destroy_root(str(runtime / "root"))
        assert ours.wait(timeout=10) == -signal.SIGKILL
        assert [process.poll() for process in strangers] == [None, None]
        assert not (runtime / "root").exists()
    finally:
        for process in strangers:
            process.kill()
            process.wait()


@pytest.fixture
def start(runtime: Path) -> Iterator[Callable[[str, Path], subprocess.Popen[bytes]]]:
    """Starts what has a command line of no more than a title, as setproctitle leaves it, and has a file open."""
    started: list[subprocess.Popen[bytes]] = []

    def titled(title: str, opened: Path) -> subprocess.Popen[bytes]:
        opened.parent.mkdir(parents=True, exist_ok=True)
        with opened.open("a+b") as file:
            process = subprocess.Popen([title, "600"], executable=shutil.which("sleep"), stdin=file, cwd="/")
        started.append(process)
        return _seen(process)

    yield titled
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("direct", [True, False], ids=["by its own name", "by a link"])
def test_what_hides_its_arguments_is_found_by_the_files_it_has_open(
    runtime: Path, start: Callable[[str, Path], subprocess.Popen[bytes]], *, direct: bool
) -> None:
    (runtime / "link").symlink_to(runtime)
    ours = [start(title, runtime / "r1/session/agent.log") for title in ("ray::DashboardAgent", "ray::a/b#1")]
    strangers = [
        start("ray::DashboardAgent", runtime / "r12/session/agent.log"),
        start("ray::DashboardAgent", runtime / "agent.log"),
        start("tail", runtime / "r1/session/agent.log"),
    ]
    assert all(str(runtime).encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in ours)
    reaper.destroy_ray(str((runtime if direct else runtime / "link") / "r1"))
    assert [process.wait(timeout=10) for process in ours] == [-signal.SIGKILL] * 2
    assert [process.poll() for process in strangers] == [None] * 3
    assert not (runtime / "r1").exists()


def test_what_hides_its_arguments_and_owns_something_itself_is_let_be(
    runtime: Path, start: Callable[[str, Path], subprocess.Popen[bytes]]
) -> None:
    log = runtime / "r1/session/worker.log"
    log.parent.mkdir(parents=True)
    ledger = Ledger(runtime)
    with log.open("ab") as out:
        owner = subprocess.Popen(
            ["ray::a/b#1", "600"], executable=shutil.which("sleep"), stdout=out, pass_fds=[ledger._file.fileno()]
        )
    try:
        reaper.destroy_ray(str(runtime / "r1"))
        assert owner.poll() is None
    finally:
        owner.kill()
        owner.wait()
        ledger.close()


def test_the_agents_of_a_session_stay_while_its_owner_lives(
    runtime: Path, start: Callable[[str, Path], subprocess.Popen[bytes]]
) -> None:
    agent = start("ray::RuntimeEnvAgent", runtime / "r1/session/agent.log")
    ledger = Ledger(runtime)
    ledger.add(Entry("ray-session", str(runtime / "r1")))
    assert reaper.sweep(runtime) == ()
    assert agent.poll() is None
    ledger._file.close()  # as the kernel does when it dies
    assert [orphan.entry.kind for orphan in reaper.sweep(runtime)] == ["ray-session"]
    assert agent.wait(timeout=10) == -signal.SIGKILL


def test_the_control_groups_of_a_root_go_with_it_and_a_stranger_s_stay(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "CGROUPS", runtime / "cgroup")
    # As libvirt 11.3 named them for the root /tmp/cgroot, without and with cgroup v2.
    ours = [runtime / f"cgroup/{where}machine/qemu-embed-296a6358-1-g.libvirt-qemu" for where in ("cpu/", "")]
    stranger = runtime / "cgroup/cpu/machine/qemu-embed-00000000-1-g.libvirt-qemu"
    for group in (*ours, stranger):
        (group / "emulator").mkdir(parents=True)
    reaper.destroy_root("/tmp/cgroot")
    assert [group.exists() for group in (*ours, stranger)] == [False, False, True]


def test_a_folder_of_another_user_is_refused(runtime: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(runtime, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        private_folder(runtime)


def _machine(runtime: Path, program: str, argument: Path) -> subprocess.Popen[bytes]:
    """A process that is called like a machine and names a file; it only sleeps."""
    script = runtime / program
    if not script.exists():
        script.symlink_to(sys.executable)
    return _seen(subprocess.Popen([str(script), "-c", "import time; time.sleep(600)", str(argument)]))


def _seen(process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """When its arguments can be seen: it counts as started as soon as it has no file of ours, which is before that."""
    eventually(Path(f"/proc/{process.pid}/cmdline").read_bytes, what="the process has its arguments")
    return process


def _reapers(runtime: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"runners.reaper {runtime}"], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_a_reaper_that_is_killed_is_started_again_though_nothing_new_is_made(runtime: Path, tmp_path: Path) -> None:
    """What a worker leaves that is killed after it is not left until the next guest."""
    with node_session(runtime):
        owner = start_owner(runtime, tmp_path / "made")
        until_there(runtime)
        killed = _reapers(runtime)
        assert killed
        for pid in killed:
            os.kill(int(pid), signal.SIGKILL)
        # That there is none meanwhile is not waited for: it may be over before anybody looks.
        eventually(
            lambda: set(_reapers(runtime)) - set(killed),
            what=lambda: f"there is another reaper than {killed}; there is: {_reapers(runtime)}",
        )
        until_there(runtime)
        end(owner)
        until_destroyed(tmp_path / "made")
    eventually(lambda: not reaper.is_running(runtime), what="no reaper holds the lock")


def test_nobody_starts_a_reaper_where_there_is_nothing_to_look_after(runtime: Path) -> None:
    with node_session(runtime):
        time.sleep(1.5)  # one look of who keeps it
        assert not reaper.is_running(runtime)


@pytest.mark.parametrize("session", [local_session, node_session], ids=["a local Ray", "a node"])
def test_a_session_begins_with_a_sweep(
    runtime: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    session: Callable[[Path], AbstractContextManager[object]],
) -> None:
    """Also where no reaper was there to do it: the machine was started again, or all was killed at once."""
    monkeypatch.setenv("FARM_SESSION", "")
    monkeypatch.setattr("runners.session.ensure_reaper", lambda _runtime: None)
    end(start_owner(runtime, tmp_path / "thing"))
    living = start_owner(runtime, tmp_path / "somebody's")
    try:
        with session(runtime):
            assert not (tmp_path / "thing").exists()
            assert (tmp_path / "somebody's").exists()
    finally:
        end(living)
