"""A host as a node of a Ray cluster, there and back: capacity as numbers, traits as labels. Pure.

Ray places by these. A label's value has few signs and little room, so the node tells the rest itself when it is asked
(`farm.lookout`); what is read back from labels is what is known of a node that has not answered yet.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from farm.model import Host, Offer, Order
from farm.slowness import from_label, to_label

MEMORY = "guest_memory_mib"
"""The Ray resource that stands for the memory of guests."""
HOST = "farm-host"
"""The label with a host's name, for orders that must not go there."""
LABEL = "farm-offer"
"""The prefix of the labels that say what a host can run: `farm-offer.qemu.riscv64=emulated`."""
SLOWNESS = "farm-slowness"
"""The prefix of the labels that say how slow guests are there: `farm-slowness.qemu.riscv64=14.20_20.10_9.80`."""
CPU_LIMIT = "farm-cpu-limit"
"""The label of a host that can limit the CPU of a guest: `farm-cpu-limit=yes`."""
OWN = "farm-label"
"""The prefix of the labels that a host's owner has given it: `farm-label.rack=b2`."""

_NOBODY = "0.no.host"
"""A label that no node has: what asks for it waits."""
_ANY_WAY = "in(native,emulated,scripted)"


def labels_of(host: Host) -> dict[str, str]:
    """The labels with which a host's node joins the cluster."""
    usable = [offer for offer in host.offers if not offer.problem]
    return (
        {f"{LABEL}.{offer.hypervisor}.{offer.arch}": _how(offer) for offer in usable}
        | {f"{SLOWNESS}.{o.hypervisor}.{o.arch}": to_label(o.slowness) for o in usable if o.slowness}
        | {f"{OWN}.{key}": value for key, value in host.labels.items()}
        | {HOST: label_of(host.name)}
        | ({} if host.cpu_limit_problem else {CPU_LIMIT: "yes"})
    )


def label_of(name: str) -> str:
    """A host's name as the value of a label, which allows fewer signs and 63 of them."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:63].strip("._-")


def host_of(node: dict[str, Any]) -> Host:
    """What a node's resources and labels tell of its host; `ray.nodes()` has them."""
    resources, labels = node["Resources"], node.get("Labels", {})
    offers = [
        Offer(
            hypervisor=key.split(".")[1],
            arch=key.split(".")[2],
            emulated=value != "native",
            scripted=value == "scripted",
            slowness=from_label(labels.get(f"{SLOWNESS}{key.removeprefix(LABEL)}", "")),
        )
        for key, value in labels.items()
        if key.startswith(f"{LABEL}.")
    ]
    return Host(
        name=labels.get(HOST) or node["NodeManagerHostname"],
        uri="ray",
        vcpus=int(resources.get("CPU", 0)),
        memory_mib=int(resources.get(MEMORY, 0)),
        offers=tuple(sorted(offers, key=lambda offer: offer.emulated)),
        cpu_limit_problem="" if labels.get(CPU_LIMIT) == "yes" else "its node does not say that it can",
        labels={key.removeprefix(f"{OWN}."): value for key, value in labels.items() if key.startswith(f"{OWN}.")},
    )


def selector(order: Order, avoid: Collection[str]) -> dict[str, str]:
    """The labels that the node of an order must have; hosts by their names that it must not go to."""
    return dict.fromkeys(_offers(order), _ANY_WAY) | _where({*order.only}, {*avoid})


def _where(only: set[str], avoid: set[str]) -> dict[str, str]:
    if only:
        return {HOST: f"in({','.join(sorted(map(label_of, only - avoid))) or _NOBODY})"}
    return {HOST: f"!in({','.join(sorted(map(label_of, avoid)))})"} if avoid else {}


def _offers(order: Order) -> Iterator[str]:
    """What the host has to offer: to its guest, and to the one that builds for it."""
    yield f"{LABEL}.{order.hypervisor}.{order.arch}"
    if order.builder:
        yield f"{LABEL}.{order.builder.hypervisor}.{order.builder.image.arch}"


def _how(offer: Offer) -> str:
    return "scripted" if offer.scripted else "emulated" if offer.emulated else "native"
