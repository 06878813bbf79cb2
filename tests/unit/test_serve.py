"""A server's thread begins and ends, however close together that is; a store is read by many threads at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from farm.config import load_settings
from farm.errors import BusyError, ConflictError, NotFoundError
from farm.images import ImageDifference, ImageFacts, ImageLine
from farm.model import ArtifactFound, AttemptKey, Host, State
from farm.serve import Server, alone
from farm.serverconfig import ServerConfig
from farm.store import Store
from farm.store.keys import Claim, Keys
from farm.store.leases import SERVING, new_owner
from tests.postgres import Postgres
from tests.unit.rehearsal import Rehearsal, now, waits
from tests.unit.test_store import submission
from tests.waiting import eventually

LONG_S = 240.0


class NoFleet:
    """Implements `farm.intake.Fleet`."""

    def hosts(self) -> tuple[Host, ...]:
        """None."""
        return ()


class NoImages:
    """Implements `farm.images.Images`."""

    def all(self) -> tuple[ImageLine, ...]:
        """None."""
        return ()

    def show(self, name: str) -> ImageFacts:
        """There is none."""
        raise NotFoundError(f"cannot find the image {name}")

    def diff(self, before: str, after: str) -> ImageDifference:
        """There are none."""
        raise NotFoundError(f"cannot compare {before} with {after}")


def server(store: Store, executor: Rehearsal, tmp_path: Path) -> Server:
    return Server(
        settings=load_settings({"FARM_STATE": str(tmp_path), "FARM_RUNTIME": "/tmp/farm-x"}),
        config=ServerConfig(),
        store=store,
        executor=executor,
        fleet=NoFleet(),
        settle=lambda plan: plan,
        images=NoImages(),
        orphans=lambda: 0,
    )


def test_a_server_that_is_stopped_at_once_has_stopped(store: Store, tmp_path: Path) -> None:
    for _ in range(20):
        one = server(store, Rehearsal(), tmp_path)
        one.start()
        one.wake()
        one.stop()
        assert not one.alive


def test_a_server_that_was_never_started_can_be_stopped_and_woken(store: Store, tmp_path: Path) -> None:
    one = server(store, Rehearsal(), tmp_path)
    one.wake()
    one.stop()
    assert not one.alive


def test_a_server_can_be_stopped_twice_and_woken_afterwards(store: Store, tmp_path: Path) -> None:
    one = server(store, Rehearsal(), tmp_path)
    one.start()
    one.stop()
    one.stop()
    one.wake()
    assert not one.alive


def test_a_server_that_starts_frees_the_keys_of_a_process_that_is_no_more_and_no_others(
    store: Store, tmp_path: Path
) -> None:
    """Another server on the same store lives and works on its request; a run keeps its key for ever."""
    claims = killed, living, elsewhere, done = [Claim("ada", key, "d") for key in ("k1", "k2", "k3", "k4")]
    for claim, worker in zip(claims, (_dead(), new_owner(), "another-machine/pid:[1]/7@9 x", _dead()), strict=True):
        keys = Keys(store.engine)
        keys._worker = worker
        assert keys.claim(claim, now=now()) is None
    run = store.create_run(submission("a"), now=now(), claim=done).id
    keys = Keys(store.engine)
    with pytest.raises(BusyError):
        keys.claim(killed, now=now() + timedelta(hours=23))
    one = server(store, Rehearsal(), tmp_path)
    one.start()
    one.stop()
    assert keys.claim(killed, now=now()) is None
    assert keys.claim(done, now=now()) == run
    for claim in (living, elsewhere):
        with pytest.raises(BusyError):
            keys.claim(claim, now=now())


def _dead() -> str:
    """The name of an owner in a process that has ended."""
    command = [sys.executable, "-c", "from farm.store.leases import new_owner; print(new_owner(), end='')"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_stopping_waits_for_the_end_of_the_guests(store: Store, tmp_path: Path) -> None:
    executor = Rehearsal()
    executor.parts["a"] = [waits]
    run = store.create_run(submission("a").model_copy(update={"served": True}), now=now()).id
    one = server(store, executor, tmp_path)
    one.start()
    eventually(
        lambda: executor.under_way, within_s=LONG_S, as_long_as=lambda: one.alive, what="an attempt is under way"
    )
    one.stop()
    assert executor.under_way == {}
    assert store.state(run).cells[0].attempts[0].state is State.FINISHED


def test_only_one_serves_a_store(tmp_path: Path) -> None:
    settings = load_settings({"FARM_STATE": str(tmp_path), "FARM_RUNTIME": "/tmp/farm-x"})
    with alone(settings), pytest.raises(ConflictError), alone(settings):
        pass
    with alone(settings):
        pass


def test_on_postgresql_two_servers_of_one_machine_take_turns(
    postgres_server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.tenure.PROLONGED_S", 0.05)
    url = postgres_server.create()
    settings = load_settings({"FARM_STATE": str(tmp_path), "FARM_RUNTIME": "/tmp/farm-x", "FARM_DATABASE": url})
    with alone(settings), alone(settings), closing(Store.open(url, tmp_path)) as store:
        assert not store.leases.held(SERVING, now=now())
        executors = Rehearsal(), Rehearsal()
        first, second = (server(store, executor, tmp_path) for executor in executors)
        executors[0].parts["a"] = [waits]
        run = store.create_run(submission("a").model_copy(update={"served": True}), now=now()).id
        first.start()
        eventually(
            lambda: executors[0].under_way,
            within_s=LONG_S,
            as_long_as=lambda: first.alive,
            what="the first has an attempt under way",
        )
        second.start()
        assert store.leases.held(SERVING, now=now())
        assert executors[1].orders == []
        first.stop()
        eventually(
            lambda: store.state(run).state is State.FINISHED,
            within_s=LONG_S,
            as_long_as=lambda: second.alive,
            what=lambda: f"the second finishes the run; it is: {store.state(run)}",
        )
        second.stop()
        assert [len(executor.orders) for executor in executors] == [1, 1]
        assert not store.leases.held(SERVING, now=now())


def test_more_runs_than_are_kept_in_memory_can_be_read_by_many_threads_at_once(store: Store) -> None:
    runs = [store.create_run(submission(f"cell-{number}"), now=now()).id for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        found = threads.map(lambda number: store.outline(runs[number % 40]).cells[0].id, range(400))
        assert list(found) == [f"cell-{number % 40}" for number in range(400)]


def test_artifacts_of_many_attempts_can_be_written_and_closed_by_many_threads_at_once(store: Store) -> None:
    cells = [f"cell-{number}" for number in range(30)]
    run = store.create_run(submission(*cells), now=now()).id
    keys = [AttemptKey(run=run, cell=cell, number=1) for cell in cells]
    for key in keys:
        store.start_attempt(key, now=now())

    def write(key: AttemptKey) -> None:
        for number in range(3):
            store.record(key, [ArtifactFound(at=now(), path=f"f{number}", data=b"x" * 10)], now=now())
        store.files.close(key)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, keys))
    assert all(len(attempt.artifacts) == 3 for cell in store.run(run).cells for attempt in cell.attempts)


def test_a_controller_that_cannot_go_on_is_not_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    one = server(store, Rehearsal(), tmp_path)
    monkeypatch.setattr(one._controller, "serve", fails)
    one.start()
    one.stop()
    assert not one.alive
