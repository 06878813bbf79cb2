"""One at a time serves a store, and no run is left under way by a process that was killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.abandoning import abandon
from farm.config import Settings
from farm.controller import Controller
from farm.model import AttemptKey, Blame, Phase, PhaseStarted, State, Verdict
from farm.service import Service
from farm.store import Store
from farm.store.leases import LASTS, SERVING, of_run
from farm.tenure import finish_lost_runs, in_turns, tenure
from farm.verdict import lost_attempt
from tests.unit.rehearsal import Rehearsal, Silent, now, waits
from tests.unit.test_controller import finished, go, rules, submit, until, verdicts
from tests.unit.test_store import NOW, submission

KILLED = """
import sys, time
from pathlib import Path
from farm.model import AttemptKey
from farm.store import Store
from farm.store.leases import new_owner
from tests.unit.test_store import NOW, PASSED, submission
store = Store.open(sys.argv[1], Path(sys.argv[2]))
run = store.create_run(submission("a", "b", "c"), now=NOW, owner=new_owner()).id
for cell in "ab":
    store.start_attempt(AttemptKey(run=run, cell=cell, number=1), now=NOW)
store.finish_attempt(AttemptKey(run=run, cell="a", number=1), PASSED, now=NOW)
store.finish_cell(run, "a", PASSED, now=NOW)
print(run, flush=True)
time.sleep(600)
"""


@pytest.fixture
def both(database_url: str, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """One store, as two processes see it."""
    stores = (Store.open(database_url, tmp_path), Store.open(database_url, tmp_path))
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for seconds to see whose turn it is."""
    monkeypatch.setattr("farm.tenure.PROLONGED_S", 0.02)


class Server:
    """Serves whenever it is its turn."""

    def __init__(self, store: Store) -> None:
        self.executor, self.stop, self.serves = Rehearsal(), asyncio.Event(), False
        self._store = store
        self.task = asyncio.create_task(in_turns(store, self.stop, self._serve))

    async def _serve(self, stop: asyncio.Event) -> None:
        self.serves = True
        await Controller(self._store, self.executor, Silent()).serve(stop)
        self.serves = False

    async def end(self) -> None:
        self.stop.set()
        await self.task


@pytest.mark.usefixtures("quick")
def test_of_two_servers_one_serves_and_the_other_goes_on_when_that_ends(both: tuple[Store, Store]) -> None:
    async def test() -> None:
        first = Server(both[0])
        await until(lambda: first.serves)
        second = Server(both[1])
        first.executor.parts["a"] = [waits]
        run = submit(both[0], "a", "b")
        await first.executor.until_started(2)
        await until(lambda: verdicts(both[1], run)["b"])
        assert (second.serves, second.executor.orders) == (False, [])
        await first.end()
        await finished(both[1], run)
        await second.end()
        assert [order.key.cell for order in second.executor.orders] == ["a"], "what is finished is not run twice"
        assert rules(both[1], run, "a") == ["interrupted", "passed"]

    go(test())


@pytest.mark.usefixtures("quick")
def test_a_server_that_has_lost_its_turn_ends_its_guests(both: tuple[Store, Store]) -> None:
    async def test() -> None:
        server = Server(both[0])
        server.executor.parts["a"] = [waits]
        submit(both[0], "a")
        await server.executor.until_started(1)
        assert both[1].leases.take(SERVING, "somebody elsewhere", now=now() + 2 * LASTS), "by its clock it is over"
        await until(lambda: not server.serves)
        assert server.executor.under_way == {}
        await server.end()

    go(test())


@pytest.mark.usefixtures("quick")
def test_a_lease_that_is_being_prolonged_is_not_taken_again_after_it_is_given_back(
    both: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, entered, go_on = both[0], threading.Event(), threading.Event()
    take, prolong = store.leases.take, store.leases.prolong

    def slow(name: str, owner: str, *, now: datetime) -> bool:
        entered.set()
        assert go_on.wait(60)
        return prolong(name, owner, now=now)

    async def test() -> None:
        assert take(SERVING, "me", now=now())
        monkeypatch.setattr(store.leases, "prolong", slow)
        async with tenure(store, SERVING, "me"):
            await until(entered.is_set)
            asyncio.get_running_loop().call_later(0.1, go_on.set)
        await asyncio.get_running_loop().shutdown_default_executor()  # whatever the thread still does is done now
        assert not both[1].leases.held(SERVING, now=now())

    try:
        go(test())
    finally:
        go_on.set()


def test_what_comes_late_from_an_attempt_that_another_has_given_up_is_refused(both: tuple[Store, Store]) -> None:
    old, new = both
    now = datetime.now(UTC)  # a run of long ago would have waited too long
    run = old.create_run(submission("a"), now=now).id
    key = AttemptKey(run=run, cell="a", number=1)
    old.start_attempt(key, now=now)

    async def take_over() -> None:
        await Controller(new, Rehearsal(), Silent()).execute(run)

    go(take_over())
    before = new.events(0)
    assert not old.record(key, [PhaseStarted(at=NOW, phase=Phase.TEST)], now=NOW)
    assert new.events(0) == before
    assert rules(new, run) == ["interrupted", "passed"]


@pytest.fixture
def killed(database_url: str, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Kills the process that carries out a run; gives the id of that."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, database_url, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        run = process.stdout.readline().strip()

        def kill() -> str:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return run

        yield kill
        process.kill()


def test_a_run_whose_process_was_killed_is_brought_to_its_end(
    both: tuple[Store, Store], killed: Callable[[], str]
) -> None:
    store = both[0]
    assert finish_lost_runs(store) == (), "its owner is alive"
    run = killed()
    assert finish_lost_runs(store) == (run,)
    assert store.state(run).state is State.FINISHED
    assert verdicts(store, run) == {"a": Verdict.PASSED, "b": Verdict.ERROR, "c": Verdict.ERROR}
    assert [cell.outcome.blame for cell in store.run(run).cells if cell.outcome] == [None, Blame.INFRA, Blame.INFRA]
    assert rules(store, run, "b") == ["attempt-lost"]
    assert store.runs()[0].exit_code == 2
    assert finish_lost_runs(store) == ()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("taken", [True, False], ids=["is ending", "has ended"])
def test_a_run_that_another_has_ended_has_no_guests_any_more(
    both: tuple[Store, Store], database_url: str, tmp_path: Path, taken: bool
) -> None:
    """Its process has only stood still, for longer than its lease lasts."""
    settings = Settings(state=tmp_path, cache=tmp_path, runtime=tmp_path, database=database_url)
    service, executor, other = Service(settings), Rehearsal(slots=1), both[1]
    executor.parts["a"] = [waits]

    async def test() -> None:
        run = service.submit(submission("a", "b")).id
        running = asyncio.create_task(service.execute(run, executor, Silent()))
        await executor.until_started(1)
        if taken:  # by the clock of somebody else it is over
            assert other.leases.take(of_run(run), "somebody elsewhere", now=now() + 2 * LASTS)
            await until(running.done)
        abandon(other, run, lost_attempt("its program was killed"))
        await running
        assert executor.under_way == {}
        assert [order.key.cell for order in executor.orders] == ["a"]
        assert verdicts(other, run) == {"a": Verdict.ERROR, "b": Verdict.ERROR}

    try:
        go(test())
    finally:
        service.store.close()
