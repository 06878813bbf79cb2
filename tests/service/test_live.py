"""Server-sent events: everything once, in its order, whoever goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable

import pytest

from farm.store import Store
from tests.bench.listeners import listeners
from tests.service.listening import Heard, heard, listen
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

RUNS = "/api/v1/runs"
EVENTS = "/api/v1/events"


def stored(server: Serving, run: str) -> list[int]:
    """The ids of a run's events."""
    store = Store.open(f"sqlite:///{server.state}/farm.db", server.state)
    try:
        return [event.id for event in store.events(0, run_id=run, limit=10_000)]
    finally:
        store.close()


def test_who_listens_to_a_run_hears_everything_once_and_then_its_end(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client, "echo hello\nsleep 1")
    found = listen(client, f"{RUNS}/{run}/events")
    assert [event.id for event in found[:-1]] == stored(server, run)
    assert [found[0].kind, *(event.kind for event in found[-2:])] == ["run-submitted", "run-finished", "end"]
    assert all(event.data["run"] == run and event.data["id"] == event.id for event in found[:-1])
    assert {"attempt-started", "phase-started", "guest", "cell-finished"} <= {event.kind for event in found}


def test_who_goes_away_again_and_again_misses_nothing_and_hears_nothing_twice(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client, "echo hello\nsleep 1")
    found: list[Heard] = []
    while not found or found[-1].kind != "end":
        found += listen(client, f"{RUNS}/{run}/events", last=found[-1].id if found else None, most=3)
    assert [event.id for event in found[:-1]] == stored(server, run)


def test_the_parameter_resumes_where_a_header_cannot_be_sent(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client)
    server.wait_for(client, run)
    ids = stored(server, run)
    found = listen(client, f"{RUNS}/{run}/events?after={ids[4]}")
    assert [event.id for event in found] == [*ids[5:], None]
    assert [event.id for event in listen(client, f"{RUNS}/{run}/events?after={ids[4]}", last=ids[6])] == [
        *ids[7:],
        None,
    ]


def test_many_who_come_and_go_miss_nothing_and_hear_nothing_twice(server: Serving) -> None:
    client = server.client("submit")
    test = "echo hello\nsleep 1"
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["fake"], "n": list(range(12))}
    matrix = json.dumps({"name": "many", "axes": axes, "guest": {"memory": "128M"}, "test": test})
    upload = {"upload": server.upload(client)}
    run = client.post(RUNS, json={"matrix": matrix, "source": upload}).json()["run"]["id"]
    port = int(server.url.rpartition(":")[2])
    told = asyncio.run(listeners(port, server.token("read"), run, seconds=12, count=20, stays_s=(0.2, 3.0)))
    ids = stored(server, run)
    assert told.ids, "nothing happened meanwhile"
    first, last = ids.index(told.ids[0]), ids.index(told.ids[-1])
    assert told.ids == ids[first : last + 1]
    assert told.wrong == 0
    assert told.visits > 40  # each has come back
    assert client.post(f"{RUNS}/{run}/cancel").status_code == 202


@pytest.mark.parametrize("beyond", [0, 1, 10**15])
def test_the_stream_of_a_run_that_has_ended_ends(server: Serving, beyond: int) -> None:
    client = server.client("submit")
    run = server.submit(client)
    server.wait_for(client, run)
    found = listen(client, f"{RUNS}/{run}/events", last=stored(server, run)[-1] + beyond)
    assert [event.kind for event in found] == ["end"]


def test_the_stream_of_all_runs_begins_now_and_resumes_where_it_is_told(server: Serving) -> None:
    client = server.client("submit")
    old = server.submit(client)
    server.wait_for(client, old)
    with client.stream("GET", EVENTS) as answer:
        lines = answer.iter_lines()
        assert next(lines) == ": still here"
        runs = [server.submit(server.client("submit")) for _ in range(2)]
        live: list[Heard] = []
        for event in heard(lines):
            live.append(event)
            if {one.data["run"] for one in live if one.kind == "run-finished"} >= set(runs):
                break
    assert {event.data["run"] for event in live} == set(runs)
    again = listen(client, EVENTS, last=live[0].id, most=len(live) - 1)
    assert again == live[1:]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"{RUNS}/no-run-1/events", {}, 404),
        (EVENTS, {"Last-Event-ID": "x"}, 422),
        (EVENTS, {"Last-Event-ID": "-1"}, 422),
        (EVENTS, {"Last-Event-ID": "9" * 30}, 422),
        (f"{EVENTS}?after=-1", {}, 422),
        (EVENTS, {"Authorization": "Bearer farm_00000000_x"}, 401),
    ],
)
def test_what_cannot_be_listened_to_is_a_problem(
    server: Serving, path: str, headers: dict[str, str], status: int
) -> None:
    answer = server.client("read").get(path, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")


def test_the_streams_end_whole_when_the_server_does(own_server: Callable[..., Serving]) -> None:
    server = own_server()
    submitter = server.client("submit")
    run = server.submit(submitter, "echo hello\nsleep 60", only=["*/amd64"])
    server.wait_for(submitter, run, "running")
    log = f"{RUNS}/{run}/cells/debian-13/amd64/fake/attempts/1/logs/test?follow=true"
    ended: dict[str, list[str]] = {}
    begun = threading.Barrier(4)

    def follow(path: str) -> None:
        with server.client("read").stream("GET", path) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            begun.wait(60)
            ended[path] = [first, *lines]  # raises where the server cuts it off

    server.token("read")
    threads = [threading.Thread(target=follow, args=(path,)) for path in (EVENTS, f"{RUNS}/{run}/events", log)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert set(ended) == {EVENTS, f"{RUNS}/{run}/events", log}
