"""What of a guest on a host says whose it is; and what a ledger says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from farm.errors import HostError
from runners.deadline import Deadline
from runners.hosts.folders import Folders
from runners.hosts.libvirtd import Libvirtd
from runners.hosts.link import LocalLink
from runners.hosts.uri import HostUri
from runners.libvirt.elements import FARM_NS
from runners.libvirt.remains import KIND, Owner, Remains, owner_of, remove
from runners.reaper import DESTROYERS
from tests.unit.test_domain_xml import SYSTEM, TEXTS

STRANGERS = {
    "nobody's": "<domain><name>farm-1</name></domain>",
    "with other metadata": "<domain><metadata><x:guest xmlns:x='urn:other' farm='f'/></metadata></domain>",
    "an embedded guest's": TEXTS["kvm-amd64"],
}


@pytest.mark.parametrize("name", SYSTEM)
def test_a_domain_says_which_farm_made_it_and_whose_ledger_has_it(name: str) -> None:
    assert owner_of(TEXTS[name]) == Owner("0123456789abcdef", Path("/r/ledger/owner.jsonl"))


@pytest.mark.parametrize("name", STRANGERS)
def test_a_domain_that_names_no_farm_belongs_to_none(name: str) -> None:
    assert owner_of(STRANGERS[name]) is None


def test_a_ledger_s_entry_names_host_and_guest_and_is_known_to_the_reaper() -> None:
    remains = Remains(
        "xen+ssh://root@dom0/system", "0123456789abcdef", "farm-1", "00000000-0000-4000-8000-000000000001"
    )
    entry = remains.entry()
    assert entry.kind == KIND
    assert KIND in DESTROYERS
    assert Remains(**json.loads(entry.value)) == remains


class Pretended(Libvirtd):
    """libvirt's own driver for tests, which only pretends: its domains are of this process."""

    def _connected(self) -> libvirt.virConnect:
        return libvirt.open("test:///default")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Libvirtd]:
    opened = Pretended(HostUri("qemu"), LocalLink(), tmp_path)
    yield opened
    for domain in opened.connection.listAllDomains():
        if domain.name() != "test":
            domain.destroy()
    opened.close()


def make(host: Libvirtd, name: str, *, farm: str) -> Remains:
    guest = f"<farm:guest xmlns:farm='{FARM_NS}' owner='x' farm='{farm}' ledger='/none'/>" if farm else ""
    xml = f"<domain type='test'><name>{name}</name><memory>65536</memory><metadata>{guest}</metadata>"
    domain = host.connection.createXML(f"{xml}<os><type>hvm</type></os></domain>", 0)
    return Remains("qemu:///system", "a" * 16, name, domain.UUIDString())


def names(host: Libvirtd) -> set[str]:
    return {domain.name() for domain in host.connection.listAllDomains()} - {"test"}


def test_a_guest_of_this_farm_is_destroyed_and_once_more_does_no_harm(host: Libvirtd) -> None:
    ours, other = (make(host, name, farm="a" * 16) for name in ("farm-1", "farm-12"))
    remove(host, ours)
    assert names(host) == {other.name}
    remove(host, ours)
    assert names(host) == {other.name}


@pytest.mark.parametrize("farm", ["b" * 16, ""])
def test_whatever_is_not_this_farm_s_stays_however_it_is_called(host: Libvirtd, farm: str) -> None:
    stranger = make(host, "farm-1", farm=farm)
    remove(host, stranger)
    assert names(host) == {"farm-1"}


def test_a_folder_that_cannot_be_removed_keeps_no_domain_alive(host: Libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folders: Folders, name: str, _deadline: Deadline) -> None:
        raise HostError(f"cannot remove {name}")

    ours = make(host, "farm-1", farm="a" * 16)
    monkeypatch.setattr(Folders, "remove", full)
    with pytest.raises(HostError, match="cannot remove farm-1"):
        remove(host, ours)
    assert names(host) == set()
