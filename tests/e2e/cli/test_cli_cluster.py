"""A run on a cluster that is there already: a head started by `farm host start`, joined by `--ray-address`."""

from __future__ import annotations

import socket

from tests.e2e.cli.conftest import Farm, fake
from tests.waiting import eventually


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_run_joins_a_cluster_and_leaves_it_running(farm: Farm) -> None:
    address = f"127.0.0.1:{free_port()}"
    node = farm.start("host", "start", "--port", address.rpartition(":")[2])
    try:
        eventually(
            lambda: farm("hosts", "--ray-address", address, timeout_s=60).status == 0,
            within_s=90,
            as_long_as=lambda: node.poll() is None,
            what=lambda: f"the cluster has hosts; its node said: {farm.read(node, 'out')}{farm.read(node, 'err')}",
        )
        for _ in range(2):
            ended = farm("run", farm.matrix(axes=fake(n=[1, 2, 3])), "--ray-address", address)
            assert ended.status == 0, ended.err
        assert "qemu" in farm("hosts", "--ray-address", address).out
        assert node.poll() is None
    finally:
        node.terminate()
        node.wait(30)
