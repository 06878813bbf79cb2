"""Bochs itself: a guest whose owner is killed is destroyed by the reaper."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.orders import make_order
from tests.waiting import eventually

PROGRAM = """
import sys
from farm.model import Order
from runners.deadline import Deadline
from runners.guest import load_backend, wait_for
order = Order.model_validate_json(sys.argv[1])
guest = wait_for(load_backend("bochs").create(order, Deadline.after(600, "make a guest")))
for _ in guest.boot(Deadline.after(600, "boot the guest")):
    if guest._process and guest._process.runs:
        print(guest._process._child.pid, guest._machine.folder, flush=True)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.guest
@pytest.mark.timeout(900)
def test_a_guest_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    runtime = Path(f"/tmp/fb-{os.getpid()}")
    order = json.dumps(make_order("true\n", hypervisor="bochs").model_dump(mode="json", by_alias=True))
    owner = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, order],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "FARM_RUNTIME": str(runtime), "FARM_STATE": str(tmp_path)},
    )
    assert owner.stdout
    pid, folder = owner.stdout.readline().split()
    assert is_alive(int(pid))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    eventually(lambda: not is_alive(int(pid)), what="the guest's machine has ended")
    eventually(lambda: not Path(folder).exists(), what=f"{folder} is gone")
    shutil.rmtree(runtime, ignore_errors=True)
