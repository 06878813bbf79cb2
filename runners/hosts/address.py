"""Where a guest is on its network: by the lease it was given, by what its host has heard of it, by its own agent."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import libvirt

from farm.errors import ConnectError
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.hosts.link import Link
from runners.hosts.network import Attachment

_PAUSE_S = 0.25
_ASK_S = 20.0
_HEARD = {"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"}


def address_of(
    domain: libvirt.virDomain, mac: str, attachment: Attachment, link: Link, *, deadline: Deadline
) -> Work[str]:
    """The IPv4 address of a guest's card, waited for. Raises ConnectError where none appears, HostError."""
    ways: dict[str, Callable[[], str]] = {
        "no lease": lambda: _leased(domain, attachment, mac),
        "nothing in the host's neighbour table": lambda: _heard(link, attachment, mac),
        "no agent that says it": lambda: _told(domain, mac),
    }
    while True:
        for find in ways.values():
            if address := find():
                return address
            yield TICK
        if deadline.remaining == 0:
            raise ConnectError(
                f"cannot find the address of the guest {mac}: {', '.join(ways)} within {deadline.allowed_s:g} s",
                hint="look in its console whether it asked for an address by DHCP on its first card",
            )
        time.sleep(min(_PAUSE_S, deadline.remaining))


def _leased(domain: libvirt.virDomain, attachment: Attachment, mac: str) -> str:
    if not attachment.network:
        return ""
    with suppress(libvirt.libvirtError):  # the network driver may be away for a moment, as libvirtd may
        leases = domain.connect().networkLookupByName(attachment.network).DHCPLeases(mac)
        return latest(leases)
    return ""


def latest(leases: Iterable[dict[str, Any]]) -> str:
    """The address of the lease that ends last: a guest's earlier ones are kept until they do. Pure."""
    ours = [lease for lease in leases if lease["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4]
    return str(max(ours, key=lambda lease: lease["expirytime"])["ipaddr"]) if ours else ""


def _heard(link: Link, attachment: Attachment, mac: str) -> str:
    # Its own deadline: who asks is to be told of the guest, not of this command.
    asking = Deadline.after(_ASK_S, f"ask {link.place} for its neighbours")
    said = link.run(f"ip -j -4 neigh show dev {shlex.quote(attachment.bridge)}", deadline=asking)
    return neighbour(said.decode(), mac)


def neighbour(said: str, mac: str) -> str:
    """The address that a neighbour table (`ip -j neigh show`) has for a card; empty: none. Pure."""
    rows = json.loads(said or "[]")
    return next(
        (str(row["dst"]) for row in rows if row.get("lladdr") == mac.lower() and _HEARD & set(row.get("state", []))), ""
    )


def _told(domain: libvirt.virDomain, mac: str) -> str:
    with suppress(libvirt.libvirtError):  # there is no agent, or the driver has no way to ask it
        cards = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
        for card in (cards or {}).values():
            if str(card["hwaddr"]).lower() == mac.lower():
                return next(
                    (str(one["addr"]) for one in card["addrs"] or () if one["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4),
                    "",
                )
    return ""
