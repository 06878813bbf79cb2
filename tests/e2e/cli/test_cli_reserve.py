"""Guests for people, without a server: scripted ones, and a real one with a real OpenSSH client."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path
from subprocess import Popen

import pytest

from tests.e2e.cli.conftest import Ended, Farm, fake, verdict
from tests.waiting import eventually

FAKE = "debian-13/amd64/fake"
START_S = 200.0


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Somebody's SSH key."""
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", path], check=True)
    return path


def reserve(farm: Farm, key: Path, guest: str, *more: str) -> Popen[bytes]:
    """A reservation in a process of its own, as soon as its guest is there."""
    process = farm.start("reserve", guest, "--key", f"{key}.pub", *more)
    until_kept(farm, process)
    return process


def until_kept(farm: Farm, process: Popen[bytes]) -> None:
    """Wait until a command says that its guest is there for a person."""
    eventually(
        lambda: "held until" in farm.read(process, "out"),
        within_s=START_S,
        as_long_as=lambda: process.poll() is None,
        what=lambda: f"the guest is kept; the command said: {farm.read(process, 'out')}{farm.read(process, 'err')}",
    )


def ended(farm: Farm, process: Popen[bytes]) -> Ended:
    return farm.wait(process, timeout_s=60)


def test_a_reservation_without_a_server_is_extended_and_released_by_other_commands(farm: Farm, key: Path) -> None:
    process = reserve(farm, key, FAKE, "--for", "2h")
    assert farm("reservations").out.split()[6:9] == ["reserve-1", "ready", FAKE]
    before, after = (farm("extend", "reserve-1", "--for", "1h").out for _ in range(2))
    assert before.startswith("reserve-1 ends at ")
    assert before != after
    assert farm("extend", "reserve-1", "--for", "8d").status == 2
    assert farm("release", "reserve-1").out == "reserve-1 is being destroyed\n"
    end = ended(farm, process)
    assert (end.status, "reserve-1 has ended: nothing was to be tested" in end.out) == (0, True)
    assert farm("release", "reserve-1").out.startswith("reserve-1 had ended: nothing was to be tested")
    assert farm("reservations").out.split() == ["id", "state", "guest", "host", "until", "owner"]


def test_ctrl_c_ends_a_reservation(farm: Farm, key: Path) -> None:
    process = reserve(farm, key, FAKE)
    process.send_signal(signal.SIGINT)
    end = ended(farm, process)
    assert (end.status, "has ended: cancelled: the run was cancelled" in end.out) == (0, True)


def test_a_reservation_ends_with_its_time(farm: Farm, key: Path) -> None:
    end = ended(farm, reserve(farm, key, FAKE, "--for", "1s"))
    assert (end.status, "has ended: nothing was to be tested" in end.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("debian-13",), "it is no IMAGE/ARCH"),
        (("debian-13/vax", "--key", "id.pub"), "no host knows the architecture 'vax'"),
        (("debian-13/amd64", "--key", "id"), "this is a private key"),
        (("debian-13/amd64", "--key", "nothing.pub"), "cannot use the SSH key"),
        (("debian-13/amd64", "--key", "id.pub", "--for", "9d"), "for"),
        (("debian-13/amd64", "--key", "id.pub", "--with", "postgresql"), "postgresql"),
        (("debian-13/amd64", "--key", "id.pub", "--network", "fast"), "network"),
    ],
)
def test_what_cannot_be_reserved_is_refused_with_its_cause(
    farm: Farm, key: Path, arguments: tuple[str, ...], cause: str
) -> None:
    arguments = arguments if "--key" in arguments else (*arguments, "--key", "id.pub")
    end = farm("reserve", *arguments)
    assert (end.status, cause in end.err) == (2, True), end.err


@pytest.mark.parametrize("how", ["release", "time", "ctrl-c"])
def test_a_failed_guest_that_is_kept_stays_what_it_was(farm: Farm, how: str) -> None:
    matrix = farm.matrix(axes=fake(), test="exit 3\n")
    process = farm.start("run", matrix, "--hold-on-failure", "1s" if how == "time" else "1h")
    until_kept(farm, process)
    if how == "release":
        farm("release", "e2e-1/debian-13/amd64/fake")
    if how == "ctrl-c":
        process.send_signal(signal.SIGINT)
    assert ended(farm, process).status == (130 if how == "ctrl-c" else 1)
    assert verdict(farm.cells()["amd64"]) == ("failed", "test", "script-failed")


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_person_gets_into_a_reserved_guest_with_their_own_key(farm: Farm, key: Path) -> None:
    process = reserve(farm, key, "debian-13/amd64", "--package", "make", "--memory", "256M")
    (line,) = [line for line in farm.read(process, "out").splitlines() if "held until" in line]
    command = line[line.index("ssh ") :]
    assert str(farm.runtime) not in command
    words = [*shlex.split(command), "-i", str(key), "-o", "BatchMode=yes", "-F", "none"]
    script = "id -u; make --version | head -1; ls -A /work 2>/dev/null | wc -l"
    answer = subprocess.run([*words, script], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    assert [line.split()[0] for line in answer.stdout.splitlines()] == ["0", "GNU", "0"]
    another = subprocess.run(
        [part if part != str(key) else "/dev/null" for part in words] + ["-o", "IdentitiesOnly=yes", "true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Permission denied" in another.stderr
    wrong_host = [
        part.replace("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA")[:-1]
        if part.startswith("KnownHostsCommand=")
        else part
        for part in words
    ]
    strange = subprocess.run([*wrong_host, "true"], capture_output=True, text=True, timeout=60, check=False)
    assert strange.returncode == 255
    farm("release", "reserve-1")
    assert ended(farm, process).status == 0
