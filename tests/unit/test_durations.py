"""How long cells have taken: the store knows it, and every plan is made with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from farm import verdict
from farm.config import Settings
from farm.intake import Intake
from farm.matrix import expansion, loads
from farm.model import AttemptKey, Host, Offer, Outcome, Plan, RunRequest
from farm.service import Service
from farm.store import Store
from tests.unit.test_store import FAILED, NOW, PASSED, later, submission

LOST = verdict.lost_attempt("its worker died")
MATRIX = """\
name: demo
axes: {image: [debian-13], arch: [amd64], hypervisor: [qemu], case: [first, short, long, middle]}
test: "true"
"""
TOOK = {"short": 10.0, "middle": 20.0, "long": 30.0}
OFFER = Offer(hypervisor="qemu", arch="amd64", emulated=True)
HOST = Host(name="h", uri="u", vcpus=1, memory_mib=4096, offers=(OFFER,))


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


def tried(store: Store, cell: str, *attempts: tuple[Outcome, float], name: str = "demo", at: datetime = NOW) -> None:
    """A run of one cell, with attempts that took so many seconds."""
    run = store.create_run(submission(cell, name=name, retries={"infra": 1}), now=at).id
    for number, (outcome, seconds) in enumerate(attempts, 1):
        key = AttemptKey(run=run, cell=cell, number=number)
        store.start_attempt(key, now=at)
        store.finish_attempt(key, outcome, now=at + (later(seconds) - NOW))


def test_a_cell_has_taken_what_its_last_attempt_with_a_result_took(store: Store) -> None:
    assert store.durations("demo") == {}
    tried(store, "a", (PASSED, 10))
    assert store.durations("demo") == {"a": 10}
    tried(store, "a", (FAILED, 20), at=later(100))
    tried(store, "b", (LOST, 5), (PASSED, 30), at=later(200))
    assert store.durations("demo") == {"a": 20, "b": 30}


def test_what_says_nothing_of_a_cell_is_left_out(store: Store) -> None:
    tried(store, "a", (PASSED, 10))
    tried(store, "a", (LOST, 500), at=later(100))
    tried(store, "a", (PASSED, 500), name="another", at=later(200))
    run = store.create_run(submission("a", "b"), now=later(300)).id
    store.start_attempt(AttemptKey(run=run, cell="b", number=1), now=later(300))
    assert store.durations("demo") == {"a": 10}


class OneHost:
    """Implements `farm.intake.Fleet`."""

    def hosts(self) -> tuple[Host, ...]:
        """It."""
        return (HOST,)


def planned_by_the_service(settings: Settings, _store: Store) -> Plan:
    document, service = loads(MATRIX, file="m.yaml"), Service(settings)
    made = service.plan(document.matrix, expansion(document.matrix, document.at), [HOST])
    service.store.close()
    return made


def planned_by_the_intake(settings: Settings, store: Store) -> Plan:
    return Intake(settings, store, OneHost(), lambda plan: plan).plan(RunRequest(matrix=MATRIX))


@pytest.mark.parametrize("plan", [planned_by_the_service, planned_by_the_intake])
def test_a_plan_is_made_with_what_cells_took_the_longest_first(
    database_url: str, store: Store, tmp_path: Path, plan: Callable[[Settings, Store], Plan]
) -> None:
    for case, seconds in TOOK.items():
        tried(store, f"debian-13/amd64/qemu/case={case}", (PASSED, seconds))
    settings = Settings(state=tmp_path, cache=tmp_path, runtime=tmp_path, database=database_url)
    made = plan(settings, store)
    found = {placement.cell.id.partition("case=")[2]: placement.expected_s for placement in made.placements}
    assert {case: found[case] for case in TOOK} == TOOK
    assert list(found) == ["first", "long", "middle", "short"], "what was never tried may be the longest"
