"""A node's `ray start`, played by a shell: it ends with us, and we with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import ConfigError, HostError
from farm.model import Host, Offer
from farm.node import check_head, ray_command, run_node
from tests.unit.test_images_process import has_ended
from tests.waiting import eventually

PARENT = """
import sys
from farm.errors import HostError
from farm.node import run_node
run_node(["sh", "-c", sys.argv[1]], {"PATH": "/usr/bin:/bin", "RAY_AUTH_MODE": "disabled"})
"""


def started(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PARENT, script])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_node_gently_and_then_us(tmp_path: Path, number: signal.Signals) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    node = started(f"trap 'echo down > {down}; exit 0' TERM; echo $$ > {up}; while :; do sleep 0.1; done")
    eventually(
        lambda: up.exists() and up.read_text().strip(),
        as_long_as=lambda: node.poll() is None,
        what="the node runs",
    )
    node.send_signal(number)
    assert node.wait(60) == 0
    assert down.read_text().strip() == "down"


def test_a_node_that_ends_by_itself_is_told_with_its_last_words() -> None:
    with pytest.raises(HostError, match="ended with 3: no head there"):
        run_node(["sh", "-c", "echo much; echo first >&2; echo no head there >&2; exit 3"], os.environ)


def test_nothing_is_left_of_a_node_that_ends_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(HostError, match="Ray has ended with 3"):
        run_node(["sh", "-c", f"sleep 600 & echo $! > {file}; exit 3"], os.environ)
    assert has_ended(int(file.read_text()))


def test_the_environment_goes_before_the_tokens_of_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="token disabled"):
        run_node(["sh", "-c", "echo token $RAY_AUTH_MODE >&2"], dict(os.environ) | {"RAY_AUTH_MODE": "disabled"})
    plain = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
    with pytest.raises(HostError, match="token token"):
        run_node(["sh", "-c", "echo token $RAY_AUTH_MODE >&2"], plain)


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(HostError, match="cannot start /no/ray: No such file"):
        run_node(["/no/ray"], {})


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:port"])
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(ConfigError, match="it is no address"):
        check_head(address)


def test_a_head_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(HostError, match=r"cannot join the cluster at .*refused"):
            check_head(f"127.0.0.1:{free.getsockname()[1]}")


def test_a_node_has_the_numbers_and_labels_of_its_host() -> None:
    host = Host(
        name="xen1",
        uri="xen:///system",
        vcpus=28,
        memory_mib=98304,
        offers=(Offer(hypervisor="xen-pvh", arch="amd64", emulated=False),),
        labels={"rack": "b2"},
    )
    command = ray_command(host, address="10.0.0.1:6379", port=6379, bind="10.0.0.11")
    assert command[1:3] == ["start", "--block"]
    assert {"--address=10.0.0.1:6379", "--node-ip-address=10.0.0.11", "--num-cpus=28"} <= set(command)
    assert '--resources={"guest_memory_mib": 98304}' in command
    labels = next(word for word in command if word.startswith("--labels=")).removeprefix("--labels=").split(",")
    assert set(labels) == {"farm-offer.xen-pvh.amd64=native", "farm-label.rack=b2", "farm-host=xen1"}
