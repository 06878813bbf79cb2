"""A run on a cluster that is there already: a head started by `farm host start`, joined by `--ray-address`."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.processes import processes
from tests.e2e.cli.conftest import Farm, fake
from tests.waiting import eventually


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def cluster(farm: Farm) -> Iterator[str]:
    """The address of one with a single host."""
    address = f"127.0.0.1:{free_port()}"
    node = farm.start("host", "start", "--port", address.rpartition(":")[2])
    try:
        eventually(
            lambda: farm("hosts", "--ray-address", address, timeout_s=60).status == 0,
            within_s=90,
            as_long_as=lambda: node.poll() is None,
            what=lambda: f"the cluster has hosts; its node said: {farm.read(node, 'out')}{farm.read(node, 'err')}",
        )
        yield address
        assert node.poll() is None
    finally:
        node.terminate()
        node.wait(30)


def test_a_run_joins_a_cluster_and_leaves_it_running(farm: Farm, cluster: str) -> None:
    for _ in range(2):
        ended = farm("run", farm.matrix(axes=fake(n=[1, 2, 3])), "--ray-address", cluster)
        assert ended.status == 0, ended.err
    assert "qemu" in farm("hosts", "--ray-address", cluster).out


def test_a_worker_that_stands_still_is_killed_on_its_host_when_its_cell_is_cancelled(farm: Farm, cluster: str) -> None:
    matrix = farm.matrix(axes=fake(), test="echo under way\nsleep 600\n")
    running = farm.start("run", matrix, "--ray-address", cluster)
    eventually(lambda: farm.logs(b"under way"), what="the test is under way")
    (worker,) = (one.pid for one in processes(farm.runtime) if "ray::e2e-1/" in one.words)
    os.kill(worker, signal.SIGSTOP)
    running.send_signal(signal.SIGINT)
    assert farm.wait(running, timeout_s=30).status == 130
    assert not Path(f"/proc/{worker}").exists()
