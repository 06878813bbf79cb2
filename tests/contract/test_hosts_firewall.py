"""What guests reach, shown by packets: network namespaces stand for the host, its guests, and what is outside."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from runners.hosts.firewall import host_rules, port_rules
from runners.hosts.network import NETWORKS
from tests import reach

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")

OPEN, ISOLATED = NETWORKS["open"].name, NETWORKS["isolated"].name
GATEWAYS = {OPEN: "10.213.0.1", ISOLATED: "10.213.16.1"}
GUESTS = {
    "a1": (OPEN, "10.213.0.2"),
    "a2": (OPEN, "10.213.0.3"),
    "i1": (ISOLATED, "10.213.16.2"),
    "i2": (ISOLATED, "10.213.16.3"),
}
HOST, OUTSIDE = "192.0.2.1", "192.0.2.2"
SSH, DNS, DHCP, WEB = 22, 53, 67, 80


class Bench:
    """The namespaces: `host`, `outside`, and one for each guest."""

    def __init__(self) -> None:
        self._tag = f"farm-{secrets.token_hex(3)}"

    def name(self, place: str) -> str:
        return f"{self._tag}-{place}"

    def run(self, place: str, *argv: str, stdin: str = "") -> str:
        ended = subprocess.run(
            ["ip", "netns", "exec", self.name(place), *argv], input=stdin, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (argv, ended.stderr)
        return ended.stdout

    @contextmanager
    def built(self) -> Iterator[Bench]:
        places = ("host", "outside", *GUESTS)
        try:
            for place in places:
                subprocess.run(["ip", "netns", "add", self.name(place)], check=True)
                self.run(place, "ip", "link", "set", "lo", "up")
            self.run("host", "sysctl", "-qw", "net.ipv4.ip_forward=1")
            self._connect("outside", OUTSIDE, 24, HOST)
            self.run("host", "ip", "address", "add", f"{HOST}/24", "dev", "outside")
            for bridge, gateway in GATEWAYS.items():
                self.run("host", "ip", "link", "add", bridge, "type", "bridge")
                self.run("host", "ip", "address", "add", f"{gateway}/20", "dev", bridge)
                self.run("host", "ip", "link", "set", bridge, "up")
            for guest, (bridge, address) in GUESTS.items():
                self._connect(guest, address, 20, GATEWAYS[bridge])
                self.run("host", "ip", "link", "set", guest, "master", bridge)
            yield self
        finally:
            for place in places:
                subprocess.run(["ip", "netns", "del", self.name(place)], check=False, stderr=subprocess.DEVNULL)

    def _connect(self, place: str, address: str, prefix: int, gateway: str) -> None:
        peer = ("peer", "name", "eth0", "netns", self.name(place))
        self.run("host", "ip", "link", "add", place, "type", "veth", *peer)
        self.run("host", "ip", "link", "set", place, "up")
        self.run(place, "ip", "address", "add", f"{address}/{prefix}", "dev", "eth0")
        self.run(place, "ip", "link", "set", "eth0", "up")
        self.run(place, "ip", "route", "add", "default", "via", gateway)

    @contextmanager
    def serving(self, place: str, *ports: int) -> Iterator[None]:
        with self._program(place, "serve", *map(str, ports)) as server:
            assert server.stdout
            assert server.stdout.readline() == "serving\n"
            yield
            server.communicate("over\n", timeout=60)

    def reached(self, place: str, targets: Iterable[str]) -> set[str]:
        said = self.run(place, sys.executable, "-I", reach.__file__, "ask", stdin="\n".join(targets))
        return set(filter(None, said.splitlines()))

    def hears(self, sender: str, hearer: str) -> bool:
        """Whether a frame of no known protocol gets from one to another."""
        with self._program(hearer, "frames", "hear", "eth0") as listener:
            assert listener.stdout
            assert listener.stdout.readline() == "listening\n"
            self.run(sender, sys.executable, "-I", reach.__file__, "frames", "send", "eth0")
            said, _ = listener.communicate(timeout=60)
        return said == "heard\n"

    def _program(self, place: str, *words: str) -> subprocess.Popen[str]:
        argv = ["ip", "netns", "exec", self.name(place), sys.executable, "-I", reach.__file__, *words]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench().built() as built, ExitStack() as servers:
        servers.enter_context(built.serving("host", SSH, DNS, DHCP))
        servers.enter_context(built.serving("outside", WEB))
        for guest in GUESTS:
            servers.enter_context(built.serving(guest, SSH))
        yield built


TARGETS = {
    "the host's services": [f"tcp {gateway} {SSH}" for gateway in GATEWAYS.values()] + [f"tcp {HOST} {SSH}"],
    "the resolver of the network": [f"{kind} {{gateway}} {DNS}" for kind in ("tcp", "udp")],
    "another resolver of the host": [f"{kind} {HOST} {DNS}" for kind in ("tcp", "udp")],
    "DHCP": [f"udp {{gateway}} {DHCP}"],
    "the outside": [f"tcp {OUTSIDE} {WEB}", f"udp {OUTSIDE} {WEB}"],
    "guests of the open network": [f"tcp {GUESTS[guest][1]} {SSH}" for guest in ("a1", "a2")],
    "guests of the isolated network": [f"tcp {GUESTS[guest][1]} {SSH}" for guest in ("i1", "i2")],
}
REACHED = {
    "a1": {"the resolver of the network", "DHCP", "the outside"},
    "i1": {"DHCP"},
    "host": {"guests of the open network", "guests of the isolated network", "the outside"},
    "outside": {"the host's services", "the resolver of the network", "another resolver of the host", "DHCP"},
}
"""With the rules. A guest does not count itself among the others; what others reach of the host is its own affair."""


def targets(place: str, what: str) -> list[str]:
    own = GUESTS.get(place, (OPEN, ""))
    found = [target.format(gateway=GATEWAYS[own[0]]) for target in TARGETS[what]]
    ours = {own[1]} if place in GUESTS else {HOST, *GATEWAYS.values()} if place == "host" else {OUTSIDE}
    return [target for target in found if target.split()[1] not in ours]


def views(bench: Bench, place: str) -> dict[str, bool | None]:
    """What is reached from a place; None: some of it."""
    wanted = {what: targets(place, what) for what in TARGETS}
    answered = bench.reached(place, (target for found in wanted.values() for target in found))
    every = {what: {target in answered for target in found} for what, found in wanted.items() if found}
    return {what: seen.pop() if len(seen) == 1 else None for what, seen in every.items()}


@pytest.fixture
def guarded(bench: Bench) -> Iterator[Bench]:
    bench.run("host", "nft", "-f", "-", stdin=host_rules([OPEN], [ISOLATED]))
    yield bench
    bench.run("host", "nft", "flush", "ruleset")


@pytest.mark.parametrize("place", REACHED)
def test_without_the_rules_everything_is_reached(bench: Bench, place: str) -> None:
    assert set(views(bench, place).values()) == {True}


@pytest.mark.parametrize("place", REACHED)
def test_with_them_what_is_allowed_is_reached_and_nothing_else(guarded: Bench, place: str) -> None:
    assert {what for what, seen in views(guarded, place).items() if seen is not False} == REACHED[place]
    assert None not in views(guarded, place).values()


def test_to_put_them_in_force_again_changes_nothing(guarded: Bench) -> None:
    before = guarded.run("host", "nft", "list", "ruleset")
    guarded.run("host", "nft", "-f", "-", stdin=host_rules([OPEN], [ISOLATED]))
    assert guarded.run("host", "nft", "list", "ruleset") == before


def test_rules_of_others_stay(guarded: Bench) -> None:
    guarded.run("host", "nft", "add", "table", "inet", "others")
    guarded.run("host", "nft", "-f", "-", stdin=host_rules([OPEN], [ISOLATED]))
    assert "table inet others" in guarded.run("host", "nft", "list", "tables")


def test_nothing_at_all_goes_from_one_guest_to_another(guarded: Bench) -> None:
    assert guarded.hears("i1", "i2")
    try:
        guarded.run("host", "nft", "-f", "-", stdin=port_rules([OPEN, ISOLATED]))
    except AssertionError as error:
        if "Operation not supported" not in str(error):
            raise
        pytest.skip("this kernel has no nft_meta_bridge; the lab's tests show it on one that has")
    assert not guarded.hears("i1", "i2")
    assert not guarded.hears("a1", "a2")
