"""The networks of guests: what libvirt and nftables are told, and what is read out of what a host says."""

from __future__ import annotations

import shutil
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from farm.errors import HostError
from runners.deadline import Deadline
from runners.hosts.address import latest, neighbour
from runners.hosts.command import CommandError
from runners.hosts.firewall import guard, host_rules, port_rules
from runners.hosts.link import LocalLink
from runners.hosts.network import NETWORKS, Attachment, free_subnet, interface, network_xml, new_mac

GOLDEN = Path(__file__).parents[1] / "data/hosts"
ROUTES = """\
default via 192.168.1.1 dev eth0 proto dhcp
10.213.0.0/24 dev docker0 proto kernel scope link src 10.213.0.1
unreachable 10.213.16.0/20
local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1
broadcast 192.168.1.255 dev eth0 table local proto kernel scope link src 192.168.1.7
192.168.1.7 dev eth0 scope link
"""


@pytest.fixture(
    params=["network-open.xml", "network-isolated.xml", "host-rules.nft", "port-rules.nft", "interface.xml"]
)
def made(request: pytest.FixtureRequest) -> tuple[str, str]:
    subnet = IPv4Network("10.213.0.0/20")
    bridges = [NETWORKS["open"].name], [NETWORKS["isolated"].name]
    card = interface(Attachment("farm-nat", "farm-nat"), "52:54:00:00:00:01", bytes_per_s=10 * 1024 * 1024)
    ET.indent(card)
    makers = {
        "network-open.xml": lambda: network_xml(NETWORKS["open"], subnet),
        "network-isolated.xml": lambda: network_xml(NETWORKS["isolated"], subnet),
        "host-rules.nft": lambda: host_rules(*bridges),
        "port-rules.nft": lambda: port_rules([*bridges[0], *bridges[1]]),
        "interface.xml": lambda: ET.tostring(card, encoding="unicode"),
    }
    return request.param, makers[request.param]()


def test_it_is_as_it_was(made: tuple[str, str]) -> None:
    name, text = made
    assert text == (GOLDEN / name).read_text().removesuffix("\n" if name.endswith("xml") else "")


@pytest.mark.parametrize("name", ["network-open.xml", "network-isolated.xml"])
def test_libvirt_takes_it_for_a_network(name: str) -> None:
    assert shutil.which("virt-xml-validate"), "make setup-tests installs libvirt-clients"
    said = subprocess.run(
        ["virt-xml-validate", str(GOLDEN / name), "network"], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr


def test_a_card_without_a_limit_on_a_bridge_of_the_hosts_own() -> None:
    card = interface(Attachment("br0"), "52:54:00:00:00:01")
    assert ET.tostring(card, encoding="unicode") == (
        '<interface type="bridge"><mac address="52:54:00:00:00:01" /><source bridge="br0" /></interface>'
    )


def test_names_of_networks_are_names_of_bridges() -> None:
    assert all(len(network.name) <= 15 for network in NETWORKS.values())


def test_cards_have_addresses_of_their_own() -> None:
    made = {new_mac() for _ in range(1000)}
    assert len(made) == 1000
    assert all(mac.startswith("52:54:") and len(mac) == 17 for mac in made)


def test_a_subnet_is_one_that_no_route_leads_to() -> None:
    assert free_subnet("") == IPv4Network("10.213.0.0/20")
    assert free_subnet(ROUTES) == IPv4Network("10.213.32.0/20")
    assert free_subnet(ROUTES, [IPv4Network("10.213.32.0/24")]) == IPv4Network("10.213.48.0/20")
    assert free_subnet("10.0.0.0/8 dev tun0") == IPv4Network("172.30.0.0/20")


def test_where_there_is_none_it_is_said() -> None:
    with pytest.raises(HostError, match="routes lead to all of") as caught:
        free_subnet("10.0.0.0/8 dev tun0\n172.16.0.0/12 dev tun0")
    assert "network: bridge" in caught.value.hint


def test_of_several_leases_the_last_counts() -> None:
    leases = [
        {"type": 0, "ipaddr": "10.213.0.5", "expirytime": 100},
        {"type": 0, "ipaddr": "10.213.0.9", "expirytime": 300},
        {"type": 1, "ipaddr": "fd00::1", "expirytime": 900},
    ]
    assert latest(leases) == "10.213.0.9"
    assert latest([]) == ""


def test_a_neighbour_that_answers_counts() -> None:
    said = """[{"dst":"10.0.0.7","lladdr":"52:54:00:00:00:01","state":["FAILED"]},
        {"dst":"10.0.0.8","lladdr":"52:54:00:00:00:01","state":["STALE"]},
        {"dst":"10.0.0.9","state":["INCOMPLETE"]}]"""
    assert neighbour(said, "52:54:00:00:00:01") == "10.0.0.8"
    assert neighbour(said, "52:54:00:00:00:02") == ""
    assert neighbour("", "52:54:00:00:00:01") == ""


class Refusing(LocalLink):
    """A host on which nft says something."""

    def __init__(self, said: str) -> None:
        self._said = said

    def run(self, *_asked: Any, **_more: Any) -> bytes:
        raise CommandError("cannot", status=1, said=self._said)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("/bin/sh: 2: nft: not found", "install the package nftables there"),
        ("Error: Could not process rule: Operation not permitted", "the farm has to be root there"),
        ("Error: Could not process rule: Operation not supported\n\tmeta ibrname", "its kernel lacks nft_meta_bridge"),
        ("Error: syntax error", "nft list ruleset"),
    ],
)
def test_a_host_that_cannot_filter_is_refused_with_what_to_do(said: str, hint: str) -> None:
    with pytest.raises(HostError, match="cannot keep guests apart from this machine, and from each other: ") as caught:
        guard(Refusing(said), ["a"], ["b"], deadline=Deadline.after(10, "try"))
    assert hint in caught.value.hint
    assert said in caught.value.message
