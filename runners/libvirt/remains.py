"""What a guest behind a libvirtd is on its host, a domain and a folder, and how both are destroyed.

Written down in a ledger before anything is made, so that whoever finds the ledger of a dead owner can destroy them.
Nothing is touched but a domain with this very uuid whose metadata names this farm, and the folder of its name among the
farm's own.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import libvirt

from farm.errors import HypervisorError
from runners.deadline import Deadline
from runners.guest import wait_for
from runners.hosts.folders import Folders
from runners.hosts.libvirtd import Libvirtd, libvirtd
from runners.hosts.uri import parse_uri
from runners.ledger import Entry, is_owned
from runners.libvirt.connection import hypervisor_errors
from runners.libvirt.elements import FARM_NS

KIND = "libvirt-guest"
_DESTROY_S = 120.0
_PAUSE_S = 0.2
_GONE = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}


class Remains(NamedTuple):
    """What names a guest on its host."""

    uri: str
    farm: str
    name: str
    uuid: str

    def entry(self) -> Entry:
        """As a ledger has it."""
        return Entry(KIND, json.dumps(self._asdict()))


class Owner(NamedTuple):
    """Who made a domain, by its metadata."""

    farm: str
    ledger: Path


def owner_of(domain_xml: str) -> Owner | None:
    """None: no farm made it. Pure."""
    found = ET.fromstring(domain_xml).find(f"metadata/{{{FARM_NS}}}guest")  # noqa: S314 - libvirt's own
    if found is None or not found.get("farm"):
        return None
    return Owner(found.get("farm", ""), Path(found.get("ledger", "")))


def destroy(value: str) -> None:
    """Destroy what an entry of a ledger names; no harm if it is gone. Raises HostError, HypervisorError."""
    remains = Remains(**json.loads(value))
    remove(libvirtd(parse_uri(remains.uri)), remains)


def remove(host: Libvirtd, remains: Remains) -> None:
    """The same on a host that is connected to."""
    what = f"destroy the guest {remains.name} on {host.link.place}"
    try:
        # The folder first: what a dead owner had asked for and libvirt has not begun yet, finds no disk then.
        Folders(host.link, remains.farm).remove(remains.name, Deadline.after(_DESTROY_S, what))
    finally:
        # A folder that stays is no reason for the domain to run on, nor is the time that it took.
        if remains.uuid:
            _end_domain(host, remains, Deadline.after(_DESTROY_S, what))


def _end_domain(host: Libvirtd, remains: Remains, deadline: Deadline) -> None:
    with hypervisor_errors(deadline.what):
        while why := wait_for(host.await_answer(lambda connection: _end(connection, remains), deadline=deadline)):
            if deadline.remaining == 0:
                raise HypervisorError(f"cannot {deadline.what}: {why}", hint=f"virsh -c {remains.uri} list --all")
            time.sleep(_PAUSE_S)


def left_on(uri: str, farm: str) -> tuple[Remains, ...]:
    """The guests of this farm on a host that no living process of it owns, whatever became of their ledgers.

    Of one of which there is only a folder, the uuid is empty. Raises HostError, HypervisorError.
    """
    host = libvirtd(parse_uri(uri))
    deadline = Deadline.after(_DESTROY_S, f"look for what is left of guests on {host.link.place}")
    domains = _domains(host, uri, farm)
    known = {remains.name for remains in domains}
    owners = Folders(host.link, farm).owners(deadline)
    folders = [name for name, ledger in owners.items() if name not in known and not is_owned(ledger)]
    return (*domains, *(Remains(uri, farm, name, "") for name in folders))


def sweep(uri: str, farm: str) -> tuple[Remains, ...]:
    """Destroy them; comes to what was destroyed. Raises HostError, HypervisorError."""
    left = left_on(uri, farm)
    for remains in left:
        remove(libvirtd(parse_uri(uri)), remains)
    return left


def _domains(host: Libvirtd, uri: str, farm: str) -> list[Remains]:
    """Those of this farm whose owners are dead."""
    try:
        domains = host.ask(lambda connection: [(d.name(), d.UUIDString(), d.XMLDesc()) for d in _all(connection)])
    except libvirt.libvirtError as error:
        raise HypervisorError(f"cannot list the guests of {host.link.place}: {error}") from error
    owners = [(Remains(uri, farm, name, uuid), owner_of(xml)) for name, uuid, xml in domains]
    return [remains for remains, owner in owners if owner and owner.farm == farm and not is_owned(owner.ledger)]


def _all(connection: libvirt.virConnect) -> list[libvirt.virDomain]:
    listed: list[libvirt.virDomain] = connection.listAllDomains()
    return listed


def _end(connection: libvirt.virConnect, remains: Remains) -> str:
    """Tell a domain to end; empty: there is none, else why there may still be one."""
    try:
        domain = connection.lookupByUUIDString(remains.uuid)
        owner = owner_of(domain.XMLDesc())
    except libvirt.libvirtError as error:
        if error.get_error_code() in _GONE:
            return ""
        raise
    if owner is None or owner.farm != remains.farm:
        return ""
    try:
        domain.destroy()
    except libvirt.libvirtError as error:  # LXC's driver may stumble over what has just ended
        return str(error)
    return "it is still there"
