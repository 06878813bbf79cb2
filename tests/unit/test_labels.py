"""A host as its node of the cluster tells of it: labels and numbers, there and back."""

from __future__ import annotations

import pytest

from farm.labels import MEMORY, host_of, labels_of, selector
from farm.model import Host, Offer
from tests.orders import make_order

HOST = Host(
    name="h",
    uri="qemu:///embed",
    vcpus=4,
    memory_mib=8192,
    offers=(Offer(hypervisor="qemu", arch="s390x", emulated=True),),
)


def told(host: Host) -> Host:
    node = {"NodeManagerHostname": host.name, "Resources": {"CPU": 4.0, MEMORY: 8192.0}, "Labels": labels_of(host)}
    return host_of(node)


@pytest.mark.parametrize("problem", ["", "only root may"])
def test_a_node_says_whether_it_can_limit_the_cpu_of_a_guest(problem: str) -> None:
    heard = told(HOST.model_copy(update={"cpu_limit_problem": problem}))
    assert bool(heard.cpu_limit_problem) == bool(problem)
    assert heard.offers == HOST.offers
    assert (heard.vcpus, heard.memory_mib) == (HOST.vcpus, HOST.memory_mib)


def test_a_host_keeps_its_own_name_and_labels_whatever_its_machine_is_called() -> None:
    named = HOST.model_copy(update={"name": "xen1", "labels": {"rack": "b2"}})
    node = {"NodeManagerHostname": "gateway", "Resources": {"CPU": 4.0, MEMORY: 8192.0}, "Labels": labels_of(named)}
    assert (host_of(node).name, host_of(node).labels) == ("xen1", {"rack": "b2"})


def test_an_order_says_where_it_must_not_go() -> None:
    order = make_order("true", hypervisor="qemu", arch="s390x")
    offer = {"farm-offer.qemu.s390x": "in(native,emulated,scripted)"}
    assert selector(order, ()) == offer
    assert selector(order, ["b", "a b"]) == offer | {"farm-host": "!in(a-b,b)"}


def test_an_order_says_where_alone_it_may_go() -> None:
    order = make_order("true", hypervisor="qemu", arch="s390x", only=("a", "b c"))
    assert selector(order, ())["farm-host"] == "in(a,b-c)"
    assert selector(order, ["a"])["farm-host"] == "in(b-c)"
    assert selector(order, ["a", "b c"])["farm-host"] == "in(0.no.host)"
