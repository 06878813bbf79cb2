"""What guests may reach on their host's networks: rules for nftables. Pure, but for `guard`.

They are tables of the farm's own, beside whatever else filters on the host: a packet passes only where all agree. They
are the same for every hypervisor, since they look at the bridge a packet comes from, not at who made its port.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from farm.errors import HostError
from runners.deadline import Deadline
from runners.hosts.command import CommandError
from runners.hosts.link import Link

_FRESH = "table {table}\ndelete table {table}\n"
"""Makes a table where there is none, so that it can be taken away: both in one transaction with what follows."""
_INET = """\
table inet farm {{
	chain to_host {{
		type filter hook input priority filter - 5; policy accept;
		iifname {{ {all} }} goto services
	}}
	chain services {{
		ct state established,related accept
		udp dport 67 accept
		iifname {{ {open} }} fib daddr . iif type local meta l4proto {{ tcp, udp }} th dport 53 accept
		drop
	}}
	chain through_host {{
		type filter hook forward priority filter - 5; policy accept;
		iifname {{ {all} }} oifname {{ {all} }} drop
		iifname {{ {closed} }} drop
		oifname {{ {all} }} ct state established,related accept
		oifname {{ {all} }} drop
	}}
}}
"""
_BRIDGE = """\
table bridge farm {{
	chain between_guests {{
		type filter hook forward priority filter; policy accept;
		meta ibrname {{ {all} }} drop
	}}
}}
"""


def host_rules(opened: Sequence[str], closed: Sequence[str]) -> str:
    """A script of nft: what comes from these bridges reaches DHCP on the host, and answers what the host asks.

    From `opened` ones it also reaches DNS at the bridge's own address, and the outside; from `closed` ones nothing
    else. From outside, and from another network, nobody reaches a guest.
    """
    return _FRESH.format(table="inet farm") + _INET.format(
        all=_names((*opened, *closed)), open=_names(opened), closed=_names(closed)
    )


def port_rules(bridges: Sequence[str]) -> str:
    """A script of nft: nothing goes from one port of these bridges to another, whatever protocol it is of."""
    return _FRESH.format(table="bridge farm") + _BRIDGE.format(all=_names(bridges))


def guard(link: Link, opened: Sequence[str], closed: Sequence[str], *, deadline: Deadline) -> None:
    """Put the rules in force on a host, in place of what the farm had there before. Raises HostError.

    The bridges need not be there yet: they are guarded from their first packet on.
    """
    rules = host_rules(opened, closed) + port_rules((*opened, *closed))
    try:
        link.run("nft -f -", stdin=io.BytesIO(rules.encode()), deadline=deadline)
    except CommandError as error:
        raise HostError(
            f"cannot keep guests apart from {link.place}, and from each other: {error.said or error.message}",
            hint=_hint(error),
        ) from error


def _hint(error: CommandError) -> str:
    hints = {
        "not found": "install the package nftables there",
        "not permitted": "the farm has to be root there",
        "ibrname": "its kernel lacks nft_meta_bridge (CONFIG_NFT_BRIDGE_META): use one of a distribution",
    }
    return next((hint for word, hint in hints.items() if word in error.said), "run `nft list ruleset` there, as root")


def _names(bridges: Sequence[str]) -> str:
    return ", ".join(f'"{bridge}"' for bridge in bridges)
