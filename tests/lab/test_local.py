"""Guests of `qemu:///system`, a libvirtd of this machine: the tests that every backend has to pass.

They run in namespaces, where a test of this file starts a pytest of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.model import GuestSpec, ImageSpec
from runners.guest import load_backend
from tests.contract.test_guests import Backend
from tests.lab.local import beside_it, missing
from tests.orders import make_order

_INSIDE = "FARM_TEST_INSIDE"
_LONGEST_S = 1500

if _INSIDE in os.environ:
    from tests.contract.test_guests import (  # noqa: F401 - tests that run here too
        test_a_cancel_in_any_phase_leaves_nothing,
        test_a_crash_under_the_test_is_seen_on_the_console,
        test_a_flood_is_bounded,
        test_a_script_that_never_ends_is_ended,
        test_an_attempt_says_what_its_guest_is_and_takes_the_phases_in_order,
        test_output_and_status_of_a_script_come_back,
        test_the_source_is_there_and_what_the_globs_mean_comes_back,
    )

    @pytest.fixture
    def backend() -> Iterator[Backend]:
        yield {
            "hypervisor": "qemu",
            "image": ImageSpec(name="debian-13", arch="amd64"),
            "guest": GuestSpec.model_validate({"memory": 384, "network": "bridge"}),
        }
        domains = subprocess.run(
            ["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert domains.stdout.split() == []
        assert list(Path("/var/lib/farm/guests").glob("*/*")) == []

    def test_a_person_here_gets_in_without_another_machine_between(backend: Backend) -> None:
        from runners.deadline import Deadline  # noqa: PLC0415
        from runners.guest import wait_for  # noqa: PLC0415

        order = make_order("true\n", **backend)
        guest = wait_for(load_backend("qemu").create(order, Deadline.after(300, "make a guest")))
        try:
            wait_for(guest.boot(Deadline.after(300, "boot a guest")))
            wait_for(guest.connect(Deadline.after(120, "connect to a guest"))).close()
            assert "ProxyCommand" not in guest.access()
            command = ["/bin/sh", "-c", f"{guest.access()} hostname"]
            told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert told.stdout == "debian-13-amd64\n", told.stderr
        finally:
            guest.destroy()

else:

    @pytest.mark.skipif(bool(missing()), reason=missing())
    def test_all_of_them_pass_beside_a_libvirtd_of_this_machine() -> None:
        command = beside_it(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__)
        ended = subprocess.run(
            command,
            cwd=Path(__file__).parents[2],
            env=os.environ | {_INSIDE: "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
        print(ended.stdout)
        assert ended.returncode == 0, ended.stderr
        passed = re.search(r"(\d+) passed", ended.stdout)
        assert passed
        assert int(passed[1]) >= 12
