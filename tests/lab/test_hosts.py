"""A host as the farm uses it, on a real one: its libvirtd, its networks, who reaches whom there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest

from farm.errors import ConfigError, ConnectError, HostError, HypervisorError
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.hosts import libvirtd as libvirtds
from runners.hosts.address import address_of
from runners.hosts.libvirtd import Libvirtd
from runners.hosts.network import NETWORKS, Attachment, Networks, new_mac
from runners.hosts.ssh import SshLink
from runners.hosts.uri import HostUri, parse_uri
from tests.lab.lab import Lab

SOCKETS = "libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"


def soon(seconds: float = 240.0) -> Deadline:
    return Deadline.after(seconds, "do it")


@contextmanager
def opened(uri: HostUri, folder: Path) -> Iterator[Libvirtd]:
    """Of its own, not the process'."""
    link = SshLink(uri)
    made = Libvirtd(uri, link, folder)
    try:
        yield made
    finally:
        made.close()
        link.close()


@pytest.fixture
def host(kvm_host: Lab, tmp_path: Path) -> Iterator[Libvirtd]:
    with opened(parse_uri(kvm_host.uri("qemu")), tmp_path / "ssh") as made:
        yield made


def test_a_libvirtd_that_was_restarted_is_asked_again(host: Libvirtd) -> None:
    before = host.connection
    assert before.getHostname().startswith("lab-kvm")
    host.link.run("systemctl restart libvirtd", deadline=soon())
    assert wait_for(host.await_answer(lambda connection: connection.getHostname(), deadline=soon())) == "lab-kvm"
    assert host.connection is not before
    assert host.version.startswith("10.")


def test_a_refusal_is_not_asked_again(host: Libvirtd) -> None:
    with pytest.raises(libvirt.libvirtError, match="no domain with matching name"):
        wait_for(host.await_answer(lambda connection: connection.lookupByName("nobody"), deadline=soon()))


def test_a_host_without_a_libvirtd(host: Libvirtd) -> None:
    host.link.run(f"systemctl stop {SOCKETS} libvirtd", deadline=soon())
    try:
        with pytest.raises(HypervisorError) as caught:
            _ = host.connection
    finally:
        host.link.run(f"systemctl start {SOCKETS}", deadline=soon())
    assert caught.value.message == f"cannot reach the libvirt of {host.link.place}: no libvirtd runs there"
    assert "install libvirt-daemon-system and libvirt-daemon-driver-qemu there" in caught.value.hint
    assert host.connection.isAlive()


def test_a_libvirt_that_is_too_old(host: Libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirtds, "OLDEST", (99, 1, 0))
    with pytest.raises(HypervisorError, match=r"it is 11\.[0-9.]+, older than 99\.1\.0"):
        _ = host.connection


def test_libvirt_checks_the_key_of_the_host_too(kvm_host: Lab, tmp_path: Path) -> None:
    """The link is open already, and would notice nothing: libvirt's own connection has to."""
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(kvm_host.known_hosts.read_text())
    uri = parse_uri(kvm_host.uri("qemu").replace(str(kvm_host.known_hosts), str(known_hosts)))
    with opened(uri, tmp_path / "ssh") as host:
        host.link.run("true", deadline=soon())
        name, kind, key = known_hosts.read_text().split()[:3]
        known_hosts.write_text(f"{name} {kind} {key[:-8]}{'A' * 8}\n")
        with pytest.raises(HostError, match=r"Host key verification failed|another host key"):
            _ = host.connection
        host.link.close()
        with pytest.raises(HostError, match=r"cannot trust .* it shows another host key") as caught:
            _ = host.connection
    assert "ssh-keygen -f" in caught.value.hint


def test_networks_are_made_once_and_are_there_after_a_restart(host: Libvirtd) -> None:
    made: dict[int, Attachment] = {}

    def ask(number: int) -> None:
        made[number] = wait_for(Networks(host.connection, host.link).ensure("open", deadline=soon()))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(made.values()) == {Attachment("farm-nat", "farm-nat")}
    wait_for(Networks(host.connection, host.link).ensure("isolated", deadline=soon()))
    for network in NETWORKS.values():
        found = host.connection.networkLookupByName(network.name)
        assert (found.isActive(), found.autostart(), found.bridgeName()) == (1, 1, network.name)
    tables = host.link.run("nft list tables", deadline=soon()).decode()
    assert "table inet farm\n" in tables
    assert "table bridge farm\n" in tables


def test_a_bridge_of_the_hosts_own_has_to_be_named_and_there(host: Libvirtd) -> None:
    with pytest.raises(ConfigError, match=r"no bridge of .* is named"):
        wait_for(Networks(host.connection, host.link).ensure("bridge", deadline=soon()))
    with pytest.raises(HostError, match="has no bridge 'br7'"):
        wait_for(Networks(host.connection, host.link, "br7").ensure("bridge", deadline=soon()))
    host.link.run("ip link add br7 type bridge", deadline=soon())
    try:
        found = wait_for(Networks(host.connection, host.link, "br7").ensure("bridge", deadline=soon()))
    finally:
        host.link.run("ip link del br7", deadline=soon())
    assert found == Attachment("br7")


class Peer:
    """What stands for a guest: a network namespace on a port of a bridge, with an address by DHCP."""

    def __init__(self, host: Libvirtd, name: str, bridge: str) -> None:
        self._host = host
        self._name = name
        self.mac = new_mac()
        self.run_on_host(
            f"ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name};"
            f" ip link set {name} master {bridge} up; ip -n {name} link set lo up;"
            f" ip -n {name} link set eth0 address {self.mac} up"
        )
        said = self.run("busybox udhcpc -i eth0 -n -q -t 10 -s /bin/true 2>&1 || true")
        self.address = said.partition("lease of ")[2].split()[0]
        gateway = f"{self.address.rsplit('.', 2)[0]}.{int(self.address.split('.')[2]) // 16 * 16}.1"
        self.gateway = gateway
        self.run(f"ip address add {self.address}/20 dev eth0; ip route add default via {gateway}")

    def run_on_host(self, command: str) -> str:
        return self._host.link.run(command, deadline=soon()).decode()

    def run(self, command: str) -> str:
        return self.run_on_host(f"ip netns exec {self._name} sh -c '{command}'")

    def reaches(self, address: str) -> bool:
        """Whether it gets an answer to an ARP request: the least that two can say to each other."""
        said = self.run(f"busybox arping -c 3 -w 4 -I eth0 {address} || true")
        return "Received 0 response" not in said

    def close(self) -> None:
        self.run_on_host(f"ip netns del {self._name}; ip link del {self._name} 2>/dev/null || true")


@pytest.fixture(params=["open", "isolated"])
def peers(host: Libvirtd, request: pytest.FixtureRequest) -> Iterator[tuple[Peer, Peer, Attachment]]:
    place = wait_for(Networks(host.connection, host.link).ensure(request.param, deadline=soon()))
    one, two = Peer(host, "one", place.bridge), Peer(host, "two", place.bridge)
    yield one, two, place
    one.close()
    two.close()


def test_nothing_goes_from_one_guest_to_another_whatever_made_its_port(
    host: Libvirtd, peers: tuple[Peer, Peer, Attachment]
) -> None:
    one, two, _ = peers
    assert one.reaches(one.gateway)
    assert not one.reaches(two.address)
    one.run_on_host("nft delete table bridge farm")
    assert one.reaches(two.address)  # so it was the rules
    wait_for(Networks(host.connection, host.link).ensure("open", deadline=soon()))
    assert not one.reaches(two.address)


def test_the_address_of_a_guest_is_found(host: Libvirtd, peers: tuple[Peer, Peer, Attachment]) -> None:
    one, _, place = peers
    domain = SimpleNamespace(connect=lambda: host.connection, interfaceAddresses=lambda _source: {})
    found = wait_for(address_of(domain, one.mac, place, host.link, deadline=soon()))
    assert found == one.address
    one.run_on_host(f"busybox ping -c 1 -W 5 {one.address} >/dev/null || true")
    by_ear = wait_for(address_of(domain, one.mac, Attachment(place.bridge), host.link, deadline=soon()))
    assert by_ear == one.address
    with pytest.raises(ConnectError, match="cannot find the address of the guest 52:54:00:00:00:01: no lease, nothing"):
        wait_for(address_of(domain, "52:54:00:00:00:01", place, host.link, deadline=soon(2)))


def test_an_open_network_reaches_outside_and_not_the_host(host: Libvirtd, peers: tuple[Peer, Peer, Attachment]) -> None:
    one, _, place = peers
    outside = host.link.run("ip -4 route show default | cut -d ' ' -f 3", deadline=soon()).decode().strip()
    is_open = place.bridge == NETWORKS["open"].name
    pinged = one.run(f"busybox ping -c 2 -W 5 {outside} >/dev/null 2>&1 && echo yes || echo no").strip()
    assert pinged == ("yes" if is_open else "no")
    ssh = one.run(f"busybox nc -w 3 {one.gateway} 22 </dev/null 2>/dev/null | head -c 4 || true")
    assert ssh == ""
    answered = one.run(f"busybox nslookup localhost {one.gateway} 2>&1 || true")
    assert ("127.0.0.1" in answered) is is_open


def test_what_a_host_says_of_its_networks_is_xml_that_libvirt_keeps(host: Libvirtd) -> None:
    wait_for(Networks(host.connection, host.link).ensure("isolated", deadline=soon()))
    kept = host.connection.networkLookupByName("farm-isolated").XMLDesc()
    assert "<forward" not in kept
    assert '<dns enable="no"' in kept.replace("'", '"')
