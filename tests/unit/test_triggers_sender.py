"""Deliveries survive a restart, come in order, and hold up nobody: a real store and a real receiver."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm.errors import ConfigError, ConflictError, NotFoundError
from farm.feed import Feed
from farm.model import DeliveryRecord, NewDelivery, Outcome, Push, RunRecord, Triggered, Verdict
from farm.serverconfig import ServerConfig
from farm.store import Store
from farm.store.deliveries import Deliveries
from farm.store.hooks import Hooks
from farm.store.keys import Claim, Keys
from farm.triggers.sender import Sender
from tests.standin import SECRET, TOKEN, StandIn, standing_in
from tests.unit.records import PASSED, demo_run
from tests.waiting import eventually

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
COMMIT = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e"
PUSH = Push(repository="acme/hello", ref="refs/heads/main", commit=COMMIT, clone_url="https://github.com/x.git")
HOOK = Triggered(trigger="hello", delivery="d-1", also=("body 1",), push=PUSH)
WAIT_S = 30


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[StandIn]:
    with standing_in(tmp_path / "receiver") as started:
        yield started


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_SECRET", SECRET)
    monkeypatch.setenv("FORGE_TOKEN", TOKEN)


def notify(url: str, **changes: Any) -> dict[str, Any]:
    values = {"name": "chat", "url": url, "secret_env": "CHAT_SECRET", "events": ["run-submitted", "run-finished"]}
    return values | changes


def config(receiver: StandIn, **more: Any) -> ServerConfig:
    trigger = {"name": "hello", "provider": "github", "repository": "*/*", "secret_env": "S", "matrix_name": "m"}
    status = {
        "name": "github",
        "provider": "github",
        "api_url": f"{receiver.url}/github",
        "token_env": "FORGE_TOKEN",
    }
    values = {
        "trigger": [trigger],
        "notify": [notify(f"{receiver.url}/hook")],
        "status": [status],
        "delivery": {"first_s": 0.05, "longest_s": 0.2, "tries": 4, "timeout_s": 2},
    }
    return ServerConfig.model_validate(values | more)


def submit(store: Store, claim: Claim | None = None, **changes: Any) -> RunRecord:
    submission = demo_run().submission.model_copy(update={"served": True} | changes)
    return store.create_run(submission, now=datetime.now(UTC), claim=claim)


def finish(store: Store, run: RunRecord, outcome: Outcome = PASSED) -> None:
    for cell in run.cells:
        store.finish_cell(run.id, cell.id, outcome, now=datetime.now(UTC))
    store.finish_run(run.id, now=datetime.now(UTC), cancelled=False)


def pushed(store: Store, **changes: Any) -> RunRecord:
    """A run that a webhook has made."""
    claim = Claim("trigger hello", "d-1", "")
    assert Hooks(store.engine).take(HOOK, now=NOW)
    assert Keys(store.engine).claim(claim, now=datetime.now(UTC)) is None
    return submit(store, claim, **changes)


@asynccontextmanager
async def sending(store: Store, config: ServerConfig) -> AsyncIterator[Sender]:
    """As a server does it."""
    feed = Feed(store)
    store.listen(feed.tell)
    sender = Sender(store, feed, config)
    tasks = [asyncio.create_task(feed.run()), asyncio.create_task(sender.run())]
    try:
        yield sender
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def send_until(store: Store, config: ServerConfig, holds: Callable[[tuple[DeliveryRecord, ...]], bool]) -> None:
    """Run the sender until something holds of the deliveries, the newest of which is the first."""

    deliveries = Deliveries(store.engine)

    def look() -> None:
        eventually(
            lambda: holds(deliveries.list()),
            within_s=WAIT_S,
            what=lambda: f"the deliveries are as they should be; they are: {deliveries.list()}",
        )

    async def go() -> None:
        async with sending(store, config):
            await asyncio.to_thread(look)

    asyncio.run(go())


def all_done(count: int) -> Callable[[tuple[DeliveryRecord, ...]], bool]:
    return lambda found: len(found) == count and all(one.done for one in found)


def bodies(receiver: StandIn, kind: str) -> list[Any]:
    assert receiver.wrong == []
    return [told.body for told in receiver.told if told.kind == kind]


# --- what happens -----------------------------------------------------------------------------------


def test_a_run_is_told_of_when_it_is_submitted_and_when_it_has_finished(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    run = submit(store)
    send_until(store, config(receiver), all_done(1))
    finish(store, run)
    send_until(store, config(receiver), all_done(2))
    told = bodies(receiver, "webhook")
    assert [body["type"] for body in told] == ["run-submitted", "run-finished"]
    assert [body["data"]["run"]["exit_code"] for body in told] == [None, 0]


def test_what_was_there_before_the_first_start_is_not_told(store: Store, receiver: StandIn) -> None:
    finish(store, submit(store))
    Sender(store, Feed(store), config(receiver))
    submit(store)
    send_until(store, config(receiver), all_done(1))
    assert [body["data"]["run"]["id"] for body in bodies(receiver, "webhook")] == ["demo-2"]


def test_what_happens_while_nobody_serves_is_told_by_the_next_server_once(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    for _ in range(3):
        finish(store, submit(store))
    send_until(store, config(receiver), all_done(6))
    send_until(store, config(receiver), all_done(6))
    seen = [(body["data"]["run"]["id"], body["type"]) for body in bodies(receiver, "webhook")]
    assert sorted(seen) == sorted(
        {(f"demo-{n}", f"run-{word}") for n in (1, 2, 3) for word in ("submitted", "finished")}
    )


def test_a_commit_gets_its_status_at_the_submission_and_at_the_end(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    run = pushed(store)
    only = config(receiver, notify=[])
    send_until(store, only, all_done(1))
    finish(store, run, PASSED.model_copy(update={"verdict": Verdict.FAILED}))
    send_until(store, only, all_done(2))
    assert [body["state"] for body in bodies(receiver, "github")] == ["pending", "failure"]
    assert {told.path for told in receiver.told} == {f"/github/repos/acme/hello/statuses/{COMMIT}"}


def test_a_rerun_of_the_bad_cells_changes_the_status(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    first = pushed(store)
    finish(store, first, PASSED.model_copy(update={"verdict": Verdict.ERROR}))
    finish(store, submit(store, rerun_of=first.id))
    send_until(store, config(receiver, notify=[]), lambda found: len(found) == 4 and not any(one.due for one in found))
    assert bodies(receiver, "github")[-1]["state"] == "success"


def test_of_the_statuses_of_a_commit_that_wait_only_the_last_is_told(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(503)
    run = pushed(store)
    slow = config(receiver, notify=[], delivery={"first_s": 3600})
    send_until(store, slow, lambda found: bool(found) and found[0].tries == 1)
    finish(store, run)
    send_until(store, slow, all_done(2))
    assert [(told.body["state"], told.answered) for told in receiver.told] == [("pending", 503), ("success", 201)]
    assert Deliveries(store.engine).list()[1].problem == "a newer one was to be told instead"


def test_who_comes_into_farm_toml_later_is_not_told_of_the_past(store: Store, receiver: StandIn) -> None:
    deliveries = Deliveries(store.engine)
    deliveries.mark()
    finish(store, submit(store))
    send_until(store, config(receiver, notify=[], status=[]), lambda _: deliveries.mark() == store.last_event())
    submit(store)
    send_until(store, config(receiver), all_done(1))
    assert [body["data"]["run"]["id"] for body in bodies(receiver, "webhook")] == ["demo-2"]


# --- failures ---------------------------------------------------------------------------------------


def test_what_was_not_taken_is_tried_again_with_the_same_id(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(500, 302)
    submit(store)
    send_until(store, config(receiver), all_done(1))
    assert [told.answered for told in receiver.told] == [500, 302, 201]
    assert len({told.headers["webhook-id"] for told in receiver.told}) == 1
    assert Deliveries(store.engine).list()[0].tries == 3


def test_a_redirect_is_not_followed(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(307, headers={"Location": f"{receiver.url}/elsewhere"})
    submit(store)
    send_until(store, config(receiver), all_done(1))
    assert {told.path for told in receiver.told} == {"/hook"}


def test_after_the_last_try_it_is_given_up_with_the_reason_and_can_be_retried(store: Store, receiver: StandIn) -> None:
    deliveries = Deliveries(store.engine)
    deliveries.mark()
    receiver.fail(500, 500, 500, 503, text=b"the \x1b[31mdatabase is down\n")
    submit(store)
    send_until(store, config(receiver), lambda found: bool(found) and found[0].due is None)
    (failed,) = deliveries.list(state="failed")
    assert (failed.tries, failed.done) == (4, None)
    assert failed.problem == "answered 503 Service Unavailable: the database is down"
    again = deliveries.retry(failed.id, now=datetime.now(UTC))
    assert (again.tries, deliveries.list(state="waiting")) == (0, (again,))
    send_until(store, config(receiver), all_done(1))
    with pytest.raises(ConflictError, match="it was taken"):
        deliveries.retry(failed.id, now=NOW)


def test_a_receiver_that_is_gone_is_not_tried_again(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(410)
    submit(store)
    send_until(store, config(receiver), lambda found: bool(found) and found[0].due is None)
    assert len(receiver.told) == 1


def test_gitlab_that_knows_a_status_already_has_taken_it(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(400, text=b'{"message":"Cannot transition status via :enqueue from :pending"}')
    trigger = {"name": "hello", "provider": "gitlab", "repository": "*/*", "secret_env": "S", "matrix_name": "m"}
    status = {
        "name": "gitlab",
        "provider": "gitlab",
        "api_url": f"{receiver.url}/gitlab/api/v4",
        "token_env": "FORGE_TOKEN",
    }
    pushed(store)
    send_until(store, config(receiver, notify=[], trigger=[trigger], status=[status]), all_done(1))
    assert len(receiver.told) == 1


def test_who_does_not_answer_holds_up_nobody_else(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        sections = [
            notify(f"http://127.0.0.1:{silent.getsockname()[1]}/", name="silent"),
            notify(f"{receiver.url}/hook"),
        ]
        run = submit(store)
        finish(store, run)
        patient = {"first_s": 100, "timeout_s": 60, "tries": 2}
        done = config(receiver, notify=sections, delivery=patient)
        send_until(store, done, lambda found: sum(1 for one in found if one.done) == 2)
    assert {one.target for one in Deliveries(store.engine).list(state="waiting")} == {"notify silent"}


def test_who_refuses_connections_is_tried_until_the_end(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    submit(store)
    closed = config(receiver, notify=[notify(f"http://127.0.0.1:{port}/")])
    send_until(store, closed, lambda found: bool(found) and found[0].due is None)
    (failed,) = Deliveries(store.engine).list()
    assert failed.tries == 4
    assert failed.problem.startswith("no answer: ")


def test_what_is_for_a_target_that_is_no_more_is_given_up(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(500)
    submit(store)
    slow = config(receiver, delivery={"first_s": 3600})
    send_until(store, slow, lambda found: bool(found) and found[0].tries == 1)
    send_until(store, config(receiver, notify=[]), lambda found: found[0].due is None)
    assert Deliveries(store.engine).list()[0].problem == "farm.toml has no such target any more"


def test_a_secret_that_is_not_there_ends_the_start(
    store: Store, receiver: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORGE_TOKEN")
    with pytest.raises(ConfigError, match="cannot use status github: the environment variable FORGE_TOKEN is not set"):
        Sender(store, Feed(store), config(receiver))


def test_no_secret_is_in_what_is_kept(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    receiver.fail(500, 500)
    pushed(store)
    send_until(store, config(receiver), all_done(2))
    kept = json.dumps([one.model_dump(mode="json") for one in Deliveries(store.engine).list()])
    assert SECRET not in kept
    assert TOKEN not in kept


# --- the stores -------------------------------------------------------------------------------------


def test_a_delivery_that_is_not_there_cannot_be_retried(store: Store) -> None:
    with pytest.raises(NotFoundError, match="cannot find the delivery 7"):
        Deliveries(store.engine).retry(7, now=NOW)


@pytest.mark.parametrize("changes", [{}, {"delivery": "d-2"}, {"also": ()}])
def test_a_webhook_is_taken_once_by_any_of_its_names(store: Store, changes: dict[str, Any]) -> None:
    hooks = Hooks(store.engine)
    assert hooks.take(HOOK, now=NOW)
    assert not hooks.take(HOOK.model_copy(update=changes), now=NOW + timedelta(days=365))
    assert hooks.take(HOOK.model_copy(update={"trigger": "other"}), now=NOW)


def test_a_webhook_waits_until_it_has_become_a_run(store: Store) -> None:
    hooks = Hooks(store.engine)
    hooks.take(HOOK, now=NOW)
    assert hooks.waiting() == (HOOK,)
    hooks.submitted(HOOK, "demo-1")
    assert hooks.waiting() == ()
    assert Deliveries(store.engine).triggered("demo-1") == HOOK
    assert Deliveries(store.engine).triggered("demo-2") is None


def test_a_webhook_that_came_to_nothing_may_come_again(store: Store) -> None:
    hooks = Hooks(store.engine)
    hooks.take(HOOK, now=NOW)
    hooks.release(HOOK)
    assert hooks.waiting() == ()
    assert hooks.take(HOOK, now=NOW)


# --- what cannot be told ----------------------------------------------------------------------------


def test_an_event_that_cannot_be_told_holds_up_no_other(store: Store, receiver: StandIn) -> None:
    Deliveries(store.engine).mark()
    submit(store, rerun_of="gone-1")
    submit(store)
    send_until(store, config(receiver), all_done(1))
    assert [body["data"]["run"]["id"] for body in bodies(receiver, "webhook")] == ["demo-2"]


def test_a_delivery_that_makes_no_sense_holds_up_no_other(store: Store, receiver: StandIn) -> None:
    deliveries = Deliveries(store.engine)
    deliveries.mark()
    run = submit(store)
    nonsense = NewDelivery(target="notify chat", event="run-submitted", payload={"no": "id"})
    deliveries.plan(run.id, 0, [nonsense], replaces=lambda *_: False, now=NOW)
    send_until(store, config(receiver), lambda found: len(found) == 2 and not any(one.due for one in found))
    assert [(one.done is None, one.problem) for one in deliveries.list()] == [
        (False, ""),
        (True, "a defect of the farm: KeyError('id')"),
    ]
