"""Ctrl-C, and death by SIGKILL: of the program, of a worker, of a guest's machine. Nothing may be left."""

from __future__ import annotations

import os
import signal
import time
from subprocess import Popen

import pytest

from runners.ledger import read
from tests.e2e.cli.conftest import GONE_S, PACKAGES, Farm, fake, real, verdict
from tests.waiting import eventually

GUEST = {"memory": 384, "packages": PACKAGES}
STARTED_S = 120
CANCELLED_S = 30
CANCEL_S = 5.0
"""By when the guests of what was cancelled are gone."""
SLEEP = "echo under way\nsleep 600\n"
SLEEP_ONCE = 'test "$FARM_ATTEMPT" != 1 && exit 0\necho under way\nsleep 600\n'


def until_under_way(farm: Farm, running: Popen[bytes], tests: int) -> None:
    """Wait until so many tests have begun."""
    eventually(
        lambda: farm.logs(b"under way") == tests,
        within_s=STARTED_S,
        as_long_as=lambda: running.poll() is None,
        what=lambda: f"{tests} under way; the command said: {farm.read(running, 'out')}{farm.read(running, 'err')}",
    )


def check_cancelled(farm: Farm, cells: int) -> None:
    (line,) = (line for line in farm("runs").out.splitlines() if line.startswith("e2e-1"))
    assert "cancelled" in line
    assert f"{cells} cancelled" in line
    assert farm.report()["run"]["cancelled"] is True
    assert farm.report()["run"]["exit_code"] == 130


@pytest.mark.guest
def test_ctrl_c_destroys_the_guest_and_records_the_run_as_cancelled(farm: Farm) -> None:
    running = farm.start("run", farm.matrix(axes=real(), guest=GUEST, test=SLEEP))
    until_under_way(farm, running, 1)
    assert farm.processes("qemu-system-")
    running.send_signal(signal.SIGINT)
    ended = farm.wait(running, timeout_s=CANCELLED_S)
    assert ended.status == 130, ended.err
    assert "cancelling" in ended.err
    assert not farm.processes("qemu-system-")
    check_cancelled(farm, 1)


@pytest.mark.guest
def test_the_guest_of_a_worker_that_stands_still_is_gone_soon_after_a_cancel(farm: Farm) -> None:
    """A worker that does not hear of the cancel is killed, and then its guest is the reaper's."""
    running = farm.start("run", farm.matrix(axes=real(), guest=GUEST, test=SLEEP))
    eventually(lambda: farm.logs(b"under way"), within_s=STARTED_S, what="the test is under way")
    (worker,) = guest_owners(farm).keys() - {running.pid}
    os.kill(worker, signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    eventually(lambda: not farm.processes("qemu-system-"), within_s=CANCELLED_S, what="the guest is gone")
    took_s = time.monotonic() - began
    assert farm.wait(running, timeout_s=CANCELLED_S).status == 130
    assert took_s < CANCEL_S
    check_cancelled(farm, 1)


def test_ctrl_c_cancels_cells_that_wait_for_their_turn(farm: Farm) -> None:
    matrix = farm.matrix(axes=fake(n=list(range(20))), test=SLEEP, max_parallel=2)
    running = farm.start("run", matrix)
    until_under_way(farm, running, 2)
    running.send_signal(signal.SIGINT)
    assert farm.wait(running, timeout_s=CANCELLED_S).status == 130
    assert farm.logs(b"under way") == 2
    check_cancelled(farm, 20)
    assert sorted(len(cell["attempts"]) for cell in farm.report()["cells"]) == [0] * 18 + [1] * 2


@pytest.mark.guest
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_told_twice_it_leaves_at_once_and_its_guests_and_its_ray_are_destroyed(farm: Farm, how: signal.Signals) -> None:
    running = farm.start("run", farm.matrix(axes=real(), guest=GUEST, test=SLEEP))
    eventually(lambda: farm.logs(b"under way"), within_s=STARTED_S, what="the test is under way")
    running.send_signal(how)
    eventually(lambda: "cancelling" in farm.read(running, "err"), what="it has heard the first signal")
    running.send_signal(how)
    ended = farm.wait(running, timeout_s=CANCELLED_S)
    assert ended.status == 128 + how
    assert "leaving at once: the reaper destroys the guests" in ended.err
    eventually(lambda: not farm.left_behind(), within_s=GONE_S, what="all is gone")


@pytest.mark.guest
def test_when_the_program_is_killed_its_guests_and_its_ray_are_destroyed(farm: Farm) -> None:
    running = farm.start("run", farm.matrix(axes=real(), guest=GUEST, test=SLEEP))
    until_under_way(farm, running, 1)
    assert farm.processes("qemu-system-")
    assert farm.processes("raylet")
    running.kill()
    killed = time.monotonic()
    running.wait()
    eventually(
        lambda: not farm.left_behind(),
        within_s=GONE_S,
        what=lambda: f"all is gone; there is: {farm.left_behind()}",
    )
    assert time.monotonic() - killed < GONE_S + 1


@pytest.mark.guest
def test_a_killed_worker_and_a_killed_machine_are_lost_and_tried_again(farm: Farm) -> None:
    running = farm.start("run", farm.matrix(axes=real(case=["a", "b"]), guest=GUEST, test=SLEEP_ONCE))
    until_under_way(farm, running, 2)
    roots = {pid: root for pid, root in guest_owners(farm).items() if pid != running.pid}
    (worker, _), (_, other_root) = roots.items()
    (machine,) = farm.processes("qemu-system-", other_root)
    os.kill(worker, signal.SIGKILL)
    os.kill(machine, signal.SIGKILL)
    ended = farm.wait(running, timeout_s=STARTED_S)
    assert ended.status == 0, ended.out
    first, second = zip(*(cell["attempts"] for cell in farm.cells().values()), strict=True)
    assert sorted(map(verdict, first)) == [("error", "infra", "attempt-lost"), ("error", "infra", "connection-lost")]
    assert {verdict(attempt) for attempt in second} == {("passed", None, "passed")}


def guest_owners(farm: Farm) -> dict[int, str]:
    """The libvirt roots by the process that owns each; a ledger's name is SESSION-PID-RANDOM."""
    return {
        int(path.stem.split("-")[1]): entry.value
        for path in farm.ledgers()
        for entry in read(path)
        if entry.kind == "libvirt-root"
    }
