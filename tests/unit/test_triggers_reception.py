"""What becomes of a webhook that was taken, where the farm cannot make a run of it at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from farm.config import load_settings
from farm.errors import FarmError, HostError, ImageError, PlanError, SourceError
from farm.intake import Intake
from farm.model import Plan, Push, RunQuery, Triggered
from farm.store import Store
from farm.store.access import Access
from farm.store.hooks import Hooks
from farm.triggers.reception import Reception
from farm.triggers.settings import Delivery, Trigger
from farm.triggers.waiting import Waiting
from tests.standin import StandIn, standing_in
from tests.unit.test_intake import MATRIX
from tests.unit.test_serve import NoFleet
from tests.waiting import eventually

Begin = Callable[[list[FarmError]], list[FarmError]]
TRIES = 4


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[StandIn]:
    with standing_in(tmp_path / "forge") as started:
        yield started


@pytest.fixture
def begin(store: Store, forge: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Has a push worked on, of which images cannot be settled for some reasons, one after the other."""
    monkeypatch.setenv("HOOK_SECRET", "of the hook")
    (tmp_path / "m.yaml").write_text(MATRIX)
    commit = forge.repository("acme/hello", {"hello.txt": "hello\n"})
    words = {"name": "t", "provider": "gitea", "repository": "acme/*", "secret_env": "HOOK_SECRET"}
    more = {"matrix": tmp_path / "m.yaml", "clone_url": f"{forge.url}/git/{{repository}}.git"}
    trigger = Trigger.model_validate(words | more)
    folders = {"FARM_STATE": str(tmp_path / "s"), "FARM_CACHE": str(tmp_path / "c"), "FARM_RUNTIME": "/tmp/farm-x"}
    push = Push(repository="acme/hello", ref="refs/heads/main", commit=commit, clone_url="")

    def start(reasons: list[FarmError]) -> list[FarmError]:
        told: list[FarmError] = []

        def settle(plan: Plan) -> Plan:
            if len(told) < len(reasons):
                told.append(reasons[len(told)])
                raise told[-1]
            return plan

        Hooks(store.engine).take(Triggered(trigger="t", delivery="d1", push=push), now=datetime.now(UTC))
        Reception(
            [trigger],
            delivery=Delivery(tries=TRIES, first_s=0.01, longest_s=0.02),
            store=store,
            intake=Intake(load_settings(folders), store, NoFleet(), settle),
            access=Access(store.engine),
            wake=lambda: None,
        ).start()
        return told

    return start


def audited(store: Store, action: str) -> dict[str, Any]:
    """What the audit log has of an action, as soon as it has it."""
    access = Access(store.engine)
    (one,) = eventually(
        lambda: [one for one in access.audit() if one.action == action],
        what=lambda: f"the audit log has {action}; it has: {access.audit()}",
    )
    return one.detail


def test_what_may_pass_is_tried_again_until_there_is_a_run(store: Store, begin: Begin) -> None:
    reasons = [SourceError("cannot fetch"), HostError("cannot reach"), ImageError("cannot build")]
    told = begin(list(reasons))
    assert audited(store, "run.submit")["key"] == "d1"
    assert told == reasons
    assert [run.project for run in store.runs(RunQuery())] == ["hello"]
    assert [one for one in Access(store.engine).audit() if one.action == "hook.fail"] == []


def test_it_is_given_up_when_the_tries_are_used_up_and_may_come_again(store: Store, begin: Begin) -> None:
    told = begin([SourceError(f"cannot fetch: {number}") for number in range(TRIES + 1)])
    assert audited(store, "hook.fail")["problem"] == f"cannot fetch: {TRIES - 1}"
    assert len(told) == TRIES
    assert Hooks(store.engine).waiting() == ()


def test_what_does_not_pass_is_given_up_at_once(store: Store, begin: Begin) -> None:
    told = begin([PlanError("cannot plan")] * TRIES)
    assert audited(store, "hook.fail")["problem"] == "cannot plan"
    assert len(told) == 1


def test_what_is_due_first_comes_first_and_what_is_due_at_once_in_its_order() -> None:
    waiting: Waiting[object] = Waiting()
    waiting.put("late", after_s=0.2)
    for number in range(3):
        waiting.put(number)
    assert [waiting.get() for _ in range(4)] == [0, 1, 2, "late"]


def test_who_waits_for_something_late_gets_what_comes_in_between() -> None:
    waiting: Waiting[str] = Waiting()
    waiting.put("late", after_s=3600)
    got = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(waiting.get)
        found.add_done_callback(lambda _: got.set())
        assert not got.is_set()
        waiting.put("now")
        assert found.result(60) == "now"
