"""What a reservation is stored as, and what it is at each moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from farm.errors import ConfigError, PlanError
from farm.model import (
    NO_SOURCE,
    AttemptKey,
    Evidence,
    Held,
    HoldState,
    Host,
    Offer,
    ReservationRequest,
    RunQuery,
    RunSummary,
    State,
)
from farm.orders import order_for
from farm.reservations import Reservations, planned, submission_of
from farm.store import Store
from tests.unit.test_sshkey import KEY
from tests.unit.test_store import FAILED, NOW, later

HOST = Host(
    name="h",
    uri="qemu:///embed",
    vcpus=2,
    memory_mib=2048,
    offers=(
        Offer(hypervisor="kvm", arch="amd64", emulated=False),
        Offer(hypervisor="qemu", arch="amd64", emulated=True),
    ),
)
WANTED: dict[str, Any] = {"image": "debian-13", "arch": "amd64", "for": "2h", "ssh_key": f"{KEY} me"}


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


def wanted(**changes: Any) -> ReservationRequest:
    return ReservationRequest.model_validate(WANTED | changes)


def test_a_reservation_is_one_cell_of_no_program_with_an_owner_s_key() -> None:
    more = {
        "guest": {"packages": ["gcc"], "min-ready": 3},
        "with": "pg",
        "layers": {"pg": {"packages": ["postgresql"]}},
    }
    submission = submission_of(wanted(**more), planned(wanted(**more), [HOST]), limit_s=86400)
    (placement,) = submission.plan.placements
    assert (placement.cell.id, placement.hypervisor) == ("debian-13/amd64/pg", "kvm")
    assert (submission.source, submission.labels) == (NO_SOURCE, {"reservation": "yes"})
    order = order_for(submission, placement, AttemptKey(run="reserve-1", cell=placement.cell.id, number=1))
    assert (order.scripts, order.reserved_s, order.ssh_key, order.hold_limit_s) == ({}, 7200, KEY, 86400)
    assert (order.image.packages, [layer.name for layer in order.image.layers]) == (("gcc",), ["pg"])
    assert order.guest.min_ready == 0


@pytest.mark.parametrize(
    ("changes", "cell", "hypervisor"),
    [({}, "debian-13/amd64", "kvm"), ({"hypervisor": "qemu"}, "debian-13/amd64/qemu", "qemu")],
)
def test_its_id_names_what_was_asked_for(changes: dict[str, Any], cell: str, hypervisor: str) -> None:
    (placement,) = planned(wanted(**changes), [HOST]).placements
    assert (placement.cell.id, placement.hypervisor) == (cell, hypervisor)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"arch": "s390x"}, PlanError, "no host knows the architecture"),
        ({"guest": {"memory": "4G"}}, PlanError, "has 2048 MiB for guests"),
        ({"with": "pg"}, ConfigError, "pg"),
    ],
)
def test_what_nobody_can_run_is_refused(changes: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        planned(wanted(**changes), [HOST])


def test_one_for_longer_than_may_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot reserve a guest for 2 h"):
        submission_of(wanted(), planned(wanted(), [HOST]), limit_s=3600)


def test_what_a_reservation_is_at_each_moment(store: Store) -> None:
    owned = submission_of(wanted(), planned(wanted(), [HOST]), limit_s=86400).model_copy(update={"owner": "me"})
    run = store.create_run(owned, now=NOW)
    key, guests = AttemptKey(run=run.id, cell=run.cells[0].id, number=1), Reservations(store)
    held = Held(at=later(1), command="ssh x", until=later(9), evidence=Evidence())

    def state(at_s: float) -> HoldState | None:
        open_ = {one.id: one.state for one in guests.open("me", now=later(at_s))}
        return open_.get(run.id)

    assert state(0) is HoldState.WAITING
    store.start_attempt(key, now=NOW)
    store.record(key, [held])
    assert state(8) is HoldState.READY
    assert guests.release(run.id, now=later(3)).state is HoldState.ENDING
    assert state(3) is HoldState.ENDING
    store.holds.end(key, now=later(4))
    assert state(4) is HoldState.ENDING
    store.finish_attempt(key, FAILED, now=later(5))
    assert state(5) is None
    again = AttemptKey(run=run.id, cell=key.cell, number=2)
    store.start_attempt(again, now=later(6))
    assert state(6) is HoldState.WAITING  # for another guest: that one was lost
    assert guests.release(run.id, now=later(7)).state is HoldState.ENDING


def test_a_guest_that_begins_while_the_list_is_made_is_in_it_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submission_of(wanted(), planned(wanted(), [HOST]), limit_s=86400)
    run = store.create_run(made.model_copy(update={"owner": "ada", "served": True}), now=NOW)
    runs = store.runs

    def then_it_begins(query: RunQuery) -> tuple[RunSummary, ...]:
        found = runs(query)
        if store.outline(run.id).state is State.QUEUED:
            store.start_attempt(AttemptKey(run=run.id, cell=run.cells[0].id, number=1), now=NOW)
        return found

    monkeypatch.setattr(store, "runs", then_it_begins)
    for _ in range(2):
        assert [one.id for one in Reservations(store).open("ada", now=NOW)] == [run.id]
