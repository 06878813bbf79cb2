"""What an attempt's guest uses, and what it may: measured on real guests, always one against another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farm.config import load_settings
from farm.model import AttemptEnded, Ending, Event, GuestSpec, Heartbeat, Phase, PhaseEnded, PhaseStarted, Usage
from runners.attempt import run_attempt
from runners.libvirt import quota
from tests.contract.test_guests import BACKENDS, attempt, endings, evidence, log
from tests.orders import make_order, make_source

QEMU = {"hypervisor": "qemu"}
IDLE = "sleep 1\n"
COUNT = "i=0; while [ $i -lt 50000 ]; do i=$((i + 1)); done\n"
BUSY = "i=0; while [ $i -lt 150000 ]; do i=$((i + 1)); done\n"
WRITTEN = 16 * 1024 * 1024
WRITE = "dd if=/dev/zero of=/root/file bs=1M count=16 2>/dev/null; sync\n"
LIMITED = """
import sys
from tests.contract.test_usage import life
print(life(sys.argv[1], {"cpu": "20%"}))
"""


def usage(events: list[Event]) -> Usage:
    last = events[-1]
    assert isinstance(last, AttemptEnded)
    assert last.usage
    return last.usage


def seconds(events: list[Event], *phases: Phase) -> float:
    return sum(e.duration_s for e in events if isinstance(e, PhaseEnded) and e.phase in phases)


def limited(test: str, **limits: Any) -> list[Event]:
    return attempt(QEMU, test, guest=GuestSpec.model_validate({"memory": 384, **limits}))


def life(test: str, limits: dict[str, Any]) -> str:
    """For a process of its own: how much of a CPU the machine of an attempt took while it lived, as JSON."""
    events = limited(test, **limits)
    lived_s = seconds(events, Phase.BOOT, Phase.CONNECT, Phase.UPLOAD, Phase.TEST)
    failure = evidence(events).failure
    return json.dumps([failure.message if failure else "", (usage(events).cpu_s or 0) / lived_s])


def life_elsewhere(test: str) -> tuple[str, float]:
    """The same of a guest that may take a fifth of a CPU."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, test],
        env={**os.environ, "FARM_CGROUPS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    message, share = json.loads(done.stdout)
    return message, share


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_attempt_ends_with_what_its_guest_has_used(backend: dict[str, str]) -> None:
    assert usage(attempt(backend, "true\n")).cpu_s is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_known_of_a_guest_that_crashes_is_kept(backend: dict[str, str]) -> None:
    events = attempt(backend, "echo c > /proc/sysrq-trigger\nsleep 60\n")
    assert endings(events)[Phase.TEST] is Ending.LOST
    assert usage(events).cpu_s is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_a_guest_has_used_is_told_before_it_is_over(backend: dict[str, str]) -> None:
    running = run_attempt(make_order("sleep 600\n", **backend), make_source())
    assert any(isinstance(event, PhaseStarted) and event.phase is Phase.TEST for event in running)
    assert any(isinstance(event, Heartbeat) and event.usage for event in running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt())
        list(running)


@pytest.mark.guest
def test_a_guest_has_the_processors_and_the_memory_that_were_asked_for() -> None:
    events = limited("nproc; sed -n 's/MemTotal: *//p' /proc/meminfo\n", vcpus=2, memory=384)
    processors, memory_kib, unit = log(events, Phase.TEST).split()
    assert (int(processors), unit) == (2, b"kB")
    assert 0.75 * 384 < int(memory_kib) / 1024 <= 384  # its kernel keeps some to itself


@pytest.mark.guest
def test_a_busy_guest_uses_more_than_an_idle_one() -> None:
    idle, busy, writing = (usage(attempt(QEMU, script)) for script in (IDLE, BUSY, WRITE))
    assert idle.cpu_s
    assert busy.cpu_s
    assert busy.cpu_s > 2 * idle.cpu_s > 0
    assert idle.disk_written_bytes is not None
    assert writing.disk_written_bytes
    assert writing.disk_written_bytes - idle.disk_written_bytes >= WRITTEN
    assert idle.memory_peak_mib
    assert writing.memory_peak_mib
    assert 0 < idle.memory_peak_mib < writing.memory_peak_mib
    assert idle.network_received_bytes
    assert idle.network_sent_bytes


@pytest.mark.guest
def test_what_comes_over_the_network_is_counted() -> None:
    small, large = make_source(), make_source({"large": os.urandom(4 * 1024 * 1024)})
    less, more = (usage(attempt(QEMU, "true\n", source=source)).network_received_bytes for source in (small, large))
    assert less
    assert more
    assert more - less > 4 * 1024 * 1024


@pytest.mark.guest
def test_a_limit_of_the_disk_is_kept() -> None:
    rate = 2 * 1024 * 1024
    free, held = limited(WRITE), limited(WRITE, **{"disk-bandwidth": rate})
    assert (usage(held).disk_written_bytes or 0) >= WRITTEN
    assert WRITTEN / seconds(held, Phase.TEST) < 1.2 * rate
    assert seconds(held, Phase.TEST) > 2 * seconds(free, Phase.TEST)


@pytest.mark.guest
def test_a_limit_of_the_cpu_is_kept_or_refused() -> None:
    message, held = life_elsewhere(COUNT)
    if quota.problem(load_settings()):
        assert "cannot" in message
        return
    _, free = json.loads(life(COUNT, {}))
    assert message == ""
    assert held < 0.2 * 1.1
    assert free > held


@pytest.mark.guest
def test_a_limit_that_this_process_cannot_keep_is_not_ignored() -> None:
    events = list(run_attempt(make_order("true\n", guest=GuestSpec.model_validate({"cpu": "50%"}), **QEMU), b""))
    failure = evidence(events).failure
    assert failure
    assert (failure.phase, failure.error) == (Phase.PROVISION, "HypervisorError")
    assert "cannot limit the CPU of the guest" in failure.message
