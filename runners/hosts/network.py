"""The networks of guests on a host: libvirt's, made when they are first needed.

A matrix asks for `isolated` (DHCP, and SSH from the host; nothing out), `open` (out through the host's address, NAT),
or `bridge`, a bridge of the host's own that its owner has named. On the first two guests reach neither the host's
services nor each other, see `runners.hosts.firewall`.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import chain
from xml.etree import ElementTree as ET

import libvirt

from farm.errors import ConfigError, HostError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.hosts.firewall import guard
from runners.hosts.link import Link

_PREFIX = 20
_SUBNETS: tuple[IPv4Network, ...] = tuple(
    chain.from_iterable(IPv4Network(one).subnets(new_prefix=_PREFIX) for one in ("10.213.0.0/16", "172.30.0.0/16"))
)
_KIB = 1024
_ABSENT = "install libvirt's network driver there: libvirt-daemon-driver-network and dnsmasq-base"
_PAUSE_S = 0.2


@dataclass(frozen=True)
class Network:
    """A network that the farm makes: libvirt's name for it, which is its bridge's too (15 characters at most)."""

    name: str
    opened: bool
    """Whether there is a way out."""


NETWORKS = {"open": Network("farm-nat", opened=True), "isolated": Network("farm-isolated", opened=False)}
"""What a matrix calls it -> what is made for it."""
OWN_BRIDGE = "bridge"
"""What a matrix calls a bridge of the host's own."""


@dataclass(frozen=True)
class Attachment:
    """What a guest's card is put into."""

    bridge: str
    network: str = ""
    """libvirt's network, which knows the leases; empty: the bridge is the host's own."""


def network_xml(network: Network, subnet: IPv4Network) -> str:
    """A network as libvirt is to make it (https://libvirt.org/formatnetwork.html). Pure."""
    root = ET.Element("network")
    _add(root, "name", network.name)
    if network.opened:
        _add(root, "forward", mode="nat")
    _add(root, "bridge", name=network.name, stp="off", delay="0")
    if not network.opened:
        _add(root, "dns", enable="no")
    host, first, last = subnet[1], subnet[2], subnet[-2]
    address = _add(root, "ip", address=str(host), netmask=str(subnet.netmask))
    _add(_add(address, "dhcp"), "range", start=str(first), end=str(last))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def interface(attachment: Attachment, mac: str, *, bytes_per_s: int | None = None) -> ET.Element:
    """A guest's card, to be put among the devices of its domain; its model is the hypervisor's affair. Pure.

    `bytes_per_s` is the most that goes in, and the most that goes out, in a second.
    """
    card = ET.Element("interface", type="bridge")
    _add(card, "mac", address=mac)
    _add(card, "source", bridge=attachment.bridge)
    if bytes_per_s:
        # libvirt counts in KiB/s, and in KiB what may come at once: a second's worth.
        average = str(max(1, bytes_per_s // _KIB))
        limit = _add(card, "bandwidth")
        for way in ("inbound", "outbound"):
            _add(limit, way, average=average, burst=average)
    if attachment.network:
        # For a second time, before any rule of the firewall; QEMU's and LXC's drivers heed it, Xen's does not.
        _add(card, "port", isolated="yes")
    return card


def new_mac() -> str:
    """An address for a card: of the block that QEMU's guests have everywhere, 32 bits of it random."""
    return ":".join(["52", "54", *(f"{byte:02x}" for byte in secrets.token_bytes(4))])


def free_subnet(routes: str, taken: Iterable[IPv4Network] = ()) -> IPv4Network:
    """A network that no route of a host leads to, by what `ip -4 route show` says there. Pure. Raises HostError."""
    used = [*taken, *_destinations(routes)]
    for subnet in _SUBNETS:
        if not any(subnet.overlaps(other) for other in used):
            return subnet
    raise HostError(
        f"cannot make a network for guests: routes lead to all of {_SUBNETS[0]} … {_SUBNETS[-1]} already",
        hint="`ip route` there shows them; without one, guests can still use a bridge of its own: network: bridge",
    )


def _destinations(routes: str) -> Iterable[IPv4Network]:
    kinds = {"unreachable", "blackhole", "prohibit", "throw", "local", "broadcast", "multicast", "unicast"}
    for line in routes.splitlines():
        words = [word for word in line.split() if word not in kinds]
        if words and words[0] != "default":
            yield IPv4Network(words[0], strict=False)


class Networks:
    """The networks of a host."""

    def __init__(self, connection: libvirt.virConnect, link: Link, bridge: str = "") -> None:
        """`bridge` is the host's own for guests, empty: it has named none."""
        self._connection = connection
        self._link = link
        self._bridge = bridge

    def ensure(self, asked: str, *, deadline: Deadline) -> Work[Attachment]:
        """What a matrix asks for, made and guarded if need be. Raises HostError, ConfigError, DeadlineError."""
        if asked == OWN_BRIDGE:
            return self._own(deadline)
        network = NETWORKS[asked]
        yield TICK
        # The rules come first, and each time anew: a host forgets them when it starts.
        names = {opened: [one.name for one in NETWORKS.values() if one.opened == opened] for opened in (True, False)}
        guard(self._link, names[True], names[False], deadline=deadline)
        yield TICK
        while not (yield from self._there(network, deadline)):
            deadline.check()
            time.sleep(_PAUSE_S)
        return Attachment(network.name, network.name)

    def _own(self, deadline: Deadline) -> Attachment:
        """The host's own bridge."""
        if not self._bridge:
            raise ConfigError(
                f"cannot use the network 'bridge': no bridge of {self._link.place} is named",
                hint='say which guests may use: bridge = "br0" at the host under [[hosts]] in farm.toml',
            )
        folder = shlex.quote(f"/sys/class/net/{self._bridge}/bridge")
        there = self._link.run(f"test -d {folder} && echo there || true", deadline=deadline)
        if not there:
            raise HostError(
                f"cannot use the network 'bridge': {self._link.place} has no bridge {self._bridge!r}",
                hint="`ip -br link show type bridge` lists them",
            )
        return Attachment(self._bridge)

    def _there(self, network: Network, deadline: Deadline) -> Work[bool]:
        """Whether a network runs; one that does not is made to. False: somebody else does so right now."""
        try:
            found = self._find(network)
            yield TICK
            if found is None:
                found = self._connection.networkDefineXML(self._xml(network, deadline))
            if not found.isActive():
                found.create()
                yield TICK
            found.setAutostart(1)
        except libvirt.libvirtError as error:
            again = self._find(network)
            if again is not None and error.get_error_code() in _SOMEBODY_ELSE:
                return False
            raise self._refused(network, error) from error
        return True

    def _find(self, network: Network) -> libvirt.virNetwork | None:
        try:
            return self._connection.networkLookupByName(network.name)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
                return None
            raise self._refused(network, error) from error

    def _xml(self, network: Network, deadline: Deadline) -> str:
        routes = self._link.run("ip -4 route show table all", deadline=deadline).decode()
        # A network that does not run has no route, but is not to be in the way of when it does.
        return network_xml(network, free_subnet(routes, self._defined()))

    def _defined(self) -> list[IPv4Network]:
        roots = [ET.fromstring(one.XMLDesc()) for one in self._connection.listAllNetworks()]  # noqa: S314 - libvirt's own
        addresses = [ip for root in roots for ip in root.findall("ip") if ip.get("family", "ipv4") == "ipv4"]
        return [
            IPv4Network(f"{ip.get('address')}/{ip.get('netmask') or ip.get('prefix')}", strict=False)
            for ip in addresses
        ]

    def _refused(self, network: Network, error: libvirt.libvirtError) -> HostError:
        absent = error.get_error_code() in _NO_DRIVER or "virtnetworkd" in str(error) or "dnsmasq" in str(error)
        return HostError(
            f"cannot make the network {network.name} on {self._link.place}: {error}",
            hint=_ABSENT if absent else f"`virsh net-list --all` and `virsh net-start {network.name}` there say more",
        )


_SOMEBODY_ELSE = {libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_OPERATION_FAILED, libvirt.VIR_ERR_NETWORK_EXIST}
_NO_DRIVER = {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_NO_CONNECT}


def _add(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, tag, attributes)
    child.text = text
    return child
