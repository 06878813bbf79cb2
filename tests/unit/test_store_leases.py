"""Leases: one owner at a time; the end of a process is the end of what it had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.store import Store
from farm.store.leases import LASTS, new_owner, of_run, there
from tests.unit.test_store import NOW, submission

SOON, LATER = NOW + LASTS / 2, NOW + 2 * LASTS
ELSEWHERE = "another-machine/pid:[1]/7@9 x"


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def dead() -> str:
    """The name of an owner in a process that has ended."""
    command = [sys.executable, "-c", "from farm.store.leases import new_owner; print(new_owner(), end='')"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_process_knows_who_is_there(dead: str) -> None:
    assert [there(owner) for owner in (new_owner(), dead, ELSEWHERE, "", "nonsense")] == [True, False, None, None, None]


def test_a_number_that_is_another_process_by_now_is_nobody() -> None:
    place, _, name = new_owner().rpartition(" ")
    assert there(f"{place.partition('@')[0]}@1 {name}") is False


def test_one_at_a_time_has_a_lease(store: Store) -> None:
    mine, other = new_owner(), new_owner()
    take = store.leases.take
    assert take("x", mine, now=NOW)
    assert not take("x", other, now=SOON)
    assert take("y", other, now=SOON)
    assert take("x", mine, now=SOON), "it is prolonged"
    assert not take("x", other, now=NOW + LASTS)
    store.leases.give_back("x", other)
    assert not take("x", other, now=SOON), "nobody gives back what is another's"
    store.leases.give_back("x", mine)
    assert take("x", other, now=SOON)


def test_only_who_has_a_lease_prolongs_it(store: Store) -> None:
    mine, other = new_owner(), new_owner()
    prolong = store.leases.prolong
    assert not prolong("x", mine, now=NOW), "there is none"
    assert store.leases.take("x", mine, now=NOW)
    assert not prolong("x", other, now=LATER)
    assert prolong("x", mine, now=LATER), "nobody has taken it meanwhile"
    assert not store.leases.take("x", other, now=LATER + LASTS / 2)
    store.leases.drop("x")
    assert not prolong("x", mine, now=LATER), "what it was of has ended"


def test_who_stands_still_for_too_long_loses_it(store: Store) -> None:
    mine, other = new_owner(), new_owner()
    assert store.leases.take("x", mine, now=NOW)
    assert store.leases.take("x", other, now=LATER)
    assert not store.leases.take("x", mine, now=LATER)


def test_nobody_waits_for_the_lease_of_a_process_that_is_no_more(store: Store, dead: str) -> None:
    for owner, taken in ((dead, True), (ELSEWHERE, False)):
        assert store.leases.take(owner, owner, now=NOW)
        assert store.leases.take(owner, new_owner(), now=SOON) is taken


def test_the_dead_runs_are_those_whose_owner_is_no_more(store: Store, dead: str) -> None:
    owners = {"dead": dead, "here": new_owner(), "elsewhere": ELSEWHERE, "nobodys": ""}
    runs = {name: store.create_run(submission(name=name), now=NOW, owner=owner).id for name, owner in owners.items()}
    assert store.leases.dead_runs(now=SOON) == (runs["dead"],)
    assert set(store.leases.dead_runs(now=LATER)) == {runs["dead"], runs["elsewhere"]}
    store.leases.drop(of_run(runs["dead"]))
    assert store.leases.dead_runs(now=SOON) == ()
