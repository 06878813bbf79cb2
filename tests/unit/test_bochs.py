"""Bochs without Bochs: what it is told, what becomes of its screen, and what is destroyed when its owner is dead."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runners.bochs import settings
from runners.bochs.process import Process, free_port
from runners.bochs.screen import watch
from runners.bochs.settings import Machine, command_line, files
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.reaper import destroy_bochs

LISTENS = """\
import pathlib, re, socket, sys, time
rule = (pathlib.Path(sys.argv[3]).parent / "slirp.conf").read_text()
server = socket.create_server(("127.0.0.1", int(re.search(r"127.0.0.1:(\\d+)-", rule)[1])))
time.sleep(600)
"""


def machine(folder: Path, **changes: object) -> Machine:
    values = {"cpu": "ryzen", "memory_mib": 384, "network": "isolated", "port": 40022}
    return Machine(folder, **(values | changes))  # type: ignore[arg-type]


def test_a_machine_is_told_its_cpu_its_memory_and_its_files(tmp_path: Path) -> None:
    told = files(machine(tmp_path))["bochsrc"]
    assert "cpu: model=ryzen, count=1," in told
    assert "memory: guest=384, host=384" in told
    for part in ("disk", "seed", "boot.iso", "console.log", "slirp.conf"):
        assert str(tmp_path / part) in told


@pytest.mark.parametrize(("network", "restricted"), [("isolated", "1"), ("open", "0")])
def test_only_ssh_comes_in_and_nothing_goes_out_unless_it_is_asked_for(
    tmp_path: Path, network: str, restricted: str
) -> None:
    told = files(machine(tmp_path, network=network))["slirp.conf"]
    assert told.startswith("# slirp config\n")  # Bochs reads no file without it
    assert f"\nrestricted = {restricted}\n" in told
    assert re.findall(r"hostfwd = (.*)", told) == ["tcp:127.0.0.1:40022-10.0.2.15:22"]


def test_nobody_can_connect_to_the_screen(tmp_path: Path) -> None:
    assert re.findall(r"display_library: (.*)", files(machine(tmp_path))["bochsrc"]) == ["term"]


def test_the_kernel_is_told_what_the_machine_is() -> None:
    assert command_line("console=ttyS0") == "console=ttyS0 farm_bus=pc reboot=triple clearcpuid=515,321,323"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something that is called like Bochs and listens as it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "bochs-bin"
    path.write_text(f"#!{sys.executable}\n{LISTENS}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return path


def started(folder: Path, port: int) -> Process:
    folder.mkdir(exist_ok=True)
    made = machine(folder, port=port)
    for name, text in files(made).items():
        (folder / name).write_text(text)
    return Process(made)


@pytest.mark.usefixtures("program")
def test_a_port_counts_only_when_the_process_itself_has_it(tmp_path: Path) -> None:
    port = free_port()
    first = started(tmp_path / "first", port)
    try:
        assert wait_for(first.wait_until_listening(Deadline.after(60, "wait")))
        second = started(tmp_path / "second", port)
        second_machine = tmp_path / "second"
        (second_machine / "console.log").touch()  # it goes on without the port
        assert not second._has_port()
        second.kill()
    finally:
        first.kill()
    assert not first.runs


def test_the_screen_is_read_so_that_its_writer_never_waits(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    output = tmp_path / "output"
    output.write_text(f'\nBochs connected to screen "{os.ttyname(theirs)}"\n')
    watch(output, lambda: True)
    until = time.monotonic() + 60
    written = 0
    os.set_blocking(ours, False)
    while written < 256 * 1024 and time.monotonic() < until:
        try:
            written += os.write(ours, b"x" * 1024)
        except BlockingIOError:
            time.sleep(0.001)
    os.close(theirs)
    os.close(ours)
    assert written >= 256 * 1024


def sleeping(named: Path) -> subprocess.Popen[bytes]:
    """A process that is called like Bochs and names a file."""
    command = ["bochs-bin", "-c", "import time; time.sleep(600)", str(named)]
    return subprocess.Popen(command, executable=sys.executable)


def test_what_a_dead_owner_left_is_destroyed(tmp_path: Path) -> None:
    folder = tmp_path / "b1"
    folder.mkdir()
    left, other = sleeping(folder / "bochsrc"), sleeping(tmp_path / "b2" / "bochsrc")
    try:
        destroy_bochs(str(folder))
        assert left.wait(timeout=60) != 0
        assert not folder.exists()
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_the_files_that_are_needed_are_those_of_the_packages() -> None:
    assert {path.parent for path in (settings.BIOS, settings.VIDEO_BIOS)} == {Path("/usr/share/bochs")}
