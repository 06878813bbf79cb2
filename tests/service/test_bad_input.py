"""What nobody should send: it is refused as a problem, leaves nothing behind, and holds up nobody."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from farm.model import Scope
from farm.store import Store
from farm.store.access import Access
from tests.service.serving import MATRIX, Serving, tar_of
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

API = "/api/v1"
CELL = "debian-13/amd64/fake"
MATRIX_BYTES = 1024 * 1024


def problem(answer: httpx.Response, status: int, kind: str) -> Any:
    """What an answer says, which has to be a problem of a kind."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    told = answer.json()
    assert (told["status"], told["type"]) == (status, f"/problems/{kind}")
    assert told["detail"].startswith("cannot "), told
    return told


def operations(server: Serving) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path with something in it, and description of every operation."""
    filled = {"run": "no-run-1", "cell": CELL, "number": "1", "format": "json", "waiver": "1"}
    for path, methods in server.client("").get(f"{API}/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            names = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
            yield method, path.format(**{name: filled.get(name, "x1") for name in names}), operation


@pytest.mark.parametrize(
    "token", ["farm_0123abcd_nobody-has-this", "x", "farm__", "ü".encode().decode("latin-1"), "a b c"]
)
def test_a_token_that_is_none_opens_nothing(server: Serving, token: str) -> None:
    answer = server.client("").get(f"{API}/runs", headers={"Authorization": f"Bearer {token}".encode("latin-1")})
    problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="farm"'


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer", "Bearer  x y", "bearer: x"])
def test_another_way_to_say_who_one_is_opens_nothing(server: Serving, header: str) -> None:
    problem(server.client("").get(f"{API}/runs", headers={"Authorization": header}), 401, "unauthorized")


def test_a_token_that_was_revoked_or_has_expired_opens_nothing(server: Serving) -> None:
    admin, now = server.client("admin"), datetime.now(UTC)
    made = admin.post(f"{API}/tokens", json={"name": "gone", "scope": "read"}).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    assert server.client("").get(f"{API}/me", headers=headers).json()["name"] == "gone"
    assert admin.delete(f"{API}/tokens/{made['token']['id']}").status_code == 204
    problem(server.client("").get(f"{API}/me", headers=headers), 401, "unauthorized")
    store = Store.open(f"sqlite:///{server.state}/farm.db", server.state)
    _, secret = Access(store.engine).create_token(
        "late", Scope.ADMIN, by="test", now=now - timedelta(days=2), expires=now - timedelta(days=1)
    )
    store.close()
    problem(server.client("").get(f"{API}/me", headers={"Authorization": f"Bearer {secret}"}), 401, "unauthorized")


def test_every_operation_refuses_who_has_no_token_and_whose_token_is_for_less(server: Serving) -> None:
    order = ["read", "submit", "operate", "admin"]
    for method, path, operation in operations(server):
        if scope := operation.get("x-scope"):
            body = {} if "requestBody" in operation else None
            problem(server.client("").request(method, path, json=body), 401, "unauthorized")
            if scope != "read":
                less = server.client(order[order.index(scope) - 1])
                problem(less.request(method, path, json=body), 403, "forbidden")


@pytest.mark.parametrize("body", [None, b"", b"null", b"[]", b"{", b'"x"', b"\xff\xfe", b'{"no such field": 1}'])
def test_every_operation_with_a_body_refuses_what_is_none(server: Serving, body: bytes | None) -> None:
    admin = server.client("admin")
    for method, path, operation in operations(server):
        if "application/json" in operation.get("requestBody", {}).get("content", {}) and operation.get("x-scope"):
            answer = admin.request(method, path, content=body, headers={"Content-Type": "application/json"})
            assert answer.headers["Content-Type"] == "application/problem+json"
            if answer.status_code != 400:  # that is no text at all
                mistakes = problem(answer, 422, "request")["mistakes"]
                assert {one["where"].partition(".")[0] for one in mistakes} == {"body"}, (method, path, answer.text)


@pytest.mark.parametrize("told", [True, False])
def test_every_operation_with_a_body_refuses_one_that_is_too_large(server: Serving, told: bool) -> None:
    block = b" " * 65_536
    content = block * 40 if told else (block for _ in range(40))
    admin = server.client("admin")
    for method, path, operation in operations(server):
        if "application/json" in operation.get("requestBody", {}).get("content", {}) and operation.get("x-scope"):
            content = block * 40 if told else iter([block] * 40)
            problem(
                admin.request(method, path, content=content, headers={"Content-Type": "application/json"}),
                413,
                "too-large",
            )


@pytest.mark.parametrize(
    "value", ["\\ud800", "\\u0000", "<script>alert(1)</script>", "\\u202e", "x" * 100_000], ids=lambda value: value[:10]
)
def test_a_text_that_is_none_is_no_defect(server: Serving, value: str) -> None:
    admin = server.client("admin")
    for key in ("matrix", "matrix_name", value):
        answer = admin.post(
            f"{API}/runs", content=f'{{"{key}": "{value}"}}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in {404, 422}, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"{API}/runs", "GET, HEAD, POST"),
        (f"{API}/tokens/x", "DELETE"),
        ("/healthz", "GET, HEAD"),
        (f"{API}/hosts", "GET, HEAD"),
    ],
)
def test_another_method_is_refused_with_those_that_there_are(server: Serving, path: str, allowed: str) -> None:
    answer = server.client("admin").patch(path)
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == allowed


def test_the_head_of_an_answer_says_as_much_as_its_status(server: Serving) -> None:
    answer = server.client("admin").head(f"{API}/tokens/x")
    assert (answer.status_code, answer.headers["Allow"], answer.content) == (405, "DELETE", b"")


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/runs/", "/api/v2/runs", "/api/v1/runs/x/y"])
def test_a_path_that_is_none_is_a_problem(server: Serving, path: str) -> None:
    answer = server.client("admin").get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.fixture(scope="module")
def done(server: Serving) -> str:
    """The attempts at a cell with a log and an artifact."""
    client = server.client("submit")
    test = "echo hello > out.txt"
    matrix = MATRIX.format(name="tricks", test=json.dumps(test), vcpus=1) + "collect: {artifacts: [out.txt]}\n"
    run = server.submit(client, matrix=matrix, only=[CELL])
    server.wait_for(client, run)
    assert client.get(f"{API}/runs/{run}/cells/{CELL}/attempts/1/artifacts/out.txt").content == b"hello\n"
    return f"{API}/runs/{run}/cells"


TRICKS = (
    "../../../../farm.db",
    "..%2F..%2F..%2F..%2Ffarm.db",
    "%2e%2e/%2e%2e/%2e%2e/farm.db",
    "%2Fetc%2Fpasswd",
    "//etc/passwd",
    "out.txt%00",
    "out.txt/",
    "./out.txt",
    "%2e/out.txt",
    "../logs/test.log",
    "..%2Flogs%2Ftest.log",
    "..\\..\\farm.db",
    "OUT.TXT",
    "%ff%fe",
    "x" * 5000,
    "",
)


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick[:30])
@pytest.mark.parametrize("place", ["artifacts", "logs"])
def test_no_name_leads_to_anything_but_what_the_attempt_left(
    server: Serving, done: str, place: str, trick: str
) -> None:
    # By hand: a client would tidy the path up.
    status, body = raw_get(server, f"{done}/{CELL}/attempts/1/{place}/{trick}")
    assert status in {404, 422}, (status, body)
    assert b"/problems/" in body


@pytest.mark.parametrize("cell", ["../../x", "%2e%2e", "no/such/cell", "%00", "\\", "a" * 3000, "%ff", " "])
def test_a_cell_that_is_none_is_not_found(server: Serving, done: str, cell: str) -> None:
    for below in ("", "/attempts", "/attempts/1", "/attempts/1/tests", "/attempts/1/logs", "/attempts/1/artifacts"):
        status, body = raw_get(server, f"{done}/{cell.replace(' ', '%20')}{below}")
        assert status in {404, 422}, (status, body)


@pytest.mark.parametrize("number", ["0", "2", "-1", "x", "1.5", "9" * 40])
def test_an_attempt_that_is_none_is_not_found(server: Serving, done: str, number: str) -> None:
    for below in ("", "/tests", "/logs", "/logs/test", "/logs/test?follow=true", "/artifacts", "/artifacts/out.txt"):
        answer = server.client("read").get(f"{done}/{CELL}/attempts/{number}{below}")
        assert answer.status_code in {404, 422}, answer.text


def test_a_link_in_the_place_of_an_artifact_is_not_followed(server: Serving, done: str) -> None:
    (place,) = server.state.glob("runs/tricks-*/*/1/artifacts/out.txt")
    place.rename(place.with_name("kept"))
    place.symlink_to(server.state / "farm.db")
    try:
        answer = server.client("read").get(f"{done}/{CELL}/attempts/1/artifacts/out.txt")
        problem(answer, 404, "not-found")
    finally:
        place.unlink()
        place.with_name("kept").rename(place)


LARGE = {
    "a comment": lambda room: "#" * room,
    "a long script": lambda room: "test: |\n" + "  echo hello\n" * (room // 13),
    "many keys": lambda room: "".join(f"k{number}: 1\n" for number in range(room // 12)),
    "many cells": lambda room: "axes:\n  image: [" + ", ".join(f"i{number}" for number in range(room // 12)) + "]\n",
    "nested": lambda room: "axes: " + "[" * (room - 6),
    "anchors": lambda room: "a: &a [1]\nb: [" + "*a, " * (room // 4 - 10) + "]\n",
    "no line end": lambda room: "test: " + "x" * (room - 6),
    "too many": lambda room: "x" * (room + 1000),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_matrix_of_a_mebibyte_is_answered_and_others_are_meanwhile(server: Serving, kind: str) -> None:
    head = "name: large\n"
    text = head + LARGE[kind](MATRIX_BYTES - len(head))
    submitter, reader = server.client("submit"), server.client("read")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(submitter.post, f"{API}/validate", json={"matrix": text})
        served = 0
        while not sent.done():
            assert reader.get(f"{API}/me").status_code == 200
            served += 1
    assert served
    answer = sent.result()
    assert answer.status_code in {200, 422}, answer.text[:500]
    if answer.status_code == 422:
        assert len(answer.content) < 100_000


def test_an_upload_that_breaks_off_leaves_nothing(server: Serving) -> None:
    folder, admin = server.state / "sources", server.client("admin")
    before = sorted(folder.iterdir())
    with connection(server) as peer:
        head = f"POST {API}/sources HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token('submit')}\r\n"
        peer.sendall(f"{head}Content-Type: application/x-tar\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 5000)
        eventually(lambda: sorted(folder.iterdir()) != before, what="the upload has begun")
    eventually(
        lambda: sorted(folder.iterdir()) == before,
        what=lambda: f"nothing is left of the upload; there is: {sorted(folder.iterdir())}",
    )
    assert admin.get(f"{API}/me").status_code == 200


@pytest.mark.parametrize(
    "data", [b"", b"no tar at all", b"\0" * 1024, b"\x1f\x8b\x08\x00broken", tar_of({"a": b"x" * 2000})[:1000]]
)
def test_an_upload_that_is_no_tar_is_refused_and_leaves_nothing(server: Serving, data: bytes) -> None:
    before = sorted((server.state / "sources").iterdir())
    problem(server.client("submit").post(f"{API}/sources", content=data), 422, "source")
    assert sorted((server.state / "sources").iterdir()) == before


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b"])
def test_an_upload_whose_names_lead_away_is_refused(server: Serving, name: str) -> None:
    answer = server.client("submit").post(f"{API}/sources", content=tar_of({name: b"x"}))
    assert answer.status_code == 422


@pytest.mark.parametrize("digest", ["0" * 64, "x", "..%2F..%2Ffarm", "0" * 63 + "G", "%00"])
def test_a_source_that_was_not_uploaded_is_not_found(server: Serving, digest: str) -> None:
    problem(server.client("read").get(f"{API}/sources/{digest}"), 404, "not-found")


def test_an_upload_that_is_too_large_is_refused_and_leaves_nothing(own_server: Callable[..., Serving]) -> None:
    server = own_server(settings="upload_mib = 1\n")
    client, folder = server.client("submit"), server.state / "sources"
    room = 1_044_480 - 3 * 512  # of the largest tar below 1 MiB: its records have 10 KiB, and three blocks are no data
    fits, large = (tar_of({"a": b"x" * size}) for size in (room, room + 1))
    assert len(fits) < MATRIX_BYTES < len(large)
    before = sorted(folder.iterdir())
    for content in (large, iter([large[at : at + 65_536] for at in range(0, len(large), 65_536)])):
        problem(client.post(f"{API}/sources", content=content), 413, "too-large")
        assert sorted(folder.iterdir()) == before
    for content in (fits, iter([fits])):
        assert client.post(f"{API}/sources", content=content).status_code == 201


def test_two_submissions_with_one_key_at_the_same_time_make_one_run(server: Serving) -> None:
    client = server.client("submit")
    body = {
        "matrix": MATRIX.format(name="once", test='"true"', vcpus=1),
        "source": {"upload": server.upload(client)},
    }
    begun = threading.Barrier(8)

    def submit(_number: int) -> httpx.Response:
        own = server.client("submit")
        begun.wait(60)
        return own.post(f"{API}/runs", json=body, headers={"Idempotency-Key": "the-key"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    runs = {answer.json()["run"]["id"] for answer in answers if answer.status_code == 201}
    assert len(runs) == 1
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "busy")
    found = client.get(f"{API}/runs", params={"project": "once"}).json()["runs"]
    assert [run["id"] for run in found] == list(runs)
    again = client.post(f"{API}/runs", json=body, headers={"Idempotency-Key": "the-key"})
    assert again.json()["run"]["id"] in runs
    other = client.post(f"{API}/runs", json=body | {"priority": 1}, headers={"Idempotency-Key": "the-key"})
    problem(other, 409, "conflict")
    mine = server.client("admin").post(f"{API}/runs", json=body, headers={"Idempotency-Key": "the-key"})
    assert mine.json()["run"]["id"] not in runs  # a key is its owner's


def test_a_client_that_sends_a_byte_at_a_time_holds_up_nobody(server: Serving) -> None:
    reader = server.client("read")
    request = f"GET {API}/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token('read')}\r\n\r\n".encode()
    with connection(server) as peer:
        for byte in request:
            peer.sendall(bytes([byte]))
            assert reader.get("/healthz").status_code == 200
        assert peer.recv(12) == b"HTTP/1.1 200"


def test_a_client_that_does_not_read_holds_up_nobody(server: Serving) -> None:
    """Of a log that fits into no buffer on its way, so that the server has to wait for who does not read."""
    reader, submitter, size = server.client("read"), server.client("submit"), 8_000_000
    source = {"upload": server.upload(submitter, {"long.txt": b"0123456789abcde\n" * (size // 16)})}
    run = server.submit(submitter, "cat long.txt", name="wordy", only=[CELL], source=source)
    server.wait_for(reader, run)
    path = f"{API}/runs/{run}/cells/{CELL}/attempts/1/logs/test"
    with connection(server) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        token = server.token("read")
        peer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()
        )
        assert peer.recv(12) == b"HTTP/1.1 200"
        for _ in range(50):
            assert reader.get(f"{API}/me").status_code == 200
            assert reader.get(f"{API}/runs/{run}").status_code == 200
        left = 0
        while block := peer.recv(65_536):
            left += len(block)
    assert left > size  # it was waited for: nothing was thrown away


def test_who_asks_too_often_is_told_when_to_go_on(own_server: Callable[..., Serving]) -> None:
    server = own_server(settings="rate = 0.01\nburst = 3\n")
    eager, other, stranger = server.client("read"), server.client("submit"), server.client("")
    assert [eager.get(f"{API}/me").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = eager.get(f"{API}/me")
    problem(answer, 429, "rate")
    assert 1 <= int(answer.headers["Retry-After"]) <= 100
    assert other.get(f"{API}/me").status_code == 200
    guesses = [stranger.get(f"{API}/me", headers={"Authorization": "Bearer guess"}).status_code for _ in range(4)]
    assert guesses == [401, 401, 401, 429]
    assert eager.get("/healthz").status_code == 200


def test_a_client_behind_a_proxy_is_limited_by_its_own_address(own_server: Callable[..., Serving]) -> None:
    server = own_server(settings="rate = 0.01\nburst = 3\n")
    stranger = server.client("")

    def guesses(forwarded: str) -> list[int]:
        headers = {"Authorization": "Bearer guess", "X-Forwarded-For": forwarded}
        return [stranger.get(f"{API}/me", headers=headers).status_code for _ in range(4)]

    assert guesses("192.0.2.1") == [401, 401, 401, 429]
    assert guesses("192.0.2.2") == [401, 401, 401, 429]
    # What stands before the address that the proxy has put there may be anybody's invention.
    assert guesses("192.0.2.3, 192.0.2.1") == [429] * 4


def test_a_session_behind_a_proxy_that_adds_tls_is_for_https_only(server: Serving) -> None:
    stranger, form = server.client(""), {"token": server.token("read")}
    for scheme, secure in (("https", True), ("http", False)):
        answer = stranger.post("/login", data=form, headers={"X-Forwarded-Proto": scheme})
        assert answer.status_code == 303
        assert ("secure" in answer.headers["Set-Cookie"].lower().split("; ")) is secure


def test_nobody_but_its_owner_and_operators_end_a_run_or_a_cell(server: Serving) -> None:
    owner, other, operator = server.client("submit"), server.client("submit", name="other"), server.client("operate")
    run = server.submit(owner, "sleep 600", name="mine")
    server.wait_for(owner, run, "running")
    ways = [f"{API}/runs/{run}/cancel", f"{API}/runs/{run}/cells/{CELL}/cancel"]
    pages = [f"/runs/{run}/cancel", f"/runs/{run}/cancel/{CELL}"]
    for path in ways:
        problem(other.post(path), 403, "forbidden")
    for path in pages:
        answer = other.post(path)
        assert (answer.status_code, "somebody else" in answer.text) == (403, True)
    found = owner.get(f"{API}/runs/{run}").json()
    assert (found["run"]["state"], {"finished"} & {cell["state"] for cell in found["cells"]}) == ("running", set())
    assert owner.post(ways[1]).status_code == 202
    assert operator.post(ways[0]).status_code == 202
    assert server.wait_for(owner, run)["run"]["state"] == "finished"


def connection(server: Serving) -> socket.socket:
    """A connection without a client that behaves."""
    place = urlsplit(server.url)
    assert place.hostname
    assert place.port
    return socket.create_connection((place.hostname, place.port), timeout=60)


def raw_get(server: Serving, path: str) -> tuple[int, bytes]:
    """Ask for a path as it is written here."""
    with connection(server) as peer:
        token = server.token("read")
        peer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while block := peer.recv(65_536):
            answer += block
    return int(answer.split(b" ", 2)[1]), answer
