"""What a store on PostgreSQL has to prove beyond what holds of both databases."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from farm.errors import ConfigError, HostError
from farm.model import AttemptKey, Phase, PhaseStarted, TestResult, TestsFound, TestStatus, Verdict
from farm.model.history import TestQuery
from farm.store import Store
from farm.store.database import MIGRATIONS, reading, writing
from farm.store.dialects import DIALECTS
from farm.store.history import History
from farm.store.tables import metadata
from tests.postgres import Postgres, postgres, programs
from tests.unit.rehearsal import Rehearsal, now, waits
from tests.unit.test_controller import finished, go, serving, submit, until, verdicts
from tests.unit.test_store import NOW, PASSED, submission


@pytest.fixture
def url(postgres_server: Postgres) -> str:
    return postgres_server.create()


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(url, tmp_path)
    yield opened
    opened.close()


def alembic(store: Store, action: str, revision: str) -> None:
    with writing(store.engine, "migrate") as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        getattr(command, action)(config, revision)


def test_the_migrated_schema_is_that_of_the_tables(store: Store) -> None:
    with reading(store.engine, "compare") as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_runs_outlive_the_way_down_and_up(store: Store, url: str, tmp_path: Path) -> None:
    run = store.create_run(submission("a"), now=NOW)
    alembic(store, "downgrade", "0003")
    alembic(store, "upgrade", "head")
    with_an_empty_memory = Store.open(url, tmp_path)
    assert with_an_empty_memory.run(run.id) == run
    with_an_empty_memory.close()


def test_events_become_visible_in_the_order_of_their_ids(url: str, tmp_path: Path) -> None:
    stores = [Store.open(url, tmp_path) for _ in range(4)]
    keys = [AttemptKey(run=stores[0].create_run(submission("a"), now=NOW).id, cell="a", number=1) for _ in stores]
    for key in keys:
        stores[0].start_attempt(key, now=NOW)
    first, done = stores[0].last_event(), threading.Event()

    def speak(place: int) -> None:
        for _ in range(25):
            assert stores[place].record(keys[place], [PhaseStarted(at=NOW, phase=Phase.TEST)] * 3, now=NOW)

    def listen() -> list[int]:
        heard: list[int] = []
        while True:
            over = done.is_set()
            heard += [event.id for event in stores[0].events(heard[-1] if heard else first)]
            if over:
                return heard

    with ThreadPoolExecutor(len(stores) + 1) as pool:
        listener = pool.submit(listen)
        for speaker in [pool.submit(speak, place) for place in range(len(stores))]:
            speaker.result()
        done.set()
        heard = listener.result()
    assert heard == [event.id for event in stores[0].events(first)]
    assert len(heard) == len(stores) * 25 * 3
    for store in stores:
        store.close()


def test_several_may_submit_at_once(url: str, tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def submit(_: int) -> str:
        store = Store.open(url, tmp_path)
        together.wait()
        run = store.create_run(submission("a"), now=NOW).id
        store.close()
        return run

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(submit, range(4))) == [f"demo-{number}" for number in range(1, 5)]


def test_ids_go_beyond_what_four_bytes_hold(store: Store) -> None:
    with writing(store.engine, "count far") as connection:
        connection.execute(text("SELECT setval('events_id_seq', 3000000000)"))
    store.create_run(submission("a"), now=NOW)
    assert store.last_event() == 3_000_000_001
    assert [event.kind for event in store.events(3_000_000_000)] == ["run-submitted"]


def test_a_test_may_have_a_name_of_any_length(store: Store) -> None:
    names = tuple(f"{'ä' * 5000}{number}" for number in range(2))
    run = store.create_run(submission("a"), now=NOW).id
    key = AttemptKey(run=run, cell="a", number=1)
    store.start_attempt(key, now=NOW)
    tests = tuple(TestResult(suite="s", name=name, status=TestStatus.PASSED) for name in names)
    store.record(key, [TestsFound(at=NOW, tests=tests)])
    store.finish_attempt(key, PASSED, now=NOW)
    store.finish_cell(run, "a", PASSED, now=NOW)
    store.finish_run(run, now=NOW, cancelled=False)
    (hit,) = History(store.engine).results(TestQuery(project="demo", name=names[1]))
    assert hit.name == names[1]


@pytest.fixture
def silent_s(monkeypatch: pytest.MonkeyPatch) -> float:
    """For how long nobody listens in vain."""
    monkeypatch.setattr("farm.store.postgres.SILENT_S", 0.5)
    return 0.5


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """One that may stand still without anybody else waiting for it."""
    with postgres(programs()) as server:
        yield server


def test_a_server_that_stands_still_is_waited_for_no_longer_than_it_may_take(
    own_server: Postgres, silent_s: float, tmp_path: Path
) -> None:
    store = Store.open(f"{own_server.create()}&connect_timeout=2", tmp_path)
    run = store.create_run(submission("a"), now=NOW)
    with own_server.frozen():
        for _ in range(2):  # on a connection that there was, and on a new one
            began = time.monotonic()
            with pytest.raises(HostError, match="cannot read the run") as caught:
                store.run(run.id)
            assert "PostgreSQL runs" in caught.value.hint
            assert time.monotonic() - began < silent_s + 2 + 5
    assert store.run(run.id) == run
    store.close()


def test_runs_go_on_when_a_server_that_stood_still_moves_again(
    own_server: Postgres, silent_s: float, tmp_path: Path
) -> None:
    store = Store.open(f"{own_server.create()}&connect_timeout=2", tmp_path)

    async def test() -> None:
        cells, executor = [f"c{number}" for number in range(20)], Rehearsal()
        run = submit(store, *cells)
        executor.parts["c0"] = [waits]
        async with serving(store, executor):
            await until(lambda: store.cell(run, "c0").attempts)
            with own_server.frozen():
                await asyncio.to_thread(time.sleep, 4 * silent_s)
            other = submit(store, "z")
            await finished(store, other)
            store.request_cancel(run, now=now())
            await finished(store, run)
        assert verdicts(store, run)["c0"] is Verdict.CANCELLED

    go(test())
    store.close()


def test_a_statement_that_takes_too_long_is_ended_and_a_migration_takes_its_time(
    postgres_server: Postgres, silent_s: float, tmp_path: Path
) -> None:
    store = Store.open(postgres_server.create(), tmp_path)
    long = text(f"SELECT pg_sleep({2 * silent_s})")
    with (
        pytest.raises(HostError, match="cannot sleep: canceling statement due to statement timeout"),
        reading(store.engine, "sleep") as db,
    ):
        db.execute(text("SET LOCAL statement_timeout = 100"))
        db.execute(long)
    with (
        pytest.raises(HostError, match=f"cannot sleep: it has said nothing for {silent_s:g} s"),
        reading(store.engine, "sleep") as db,
    ):
        db.execute(long)
    with writing(store.engine, "sleep") as db, DIALECTS["postgresql"].take_time(db):
        db.execute(long)
        assert db.execute(text("SHOW statement_timeout")).scalar_one() == "0"
    with reading(store.engine, "look") as db:
        assert db.execute(text("SHOW statement_timeout")).scalar_one() == "30s"
    store.close()


@pytest.mark.parametrize("place", ["/farm?host=/nowhere", "127.0.0.1:1/farm"])
def test_a_server_that_does_not_answer_is_told_without_the_password(tmp_path: Path, place: str) -> None:
    with pytest.raises(HostError, match="cannot open the store postgresql") as caught:
        Store.open(f"postgresql://farm:secret@{place}", tmp_path)
    assert "PostgreSQL runs" in caught.value.hint
    assert "secret" not in str(caught.value)


def test_a_database_that_is_not_there_is_a_wrong_setting(url: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, HostError), match="cannot open the store") as caught:
        Store.open(url.replace("farm@/", "farm@/no"), tmp_path)
    assert "FARM_DATABASE" in caught.value.hint
