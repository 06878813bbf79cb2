"""What the hosts of a cluster say of themselves, and what becomes of those that say nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from farm.errors import HostError
from farm.latest import in_thread
from farm.lookout import PERIOD_S, SILENT_S, Answer, Lookout
from farm.model import Host, Offer, Room
from tests.waiting import eventually

LABELLED = Host(
    name="h",
    uri="ray",
    vcpus=4,
    memory_mib=8192,
    offers=(Offer(hypervisor="qemu", arch="s390x", emulated=True),),
    labels={"rack": "b2"},
)
TOLD = LABELLED.model_copy(
    update={"name": "machine", "uri": "qemu:///embed", "vcpus": 64, "room": Room(memory_mib=900, disk_mib=9000)}
)


@dataclass
class Nodes:
    """Nodes whose answers are set by the test."""

    now: float = 100.0
    asked: list[str] = field(default_factory=list)
    answers: dict[str, Host | HostError | None] = field(default_factory=dict)

    def ask(self, node: str) -> Answer:
        self.asked.append(node)

        def answer() -> Host | None:
            found = self.answers.get(node)
            if isinstance(found, HostError):
                raise found
            return found

        return answer

    def lookout(self) -> Lookout:
        return Lookout(self.ask, lambda: self.now)


def test_until_a_node_has_answered_its_labels_count() -> None:
    nodes = Nodes()
    lookout = nodes.lookout()
    assert lookout.hosts({"n": LABELLED}) == (LABELLED,)
    assert not lookout.complete


def test_what_a_node_tells_counts_but_for_what_it_joined_with() -> None:
    nodes = Nodes(answers={"n": TOLD})
    lookout = nodes.lookout()
    (host,) = lookout.hosts({"n": LABELLED})
    assert lookout.complete
    assert (host.name, host.vcpus, host.labels) == ("h", 4, {"rack": "b2"})
    assert (host.uri, host.room) == ("qemu:///embed", TOLD.room)


def test_a_node_is_asked_again_after_a_while_and_not_before() -> None:
    nodes = Nodes(answers={"n": TOLD})
    lookout = nodes.lookout()
    for _ in range(3):
        lookout.hosts({"n": LABELLED})
    assert nodes.asked == ["n"]
    nodes.now += PERIOD_S
    lookout.hosts({"n": LABELLED})
    assert nodes.asked == ["n", "n"]


def test_a_node_that_does_not_answer_takes_nothing_new_until_it_does() -> None:
    nodes = Nodes()
    lookout = nodes.lookout()
    lookout.hosts({"n": LABELLED})
    nodes.now += SILENT_S + 1
    (silent,) = lookout.hosts({"n": LABELLED})
    assert silent.shortage == "it has not answered for 61 s"
    nodes.answers["n"] = TOLD
    (host,) = lookout.hosts({"n": LABELLED})
    assert host.shortage == ""


def test_why_a_node_cannot_say_what_it_is_like_is_told_and_what_it_said_last_stays() -> None:
    nodes = Nodes(answers={"n": TOLD})
    lookout = nodes.lookout()
    lookout.hosts({"n": LABELLED})
    nodes.now += PERIOD_S
    nodes.answers["n"] = HostError("its machine is off")
    (host,) = lookout.hosts({"n": LABELLED})
    assert host.shortage == "its machine is off"
    assert host.room
    assert host.room.memory_mib == 900


def test_a_node_that_has_gone_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    nodes = Nodes(answers={"n": HostError("its machine is off")})
    lookout = nodes.lookout()
    lookout.hosts({"n": LABELLED})
    assert "its machine is off" in capsys.readouterr().out
    assert lookout.hosts({}) == ()
    assert lookout.complete
    assert "a host is gone" in capsys.readouterr().out


def test_a_node_whose_answer_is_waited_for_holds_up_nobody() -> None:
    """The controller's loop comes by here; what asks is a thread of its own."""
    waits = threading.Event()

    def look() -> Host:
        waits.wait()
        return TOLD

    lookout = Lookout(lambda _: in_thread(look))
    assert lookout.hosts({"n": LABELLED}) == (LABELLED,), "it would never return"
    assert not lookout.complete
    waits.set()
    found = eventually(
        lambda: [host for host in lookout.hosts({"n": LABELLED}) if host.room],
        within_s=20,
        what=lambda: f"the node has answered; of it is known: {lookout.hosts({'n': LABELLED})}",
    )
    assert lookout.complete
    assert found[0].room == TOLD.room
