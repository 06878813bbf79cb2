"""What others are told of runs: who, what, in whose words, and how often it is tried."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farm.model import (
    RESERVATION,
    CellRecord,
    DeliveryRecord,
    EventRecord,
    NewDelivery,
    Outcome,
    Push,
    RunRecord,
    Triggered,
    Verdict,
)
from farm.serverconfig import ServerConfig
from farm.triggers.messages import body_of, links, signed_headers
from farm.triggers.news import Happened, deliveries, replaces, whole
from farm.triggers.retries import is_final, next_try, wish_of
from farm.triggers.settings import Delivery, Status
from farm.triggers.signatures import Received, standard
from farm.triggers.statuses import BY_EXIT_CODE, FORGES, CommitStatus, is_told_already, request
from farm.verdict import exit_code
from tests.standin import SECRET, STATES
from tests.unit.records import demo_run

NOW = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
COMMIT = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e"
PUSH = Push(
    repository="acme/hello", ref="refs/heads/main", commit=COMMIT, clone_url="https://github.com/acme/hello.git"
)
HOOK = Triggered(trigger="hello", delivery="d-1", push=PUSH)


def config(**more: Any) -> ServerConfig:
    trigger = {"name": "hello", "provider": "github", "repository": "*/*", "secret_env": "S", "matrix_name": "m"}
    notify = {"name": "chat", "url": "https://chat.example.org", "secret_env": "S"}
    status = {"name": "github", "provider": "github", "token_env": "S"}
    values = {
        "public_url": "https://farm.example.org/",
        "trigger": [trigger],
        "notify": [notify],
        "status": [status],
    }
    return ServerConfig.model_validate(values | more)


def happened(kind: str = "run-finished", run: RunRecord | None = None, **changes: Any) -> Happened:
    run = run or demo_run()
    event = EventRecord(id=7, run=run.id, cell=None, number=None, at=NOW, kind=kind, payload={})
    values: dict[str, Any] = {"event": event, "run": run, "before": (), "counts": {}, "hook": HOOK}
    return Happened(**(values | changes))


# --- statuses ---------------------------------------------------------------------------------------


def told(**changes: str) -> CommitStatus:
    values = {
        "repository": "acme/hello",
        "commit": COMMIT,
        "ref": "main",
        "context": "farm/demo",
        "state": "passed",
        "description": "demo-3: All 6 cells passed.",
        "link": "https://farm.example.org/runs/demo-3",
    }
    return CommitStatus.model_validate(values | changes)


def test_github_is_told_in_its_own_words() -> None:
    asked = request("github", "https://api.github.com", "tok", told(state="cancelled"))
    assert asked.url == f"https://api.github.com/repos/acme/hello/statuses/{COMMIT}"
    assert asked.headers["Authorization"] == "Bearer tok"
    assert asked.headers["Accept"] == "application/vnd.github+json"
    assert asked.body == {
        "state": "error",
        "context": "farm/demo",
        "description": "demo-3: All 6 cells passed.",
        "target_url": "https://farm.example.org/runs/demo-3",
    }


def test_gitlab_is_told_in_its_own_words() -> None:
    asked = request("gitlab", "https://gitlab.com/api/v4", "tok", told(repository="a/b/c", state="cancelled", link=""))
    assert asked.url == f"https://gitlab.com/api/v4/projects/a%2Fb%2Fc/statuses/{COMMIT}"
    assert asked.headers["PRIVATE-TOKEN"] == "tok"
    assert asked.body == {
        "state": "canceled",
        "name": "farm/demo",
        "ref": "main",
        "description": "demo-3: All 6 cells passed.",
    }


@pytest.mark.parametrize("provider", ["gitea", "forgejo"])
def test_gitea_and_forgejo_are_told_in_their_own_words(provider: str) -> None:
    asked = request(provider, "https://git.example.org/api/v1", "tok", told(state="failed"))
    assert asked.url == f"https://git.example.org/api/v1/repos/acme/hello/statuses/{COMMIT}"
    assert asked.headers["Authorization"] == "token tok"
    assert (asked.body["state"], asked.body["context"]) == ("failure", "farm/demo")


@pytest.mark.parametrize("provider", FORGES)
def test_every_state_is_one_that_the_forge_knows(provider: str) -> None:
    assert set(FORGES[provider].states.values()) <= STATES["gitea" if provider == "forgejo" else provider]
    assert set(FORGES[provider].states) == {"pending", *BY_EXIT_CODE.values()}


@pytest.mark.parametrize(("provider", "longest"), [("github", 140), ("gitlab", 255), ("gitea", 255)])
def test_a_description_is_as_long_as_the_forge_takes_it(provider: str, longest: int) -> None:
    asked = request(provider, "https://x", "tok", told(description="x" * 1000))
    assert longest - 60 < len(asked.body["description"]) <= longest


@pytest.mark.parametrize(
    ("code", "state"), [(0, "passed"), (1, "failed"), (2, "error"), (3, "error"), (130, "cancelled")]
)
def test_a_run_in_which_nothing_ran_is_not_green(code: int, state: str) -> None:
    assert BY_EXIT_CODE[code] == state


@pytest.mark.parametrize(
    ("provider", "code", "text", "expected"),
    [
        ("gitlab", 400, '{"message":"Cannot transition status via :enqueue from :pending (Reason(s): …)"}', True),
        ("gitlab", 400, '{"message":"400 Bad request - state is invalid"}', False),
        ("gitlab", 500, "Cannot transition status", False),
        ("github", 400, "Cannot transition status", False),
    ],
)
def test_gitlab_refuses_what_it_knows_already(provider: str, code: int, text: str, expected: bool) -> None:
    assert is_told_already(provider, code, text) is expected


# --- who is told what -------------------------------------------------------------------------------


def test_the_commit_of_a_push_is_pending_until_its_run_has_finished() -> None:
    run = demo_run()
    (first,) = [one for one in deliveries(happened("run-submitted", run), config()) if one.target == "status github"]
    assert (first.payload["state"], first.payload["description"]) == ("pending", f"{run.id}: 6 cells to run")
    (last,) = [one for one in deliveries(happened("run-finished", run), config()) if one.target == "status github"]
    assert last.payload["state"] == BY_EXIT_CODE[exit_code(run)] == "failed"
    assert last.payload["link"] == f"https://farm.example.org/runs/{run.id}"
    assert last.payload["context"] == "farm/demo"


@pytest.mark.parametrize(
    ("more", "hook", "targets"),
    [
        ({}, HOOK, ["notify chat", "status github"]),
        ({}, None, ["notify chat"]),
        ({"trigger": []}, HOOK, ["notify chat"]),
        ({"notify": []}, HOOK, ["status github"]),
        ({"status": []}, HOOK, ["notify chat"]),
        ({"notify": [], "status": []}, HOOK, []),
    ],
)
def test_only_who_is_in_farm_toml_is_told(more: dict[str, Any], hook: Triggered | None, targets: list[str]) -> None:
    assert [one.target for one in deliveries(happened(hook=hook), config(**more))] == targets


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"repository": "ACME/*"}, True),
        ({"repository": "other/*"}, False),
        ({"triggers": ["he*"]}, True),
        ({"triggers": ["other"]}, False),
        ({"provider": "gitlab"}, False),
    ],
)
def test_a_status_is_for_its_own_forge_and_repositories(changes: dict[str, Any], expected: bool) -> None:
    status = Status.model_validate({"name": "s", "provider": "github", "token_env": "S"} | changes)
    assert status.wants(config().trigger[0], "acme/hello") is expected


def test_a_webhook_says_what_the_run_came_to() -> None:
    (message,) = deliveries(happened(), config(status=[]))
    payload = json.loads(body_of(message.payload))
    data = payload["data"]
    assert (payload["type"], payload["timestamp"]) == ("run-finished", "2026-03-14T09:26:53Z")
    assert (data["run"]["id"], data["run"]["exit_code"]) == ("demo-3", 1)
    assert {cell["id"]: cell["verdict"] for cell in data["bad_cells"]} == {
        "debian-13/riscv64/bug=off": "error",
        "debian-13/s390x/bug=on": "failed",
    }
    assert data["origin"] == {
        "trigger": "hello",
        "repository": "acme/hello",
        "ref": "refs/heads/main",
        "commit": COMMIT,
    }
    assert data["links"] == {
        "page": "https://farm.example.org/runs/demo-3",
        "api": "https://farm.example.org/api/v1/runs/demo-3",
    }


def test_without_a_public_url_there_are_no_links() -> None:
    assert links("demo-3", "") == {}


def test_a_webhook_is_signed_anew_at_each_try_and_keeps_its_id() -> None:
    (message,) = deliveries(happened(), config(status=[]))
    body = body_of(message.payload)
    for at in (NOW, NOW + timedelta(hours=1)):
        headers = signed_headers(message.payload, body, SECRET, now=at)
        standard(Received(headers=headers, body=body, now=at), SECRET)
        assert headers["webhook-id"] == message.payload["id"]


def test_two_events_have_two_ids() -> None:
    first, second = (deliveries(happened(), config(status=[]))[0].payload["id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize(("kind", "expected"), [("run-submitted", 0), ("run-finished", 1)])
def test_a_receiver_is_told_of_the_events_that_it_has_asked_for(kind: str, expected: int) -> None:
    assert len(deliveries(happened(kind), config(status=[]))) == expected


@pytest.mark.parametrize(("projects", "expected"), [(["demo"], 1), (["d*", "x"], 1), (["other"], 0)])
def test_a_receiver_is_told_of_the_projects_that_it_has_asked_for(projects: list[str], expected: int) -> None:
    notify = {"name": "chat", "url": "https://chat.example.org", "secret_env": "S", "projects": projects}
    assert len(deliveries(happened(), config(status=[], notify=[notify]))) == expected


def test_nobody_is_told_of_a_reserved_machine() -> None:
    run = demo_run()
    submission = run.submission.model_copy(update={"labels": {RESERVATION: "yes"}})
    assert deliveries(happened(run=run.model_copy(update={"submission": submission})), config()) == ()


# --- reruns -----------------------------------------------------------------------------------------


def passed(cell: CellRecord) -> CellRecord:
    outcome = Outcome(verdict=Verdict.PASSED, rule="passed", summary="well")
    return cell.model_copy(update={"outcome": outcome})


def test_a_commit_is_green_when_all_that_was_bad_has_passed_in_a_rerun() -> None:
    first = demo_run()
    bad = [cell for cell in first.cells if cell.outcome and cell.outcome.verdict is not Verdict.PASSED]
    assert len(bad) == 2
    all_ = first.model_copy(update={"id": "demo-4", "cells": tuple(map(passed, bad))})
    one = first.model_copy(update={"id": "demo-5", "cells": (passed(bad[0]),)})
    assert exit_code(whole(all_, (first,))) == 0
    assert exit_code(whole(one, (first,))) != 0
    assert len(whole(one, (first,)).cells) == len(first.cells)


# --- what replaces what -----------------------------------------------------------------------------


def kept(payload: dict[str, Any], target: str = "status github") -> DeliveryRecord:
    values = {"id": 1, "run": "demo-3", "target": target, "event": "run-submitted", "payload": payload}
    return DeliveryRecord(**values, created=NOW, tries=1, due=NOW, done=None, problem="")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"state": "failed"}, True), ({"commit": "a" * 40}, False), ({"context": "farm/other"}, False)],
)
def test_a_status_replaces_the_one_before_it_of_the_same_commit(changes: dict[str, str], expected: bool) -> None:
    new = NewDelivery(target="status github", event="run-finished", payload=told().model_dump())
    assert replaces(new, kept(told(**changes).model_dump())) is expected


def test_a_webhook_replaces_nothing() -> None:
    new = NewDelivery(target="notify chat", event="run-finished", payload={"id": "1"})
    assert not replaces(new, kept({"id": "1"}, "notify chat"))


# --- tries ------------------------------------------------------------------------------------------

SETTINGS = Delivery(tries=5, first_s=10, longest_s=60)


@pytest.mark.parametrize(("tries", "wait_s"), [(1, 10), (2, 20), (3, 40), (4, 60), (5, None), (6, None)])
def test_each_try_waits_twice_as_long_as_the_one_before_up_to_a_limit(tries: int, wait_s: float | None) -> None:
    expected = None if wait_s is None else NOW + timedelta(seconds=wait_s)
    assert next_try(tries, SETTINGS, now=NOW, dice=lambda: 0.0) == expected


@pytest.mark.parametrize(("dice", "wait_s"), [(0.0, 10.0), (0.5, 8.75), (1.0, 7.5)])
def test_chance_leaves_off_up_to_a_quarter(dice: float, wait_s: float) -> None:
    assert next_try(1, SETTINGS, now=NOW, dice=lambda: dice) == NOW + timedelta(seconds=wait_s)


@pytest.mark.parametrize(("wish_s", "wait_s"), [(5, 10), (300, 300), (1e9, 24 * 3600)])
def test_the_other_side_may_ask_for_a_longer_wait(wish_s: float, wait_s: float) -> None:
    assert next_try(1, SETTINGS, now=NOW, wish_s=wish_s, dice=lambda: 0.0) == NOW + timedelta(seconds=wait_s)


def test_very_many_tries_do_not_overflow() -> None:
    stubborn = Delivery(tries=100, first_s=10, longest_s=3600)
    assert next_try(99, stubborn, now=NOW, dice=lambda: 0.0) == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "wish_s"),
    [("120", 120.0), ("0", 0.0), ("", 0.0), ("-1", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("9" * 400, 0.0)],
)
def test_retry_after_is_read_where_it_is_a_number(text: str, wish_s: float) -> None:
    assert wish_of({"retry-after": text}) == wish_s


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("notify", 410, True),
        *[("notify", code, False) for code in (302, 400, 401, 404, 429, 500, 503)],
        *[("status", code, True) for code in (400, 405, 410, 422)],
        *[("status", code, False) for code in (302, 401, 403, 404, 408, 429, 500, 502, 503)],
    ],
)
def test_an_answer_that_will_not_change_ends_the_tries(kind: str, code: int, expected: bool) -> None:
    assert is_final(kind, code) is expected
