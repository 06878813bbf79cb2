"""The controller with several hosts, several users, and cells that are cancelled one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from farm import health, lifecycle
from farm.controller import Controller
from farm.errors import AttemptLostError, HostError
from farm.model import (
    AttemptEnded,
    Ending,
    Event,
    Evidence,
    Failure,
    HostMark,
    Mark,
    Order,
    Phase,
    Placed,
    Verdict,
)
from farm.schedule import Limits
from farm.selftests import SelfTests
from farm.store import Store
from farm.store.events import Heard
from tests.unit.rehearsal import Part, Rehearsal, Silent, a_host, now, passes, waits
from tests.unit.test_controller import finished, go, rules, serving, store, submit, until, verdicts
from tests.unit.test_store import submission

__all__ = ["store"]


def breaks_on(*bad: str, hosts: tuple[str, ...] = ("a", "b")) -> Part:
    """An attempt on the first host that it may go to; infra fails on some of them."""

    async def part(order: Order) -> AsyncGenerator[Event, None]:
        host = next(one for one in hosts if one not in order.avoid)
        yield Placed(at=now(), host=host)
        if host in bad:
            raise AttemptLostError(f"the worker on {host} died")
        async for event in passes(order):
            yield event

    return part


def is_full(host: str) -> Part:
    async def part(_order: Order) -> AsyncGenerator[Event, None]:
        yield Placed(at=now(), host=host)
        failure = Failure(phase=Phase.PROVISION, ending=Ending.FAILED, error="FullError", message="no space left")
        yield AttemptEnded(at=now(), evidence=Evidence(failure=failure))

    return part


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "FIRST_BACKOFF_S", 0.01)


def farm_of(*names: str, slots: int = 4) -> Rehearsal:
    executor = Rehearsal()
    executor.there = tuple(a_host(name, slots) for name in names)
    return executor


def test_a_retry_goes_to_another_host(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("a", "b"), submit(store, "x")
        executor.parts["x"] = [breaks_on("a")] * 2
        await Controller(store, executor, Silent()).execute(run)
        assert [order.avoid for order in executor.orders] == [(), ("a",)]
        assert verdicts(store, run) == {"x": Verdict.PASSED}
        assert [one.host for one in store.cell(run, "x").attempts] == ["a", "b"]

    go(test())


def test_a_retry_goes_back_where_there_is_no_other_host(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("a"), submit(store, "x")
        executor.parts["x"] = [breaks_on("a")]
        await Controller(store, executor, Silent()).execute(run)
        assert [order.avoid for order in executor.orders] == [(), ()]

    go(test())


def test_a_cell_that_needs_more_than_labels_tell_goes_where_it_fits_now(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("new"), submit(store, "x", requires={"memory": ">= 1 MB"})
        assert store.run(run).submission.plan.placements[0].hosts == ("h",)
        await Controller(store, executor, Silent()).execute(run)
        assert [(order.only, order.avoid) for order in executor.orders] == [(("new",), ())]

    go(test())


def test_a_host_that_keeps_failing_is_taken_out_with_the_reason_and_its_cells_go_on_elsewhere(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("a", "b"), submit(store, "x", "y", "z")
        executor.parts = {cell: [breaks_on("a")] * 2 for cell in ("x", "y", "z")}
        async with serving(store, executor):
            await finished(store, run)
        (mark,) = store.hosts.all()
        assert (mark.name, mark.mark, mark.tries) == ("a", Mark.FAILED, 0)
        assert "3 attempts in a row failed there" in mark.reason
        assert "the worker on a died" in store.hosts.why()["a"]
        assert set(verdicts(store, run).values()) == {Verdict.PASSED}

    go(test())


def test_a_run_by_itself_judges_hosts_too_but_goes_on_with_the_last(store: Store) -> None:
    """Also by `farm run`, whose hosts may be a cluster's."""

    async def test() -> None:
        executor, run = farm_of("a", "b"), submit(store, "x", "y", "z")
        executor.parts = {cell: [breaks_on("a")] * 2 for cell in ("x", "y", "z")}
        await Controller(store, executor, Silent()).execute(run)
        assert [(mark.name, mark.mark) for mark in store.hosts.all()] == [("a", Mark.FAILED)]
        executor, run = farm_of("b"), submit(store, "x", "y", "z")
        executor.parts = {cell: [breaks_on("b", hosts=("b",))] for cell in ("x", "y", "z")}
        await Controller(store, executor, Silent()).execute(run)
        assert [mark.name for mark in store.hosts.all()] == ["a"]
        assert set(verdicts(store, run).values()) == {Verdict.PASSED}

    go(test())


def test_a_host_that_was_taken_out_is_tested_by_a_run_that_waits_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has taken it out may be no more."""
    monkeypatch.setattr(health, "FIRST_TEST_S", 0.05)

    async def test() -> None:
        store.hosts.put(HostMark(name="a", mark=Mark.FAILED, reason="it burns", since=now(), due=now()))
        executor, run = farm_of("a"), submit(store, "x")
        await Controller(store, executor, Silent()).execute(run)
        assert verdicts(store, run) == {"x": Verdict.PASSED}
        assert store.hosts.all() == ()

    go(test())


def test_a_host_has_no_part_in_what_the_store_does_not_take(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    take = store.record_all

    def record_all(heard: Sequence[Heard]) -> Any:
        if any(one.key.number == 1 for one in heard):
            raise HostError("cannot record it: the disk is full")
        return take(heard)

    async def test() -> None:
        executor, run = farm_of("a"), submit(store, "x", "y", "z")
        executor.parts = {cell: [breaks_on()] * 2 for cell in ("x", "y", "z")}
        monkeypatch.setattr(store, "record_all", record_all)
        async with serving(store, executor):
            await finished(store, run)
        assert store.hosts.all() == ()
        assert set(verdicts(store, run).values()) == {Verdict.PASSED}

    go(test())


def test_a_host_that_passes_its_test_takes_work_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FIRST_TEST_S", 0.05)

    async def test() -> None:
        executor, run = farm_of("a", "b"), submit(store, "x", "y", "z")
        executor.parts = {cell: [breaks_on("a")] * 2 for cell in ("x", "y", "z")}
        executor.parts["a"] = [breaks_on("a", hosts=("a",)), passes]  # its self-tests: the first fails
        async with serving(store, executor):
            await finished(store, run)
            await until(lambda: not store.hosts.all())
        tests = [order for order in executor.orders if order.key.run == "self-test"]
        assert [(order.key.number, order.only, order.scripts) for order in tests] == [(1, ("a",), {}), (2, ("a",), {})]

    go(test())


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (HostError("the disk is full"), "the disk is full"),
        (KeyError("placement"), "a defect of the farm: KeyError: 'placement'"),
    ],
)
def test_a_host_that_cannot_be_tested_is_tested_again_later(
    store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str, *, full: bool
) -> None:
    asked: list[str] = []

    def sound(host: str) -> None:
        asked.append(host)
        raise error

    def fails(*_: object, **__: object) -> None:
        raise HostError("the disk is full")

    async def test() -> None:
        monkeypatch.setattr(store.hosts, "sound", sound)
        if full:
            monkeypatch.setattr(store.hosts, "tested", fails)
        store.hosts.put(HostMark(name="a", mark=Mark.FAILED, reason="it burns", since=now(), due=now()))
        tests = SelfTests(store, farm_of("a"), lambda: None)
        for _ in range(3):
            tests.look(store.hosts.all(), ["a"])
            await asyncio.gather(*tests._tasks.values())
            await asyncio.sleep(0)  # it is no task any more
        assert asked == ["a"]
        (mark,) = store.hosts.all()
        assert mark.due
        assert (mark.tries, mark.due > now()) == ((0, False) if full else (1, True))
        assert mark.reason == ("it burns" if full else f"it burns; its test: {told}")

    go(test())


def test_a_full_host_takes_no_new_work_and_uses_up_no_retry(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("a", "b"), submit(store, "x", retries={"infra": 0})
        executor.parts["x"] = [is_full("a"), passes]
        async with serving(store, executor):
            await finished(store, run)
        assert rules(store, run, "x") == ["host-full", "passed"]
        (mark,) = store.hosts.all()
        assert (mark.name, mark.mark) == ("a", Mark.FULL)
        assert executor.orders[1].avoid == ("a",)

    go(test())


def test_what_a_person_has_drained_stays_a_persons(store: Store) -> None:
    async def test() -> None:
        store.hosts.drain("a", "new disks", now=now())
        executor, run = farm_of("a", "b"), submit(store, "x")
        executor.parts["x"] = [is_full("a"), passes]
        async with serving(store, executor):
            await finished(store, run)
        assert store.hosts.why() == {"a": "new disks"}

    go(test())


def test_one_cell_is_cancelled_and_the_others_go_on(store: Store) -> None:
    async def test() -> None:
        executor, run = farm_of("a", slots=2), submit(store, "x", "y", "z")
        executor.parts = {"x": [waits], "y": [waits]}
        async with serving(store, executor) as controller:
            await executor.until_started(2)
            assert store.request_cancel_cells(run, ["x"], now=now()) == ("x",)
            controller.wake()
            await executor.until_started(3)  # z, in the room of x
            assert set(verdicts(store, run)) == {"x", "y", "z"}
            assert store.request_cancel_cells(run, ["x", "y"], now=now()) == ("y",)
            controller.wake()
            await finished(store, run)
        assert verdicts(store, run) == {"x": Verdict.CANCELLED, "y": Verdict.CANCELLED, "z": Verdict.PASSED}
        assert not store.run(run).cancelled

    go(test())


def test_a_cell_that_only_waits_is_cancelled_too(store: Store) -> None:
    async def test() -> None:
        executor = farm_of()
        executor.there = (a_host("a", 0),)
        run = submit(store, "x")
        async with serving(store, executor) as controller:
            await asyncio.sleep(0)
            store.request_cancel_cells(run, ["x"], now=now())
            controller.wake()
            await finished(store, run)
        assert verdicts(store, run) == {"x": Verdict.CANCELLED}

    go(test())


def test_users_share_the_room_and_keep_to_their_limits(store: Store) -> None:
    async def test() -> None:
        executor = farm_of("a", slots=4)
        mine, hers = (of_user(store, name, owner) for name, owner in (("mine", "ann"), ("hers", "bob")))
        for cell in "uvwxyz":
            executor.parts[cell] = [waits, waits]
        controller, stop = Controller(store, executor, Silent(), Limits(of={"bob": 1})), asyncio.Event()
        task = asyncio.create_task(controller.serve(stop))
        await executor.until_started(4)
        assert sorted(order.key.run for order in executor.orders) == [hers, *[mine] * 3]
        stop.set()
        await task

    go(test())


def of_user(store: Store, name: str, owner: str) -> str:
    made = submission(*"uvwxyz", name=name).model_copy(update={"served": True, "owner": owner})
    return store.create_run(made, now=now()).id
