"""A host as its node of the cluster tells of it: labels and numbers, there and back."""

from __future__ import annotations

import pytest

from farm.executor import MEMORY, _host_of, labels_of
from farm.model import Host, Offer

HOST = Host(
    name="h",
    uri="qemu:///embed",
    vcpus=4,
    memory_mib=8192,
    offers=(Offer(hypervisor="qemu", arch="s390x", emulated=True),),
)


def told(host: Host) -> Host:
    node = {"NodeManagerHostname": host.name, "Resources": {"CPU": 4.0, MEMORY: 8192.0}, "Labels": labels_of(host)}
    return _host_of(node)


@pytest.mark.parametrize("problem", ["", "only root may"])
def test_a_node_says_whether_it_can_limit_the_cpu_of_a_guest(problem: str) -> None:
    heard = told(HOST.model_copy(update={"cpu_limit_problem": problem}))
    assert bool(heard.cpu_limit_problem) == bool(problem)
    assert heard.offers == HOST.offers
    assert (heard.vcpus, heard.memory_mib) == (HOST.vcpus, HOST.memory_mib)
