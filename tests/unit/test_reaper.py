"""The ledger and the reaper, with real processes and locks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from farm.errors import ConfigError
from runners import reaper
from runners.ledger import Entry, Ledger, private_folder, read

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


def wait_until(what: Callable[[], bool], *, within_s: float = 20) -> None:
    until = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


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
    wait_until(lambda: not (runtime / "thing").exists())
    wait_until(lambda: not _reapers(runtime))


def test_only_one_reaper_runs_for_a_folder(runtime: Path) -> None:
    owner = start_owner(runtime, runtime / "thing")
    reaper.ensure_reaper(runtime)
    wait_until(lambda: reaper.is_running(runtime))
    reaper.ensure_reaper(runtime)
    assert len(_reapers(runtime)) == 1
    end(owner)
    wait_until(lambda: not _reapers(runtime))


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
    return subprocess.Popen([str(script), "-c", "import time; time.sleep(600)", str(argument)])


def _reapers(runtime: Path) -> list[str]:
    found = subprocess.run(["pgrep", "-f", f"runners.reaper {runtime}"], capture_output=True, text=True, check=False)
    return found.stdout.split()
