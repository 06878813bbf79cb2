"""The hosts at a glance, with what the store knows of them."""

from __future__ import annotations

import pytest
from rich.console import Console

from farm import fleet
from farm.errors import NotFoundError
from farm.model import Host, HostMark, Mark, Offer, Room
from farm.store import Store
from farm.tables import fleet_table
from tests.unit.test_store import NOW

A = Host(
    name="a",
    uri="qemu:///embed",
    vcpus=4,
    memory_mib=8192,
    offers=(Offer(hypervisor="qemu", arch="s390x", emulated=True),),
    labels={"rack": "b2"},
    room=Room(memory_mib=700, disk_mib=9000),
)
B = A.model_copy(update={"name": "b", "room": Room(memory_mib=7, disk_mib=9, shortage="it has 7 MiB of memory left")})


def shown(store: Store, *hosts: Host) -> list[str]:
    console = Console(width=200)
    with console.capture() as text:
        console.print(fleet_table(fleet.looks(store, hosts)))
    return [" ".join(line.split()) for line in text.get().splitlines()[1:]]


def test_a_host_is_drained_and_gets_work_again(store: Store) -> None:
    assert fleet.drain(store, [A, B], "a", "a new disk").reason == "a new disk"
    assert [(look.name, look.drained) for look in fleet.looks(store, [A, B])] == [("a", True), ("b", False)]
    assert not fleet.resume(store, [A, B], "a").drained
    assert store.hosts.all() == ()


def test_one_that_is_drained_and_gone_is_still_there_to_be_resumed(store: Store) -> None:
    fleet.drain(store, [A], "a", "it burns")
    (look,) = fleet.looks(store, [])
    assert (look.name, look.host, look.reason) == ("a", None, "it burns")
    fleet.resume(store, [], "a")
    assert fleet.looks(store, []) == ()


@pytest.mark.parametrize(
    "what", [lambda store: fleet.drain(store, [A], "c", "x"), lambda store: fleet.resume(store, [A], "c")]
)
def test_a_host_that_is_not_there_is_told_with_those_that_are(store: Store, what: object) -> None:
    with pytest.raises(NotFoundError, match="cannot find the host 'c'") as told:
        what(store)  # type: ignore[operator]
    assert told.value.hint == "there are: a"


def test_the_list_says_why_a_host_gets_nothing_new(store: Store) -> None:
    fleet.drain(store, [A, B], "a", "a new disk")
    assert shown(store, A, B) == [
        "a drained: a new disk 0 4 vCPUs, 8192 MiB 700 MiB, disk 9000 MiB qemu rack=b2",
        "b takes nothing new: it has 7 MiB of memory left 0 4 vCPUs, 8192 MiB 7 MiB, disk 9 MiB qemu rack=b2",
    ]
    assert shown(store)[0].startswith("a drained: a new disk; not there")


@pytest.mark.parametrize("mark", [Mark.FAILED, Mark.FULL])
def test_the_list_says_of_a_host_that_nobody_drained_what_it_is(store: Store, mark: Mark) -> None:
    store.hosts.put(HostMark(name="a", mark=mark, reason="it burns", since=NOW, due=NOW))
    assert shown(store, A)[0].startswith(f"a {mark}: it burns; it is tested at ")
