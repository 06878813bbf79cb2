"""Every request has an id, is told in the log, and is counted; metrics are given to whom they should."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn

from api.app import create_app
from farm import logs
from farm.config import load_settings
from farm.model import Scope
from farm.serve import Server
from farm.serverconfig import ServerConfig
from farm.store import Store
from tests.unit.rehearsal import Rehearsal, now
from tests.unit.test_intake import MATRIX
from tests.unit.test_serve import NoFleet, NoImages
from tests.waiting import eventually

Start = Callable[..., httpx.Client]
LONG_S = 30.0


@contextmanager
def listening(server: Server) -> Iterator[str]:
    """The API of a server in a thread, on a port of its own; gives its URL. The controller is not started."""
    config = uvicorn.Config(create_app(server), host="127.0.0.1", port=0, log_config=None, access_log=False)
    web = uvicorn.Server(config)
    thread = threading.Thread(target=web.run)
    thread.start()
    eventually(lambda: web.started, within_s=LONG_S, as_long_as=thread.is_alive, what="the API listens")
    try:
        yield f"http://127.0.0.1:{web.servers[0].sockets[0].getsockname()[1]}"
    finally:
        web.should_exit = True
        thread.join()


@pytest.fixture
def servers() -> list[Server]:
    """Those that the test has started."""
    return []


@pytest.fixture
def log() -> Iterator[StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    logs.configure("debug", stream)
    yield stream
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def start(tmp_path: Path, log: StringIO, servers: list[Server]) -> Iterator[Start]:
    """Starts an application on a real store, with settings; its client shows a token of a scope."""
    with ExitStack() as stack:

        def client(scope: Scope | None = Scope.READ, *, orphans: int = 0, **settings: Any) -> httpx.Client:
            store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}?timeout=0.05", tmp_path)
            stack.callback(store.close)
            server = Server(
                settings=load_settings({"FARM_STATE": str(tmp_path), "FARM_RUNTIME": "/tmp/farm-x"}),
                config=ServerConfig(**settings),
                store=store,
                executor=Rehearsal(),
                fleet=NoFleet(),
                settle=lambda plan: plan,
                images=NoImages(),
                orphans=lambda: orphans,
            )
            servers.append(server)
            url = stack.enter_context(listening(server))
            made = stack.enter_context(httpx.Client(base_url=url, timeout=LONG_S))
            if scope:
                _, secret = server.access.create_token("x", scope, by="test", now=now())
                made.headers["Authorization"] = f"Bearer {secret}"
            return made

        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "{own}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://farm.example.org"}, 200),
        ({"Origin": "http://farm.example.org"}, 403),
        ({"Origin": "https://farm.example.org:8443"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example", "Authorization": "{token}"}, 200),
    ],
)
@pytest.mark.parametrize("public_url", ["https://farm.example.org/farm", "https://Farm.example.org:443"])
def test_another_site_cannot_have_a_browser_without_a_token_change_something(
    start: Start, servers: list[Server], public_url: str, headers: dict[str, str], status: int
) -> None:
    client = start(None, anonymous=Scope.SUBMIT, public_url=public_url)
    _, secret = servers[0].access.create_token("x", Scope.SUBMIT, by="test", now=now())
    words = {"own": str(client.base_url).rstrip("/"), "token": f"Bearer {secret}"}
    filled = {name: value.format(**words) for name, value in headers.items()}
    assert client.post("/api/v1/validate", json={"matrix": MATRIX}, headers=filled).status_code == status


def test_without_a_public_url_no_empty_origin_counts_as_ones_own(start: Start) -> None:
    client = start(None, anonymous=Scope.SUBMIT)
    for origin in ("://", "", "null"):
        answer = client.post("/api/v1/validate", json={"matrix": MATRIX}, headers={"Origin": origin})
        assert answer.status_code == 403


def told(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def requests(log: StringIO) -> list[dict[str, Any]]:
    """At least one; it is written a moment after the client has its answer."""
    return eventually(
        lambda: [record for record in told(log) if record["event"] == "request"],
        within_s=LONG_S,
        what=lambda: f"the log has a request; it has: {log.getvalue()}",
    )


def samples(text: str, name: str) -> dict[str, float]:
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


# --- ids and the log --------------------------------------------------------------------------------


def test_every_answer_has_an_id_of_its_own(start: Start) -> None:
    client = start()
    ids = [client.get(path).headers["x-request-id"] for path in ("/healthz", "/api/v1/me", "/nowhere", "/metrics")]
    assert len(set(ids)) == 4


def test_an_id_of_the_client_is_taken_over(start: Start, log: StringIO) -> None:
    answer = start().get("/api/v1/me", headers={"X-Request-Id": "build-7.a_b"})
    assert answer.headers["x-request-id"] == "build-7.a_b"
    assert requests(log)[-1]["request"] == "build-7.a_b"


@pytest.mark.parametrize("bad", [b"", b"a b", b"x" * 65, b"-x", b"a\tb", "é".encode(), b"<b>"])
def test_an_id_that_could_do_harm_is_not(start: Start, bad: bytes) -> None:
    answer = start().get("/api/v1/me", headers={b"X-Request-Id": bad})
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


def test_a_problem_names_its_request(start: Start) -> None:
    answer = start().get("/api/v1/runs/nope-1", headers={"X-Request-Id": "abc"})
    assert (answer.status_code, answer.json()["instance"]) == (404, "/requests/abc")


def test_a_defect_names_its_request_too(start: Start, log: StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start()

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("farm.store.access.Access.session", fails)
    client.headers.pop("Authorization")
    answer = client.get("/api/v1/me", headers={"X-Request-Id": "abc", "Cookie": "farm_session=x"})
    assert (answer.status_code, answer.json()["instance"], answer.headers["x-request-id"]) == (
        500,
        "/requests/abc",
        "abc",
    )
    assert requests(log)[-1]["status"] == 500
    assert any(
        record.get("request") == "abc" and "ZeroDivisionError" in record.get("exception", "") for record in told(log)
    )


def test_a_request_is_a_record_with_fields_and_without_secrets(start: Start, log: StringIO) -> None:
    client = start()
    token = client.headers["Authorization"].partition(" ")[2]
    client.get(f"/api/v1/runs?owner={token}")
    record = requests(log)[-1]
    assert {key: record[key] for key in ("method", "path", "status", "level")} == {
        "method": "GET",
        "path": "/api/v1/runs",
        "status": 200,
        "level": "info",
    }
    assert record["seconds"] > 0
    assert token not in log.getvalue()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_machines_ask_all_the_time_is_told_only_to_who_wants_all(start: Start, log: StringIO, path: str) -> None:
    start().get(path)
    assert [record["level"] for record in requests(log) if record["path"] == path] == ["debug"]


# --- counting ---------------------------------------------------------------------------------------


def test_requests_are_counted_by_the_template_of_their_route(start: Start) -> None:
    client = start()
    for number in range(3):
        client.get(f"/api/v1/runs/nope-{number}")
        client.get(f"/made-up/{number}")
    client.request("BREW", "/api/v1/me")
    found = samples(client.get("/metrics").text, "farm_http_requests_total")
    assert found['method="GET",route="/api/v1/runs/{run}",status="404"'] == 3
    assert found['method="GET",route="none",status="404"'] == 3
    assert not any("made-up" in labels or "BREW" in labels or "nope" in labels for labels in found)


def test_a_request_for_a_cell_with_slashes_is_counted_by_its_template(start: Start) -> None:
    client = start()
    client.get("/api/v1/runs/nope-1/cells/debian-13/amd64/qemu")
    found = samples(client.get("/metrics").text, "farm_http_requests_total")
    assert 'method="GET",route="/api/v1/runs/{run}/cells/{cell:path}",status="404"' in found


# --- who may scrape, and what is told ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "settings", "status"),
    [
        (None, {}, 401),
        (Scope.READ, {}, 200),
        (Scope.ADMIN, {}, 200),
        (None, {"metrics_public": True}, 200),
        (None, {"anonymous": "read"}, 200),
    ],
)
def test_metrics_are_for_who_may_read(start: Start, scope: Scope | None, settings: dict[str, Any], status: int) -> None:
    assert start(scope, **settings).get("/metrics").status_code == status


def test_public_metrics_open_nothing_else(start: Start) -> None:
    assert start(None, metrics_public=True).get("/api/v1/runs").status_code == 401


def test_what_is_left_behind_is_told(start: Start) -> None:
    assert samples(start(orphans=3).get("/metrics").text, "farm_orphans") == {"": 3.0}


def test_a_controller_that_does_not_run_is_told(start: Start) -> None:
    client = start()  # nobody has started it
    text = client.get("/metrics").text
    assert samples(text, "farm_controller_alive") == {"": 0.0}
    assert client.get("/readyz").status_code == 503


def test_a_controller_that_is_stuck_is_told(
    start: Start, servers: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    (server,) = servers
    server.start()
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(type(server.pulse), "age_s", 61.0)
    answer = client.get("/readyz")
    server.stop()
    assert answer.status_code == 503
    assert "has not looked at the runs for 61 s" in answer.json()["detail"]


def test_a_store_that_does_not_answer_is_told_and_the_rest_too(start: Start, tmp_path: Path) -> None:
    client = start(None, metrics_public=True)
    with sqlite3.connect(tmp_path / "farm.db") as other:
        other.execute("ALTER TABLE holds RENAME TO gone")
    text = client.get("/metrics").text
    assert samples(text, "farm_store_up") == {"": 0.0}
    assert samples(text, "farm_runs") == {}
    assert samples(text, "farm_controller_alive") == {"": 0.0}
    other.close()
