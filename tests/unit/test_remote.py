"""What a server answers, as the farm's own errors and types; what is tried again, and what is not."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api import problems as of_the_api
from farm import errors
from farm.errors import (
    BusyError,
    ConfigError,
    ConflictError,
    FarmError,
    ForbiddenError,
    MatrixError,
    NotFoundError,
    Problem,
    ServerError,
)
from farm.model import RunQuery, RunRequest
from farm.remote import Client
from farm.remote.images import RemoteImages
from farm.remote.listen import PATIENCE_S, SILENCE_S, Listener
from farm.remote.problems import error_of
from farm.remote.sse import Sent, events
from farm.remote.wire import Request, Wire
from farm.report.overview import overview
from tests.unit.records import demo_run
from tests.unit.test_image_tables import LINE

URL = "http://farm.example"
NOW = datetime(2025, 3, 14, tzinfo=UTC)
Answer = httpx.Response | Exception


def problem(kind: str, status: int, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"type": f"/problems/{kind}", "title": "", "status": status, **more})


class Server:
    """Answers in turn, the last answer for ever; keeps what it was asked, and how long was waited."""

    def __init__(self, *answers: Answer | Callable[[], Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.waits: list[float] = []
        self.wire = Wire(URL, "t0ken", transport=httpx.MockTransport(self.answer), pause=self.waits.append)
        self.client = Client(self.wire, self.waits.append)

    def answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer


# --- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [cls for cls in of_the_api.STATUS if cls not in {MatrixError, FarmError}])
def test_an_error_of_the_farm_comes_back_as_itself(cls: type[FarmError]) -> None:
    answer = of_the_api._of_farm(None, cls("cannot do it: why", hint="do that"))  # type: ignore[arg-type]
    error = error_of(answer.status_code, bytes(answer.body), URL)
    assert (type(error), error.message, error.hint) == (cls, "cannot do it: why", "do that")


def test_mistakes_in_a_matrix_come_back_with_their_places() -> None:
    mistakes = (Problem("m.yaml", 3, 5, "no such key"), Problem("m.yaml", 7, 1, "too much"))
    answer = of_the_api._of_farm(None, MatrixError(mistakes, hint="read"))  # type: ignore[arg-type]
    error = error_of(answer.status_code, bytes(answer.body), URL)
    assert isinstance(error, MatrixError)
    assert error.message == "m.yaml:3:5: no such key\nm.yaml:7:1: too much"
    assert [(one.line, one.column, one.what) for one in error.problems] == [(3, 5, "no such key"), (7, 1, "too much")]


@pytest.mark.parametrize(
    ("kind", "status", "cls"),
    [
        ("unauthorized", 401, ForbiddenError),
        ("forbidden", 403, ForbiddenError),
        ("request", 422, ConfigError),
        ("too-large", 413, ConfigError),
        ("rate", 429, ServerError),
        ("defect", 500, ServerError),
        ("invented-later", 404, NotFoundError),
        ("invented-later", 409, ConflictError),
        ("invented-later", 418, ServerError),
    ],
)
def test_a_problem_of_the_api_s_own_becomes_an_error(kind: str, status: int, cls: type[FarmError]) -> None:
    error = error_of(status, problem(kind, status, detail="why").content, URL)
    assert (type(error), error.message) == (cls, "why")


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b'{"detail": "x"}', b'{"type": "x", "detail": 3}'])
def test_what_is_no_problem_is_no_answer_of_a_farm(body: bytes) -> None:
    error = error_of(599, body, URL)
    assert isinstance(error, ServerError)
    assert "599" in error.message


def test_what_a_server_says_cannot_steer_a_terminal() -> None:
    error = error_of(404, problem("not-found", 404, detail="a\x1b[2Jb", hint="\x1b]0;x\x07c").content, URL)
    assert (error.message, error.hint) == ("ab", "c")


def test_every_error_has_a_word_of_its_own() -> None:
    names = [name for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, FarmError)]
    found = {error_of(400, problem(of_kind(name), 400, detail="x").content, URL).__class__.__name__ for name in names}
    assert set(names) - found == {"FarmError"}


def of_kind(name: str) -> str:
    return "-".join(re.findall("[A-Z][a-z]+", name.removesuffix("Error"))).lower()


# --- requests ---------------------------------------------------------------------------------------

OK = httpx.Response(200, json={})
BUSY = problem("busy", 409, detail="being worked on")
CUT = httpx.ReadError("cut")
REFUSED = httpx.ConnectError("refused")


@pytest.mark.parametrize("first", [httpx.Response(502), httpx.Response(503), CUT, REFUSED, BUSY], ids=repr)
def test_what_does_no_harm_twice_is_tried_again(first: Answer) -> None:
    server = Server(first, first, OK)
    server.wire.ask(Request("GET", "/runs"))
    assert len(server.asked) == 3
    assert server.waits[0] < server.waits[1]


@pytest.mark.parametrize(("first", "tries"), [(CUT, 1), (httpx.Response(503), 1), (BUSY, 1), (REFUSED, 2)], ids=repr)
def test_what_may_have_been_done_already_is_not_tried_again(first: Answer, tries: int) -> None:
    server = Server(first, OK)
    try:
        server.wire.ask(Request("POST", "/runs/x/rerun", repeatable=False))
    except FarmError:
        assert tries == 1
    assert len(server.asked) == tries


def test_who_comes_too_often_waits_as_long_as_he_is_told() -> None:
    busy = problem("rate", 429, detail="too many")
    busy.headers["Retry-After"] = "7"
    server = Server(busy, OK)
    server.wire.ask(Request("POST", "/runs/x/rerun", repeatable=False))
    assert server.waits == [7.0]


def test_nobody_waits_for_an_hour() -> None:
    busy = problem("rate", 429, detail="too many")
    busy.headers["Retry-After"] = "3600"
    server = Server(busy)
    with pytest.raises(ServerError, match="too many"):
        server.wire.ask(Request("GET", "/runs"))
    assert (len(server.asked), server.waits) == (1, [])


def test_a_server_that_is_not_there_is_a_sentence_after_some_tries() -> None:
    server = Server(REFUSED)
    with pytest.raises(ServerError, match=r"cannot reach the farm at http://farm\.example: refused"):
        server.wire.ask(Request("GET", "/runs"))
    assert len(server.asked) == 5


def test_a_redirection_takes_no_token_elsewhere() -> None:
    server = Server(httpx.Response(302, headers={"Location": "http://other.example"}))
    with pytest.raises(ServerError, match="302 Found"):
        server.wire.ask(Request("GET", "/runs"))
    assert [str(request.url) for request in server.asked] == [f"{URL}/api/v1/runs"]


@pytest.mark.parametrize(
    "url", ["farm.example", "ftp://farm.example", "", "http://", "http://[", "http://a:x", "http://a b"]
)
def test_what_is_no_url_is_a_mistake(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot use the server"):
        Wire(url, transport=httpx.MockTransport(lambda _: OK)).ask(Request("GET", "/runs"))


def test_a_password_in_the_url_is_not_shown() -> None:
    assert Wire("http://me:secret@farm.example/").url == URL


# --- the client -------------------------------------------------------------------------------------

OVERVIEW = overview(demo_run(), {})


def looked_at(**changes: Any) -> httpx.Response:
    return httpx.Response(200, text=OVERVIEW.model_copy(update=changes).model_dump_json(by_alias=True))


def test_a_run_is_submitted_once_although_the_first_answer_was_lost() -> None:
    server = Server(CUT, BUSY, BUSY, looked_at())
    assert server.client.submit(RunRequest(matrix="x", priority=7), key="k") == OVERVIEW
    assert {request.headers["Idempotency-Key"] for request in server.asked} == {"k"}
    assert {request.content for request in server.asked} == {b'{"matrix":"x","priority":7}'}


def test_a_first_request_that_takes_long_is_waited_for() -> None:
    server = Server(*[BUSY] * 12, looked_at())
    assert server.client.submit(RunRequest(matrix="x"), key="k") == OVERVIEW


def test_what_a_newer_server_adds_is_left_out() -> None:
    data = json.loads(OVERVIEW.model_dump_json(by_alias=True))
    data["news"] = data["run"]["news"] = data["cells"][0]["news"] = 1
    assert Server(httpx.Response(200, json=data)).client.run("x") == OVERVIEW


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"run": {}, "cells": [], "warnings": []}'])
def test_an_answer_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(ServerError, match="cannot understand the answer"):
        Server(httpx.Response(200, text=text)).client.run("x")


def test_a_name_cannot_lead_to_another_place() -> None:
    server = Server(looked_at())
    server.client.run("../tokens?x#y")
    assert server.asked[0].url.raw_path == b"/api/v1/runs/..%2Ftokens%3Fx%23y"


def test_runs_come_page_by_page() -> None:
    summary = {
        **dict.fromkeys(("project", "version", "owner"), "x"),
        "priority": 1,
        "labels": {},
        "state": "queued",
        "created": NOW.isoformat(),
        "finished": None,
        "cancelled": False,
        "exit_code": None,
        "rerun_of": None,
        "cells": 1,
        "verdicts": {},
    }
    pages = [
        httpx.Response(200, json={"runs": [summary | {"id": name}], "next": next_})
        for name, next_ in (("x-2", "x-2"), ("x-1", None))
    ]
    server = Server(*pages)
    assert [one.id for one in server.client.runs(RunQuery(limit=900))] == ["x-2", "x-1"]
    assert [request.url.params.get("before") for request in server.asked] == [None, "x-2"]


# --- events -----------------------------------------------------------------------------------------


def test_a_stream_is_read_by_its_standard() -> None:
    sent = ": hello|id: 1|event: a|data: x|data:  y||data: z||event: b||id: 2|data: cut"
    assert list(events(sent.split("|"))) == [Sent("1", "a", "x\n y"), Sent("1", "message", "z")]


def event(number: int, kind: str = "phase-started", cell: str | None = "a") -> str:
    data = {"id": number, "run": "r-1", "cell": cell, "number": 1, "at": NOW.isoformat(), "kind": kind, "payload": {}}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


END = "event: end\ndata: {}\n\n"


def stream(*parts: str | Exception) -> Callable[[], Answer]:
    """A stream that says something, and then breaks where one of the parts is an error."""

    class Said(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for part in parts:
                if isinstance(part, Exception):
                    raise part
                yield part.encode()

    return lambda: httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Said())


def test_a_stream_that_breaks_is_taken_up_where_it_was() -> None:
    server = Server(stream(event(1), event(2), CUT), REFUSED, stream(event(3), "id: 4\nda"), stream(event(4), END))
    told: list[str] = []
    heard = list(Listener(server.client, "r-1", lost=told.append).events())
    assert [one.id for one in heard] == [1, 2, 3, 4]
    assert [request.headers.get("Last-Event-ID") for request in server.asked] == [None, "2", "2", "3"]
    assert len(told) == 1


def test_a_server_that_is_started_again_before_anybody_notices_is_worth_no_word() -> None:
    server = Server(stream(event(1)), REFUSED, stream(event(2), END))
    told: list[str] = []
    heard = list(Listener(server.client, "r-1", lost=told.append).events())
    assert [one.id for one in heard] == [1, 2]
    assert [request.headers.get("Last-Event-ID") for request in server.asked] == [None, "1", "1"]
    assert told == []


def test_a_server_that_stays_away_is_given_up() -> None:
    server = Server(REFUSED)
    times = iter(range(0, 10**6, int(PATIENCE_S / 3)))
    told: list[str] = []
    with pytest.raises(ServerError, match="refused"):
        list(Listener(server.client, "r-1", lost=told.append, clock=lambda: float(next(times))).events())
    assert len(told) == 1


@pytest.mark.parametrize("answer", [problem("not-found", 404, detail="x"), problem("unauthorized", 401, detail="x")])
def test_a_run_that_is_not_there_is_not_waited_for(answer: httpx.Response) -> None:
    server = Server(answer)
    with pytest.raises((NotFoundError, ForbiddenError)):
        list(Listener(server.client, "r-1").events())
    assert len(server.asked) == 1


@pytest.mark.parametrize("silent", [True, False])
def test_where_streams_do_not_get_through_the_run_is_looked_at(silent: bool) -> None:
    times = iter(range(0, 10**6, int(SILENCE_S)))
    first = stream(httpx.ReadTimeout("silence")) if silent else httpx.Response(200, text="a page")
    cells = [cell.id for cell in OVERVIEW.cells if cell.verdict]
    server = Server(first, looked_at())
    heard = list(Listener(server.client, "r-1", clock=lambda: float(next(times))).events())
    assert [(one.kind, one.cell) for one in heard] == [("cell-finished", cell) for cell in cells]
    assert len(cells) > 1


def test_a_key_in_use_is_told_from_one_that_was_used() -> None:
    assert isinstance(error_of(409, BUSY.content, URL), BusyError)


# --- images -----------------------------------------------------------------------------------------

LINES = [LINE.model_copy(update={"digest": digest * 32}).model_dump(mode="json") for digest in ("ab", "cd")]
FACTS = {"packages": {}, "files": {}, "base": "", "disk_mib": 1, "disk_format": "qcow2"}
FACTS |= {"image": LINES[1], "cmdline": "", "mirror": "", "tools": {}}


@pytest.mark.parametrize("name", ["cdcd", "sha256:cdcd", "debian-13/s390x", "debian/stable/s390x"])
def test_an_image_is_named_as_on_its_own_machine(name: str) -> None:
    answers = [httpx.Response(200, json={"images": LINES})] if "/" not in name else []
    server = Server(*answers, httpx.Response(200, json=FACTS))
    assert RemoteImages(server.client).show(name).image.digest == "cd" * 32
    asked = server.asked[-1].url
    assert asked.path == f"/api/v1/images/{name if '/' in name else 'debian-13/s390x'}"
    assert asked.params.get("digest") == (None if "/" in name else "cd" * 32)


@pytest.mark.parametrize(("digits", "why"), [("ef", "none that the server has"), ("", "2 images match")])
def test_the_digits_of_no_image_or_of_several_are_refused(digits: str, why: str) -> None:
    with pytest.raises(NotFoundError, match=why):
        RemoteImages(Server(httpx.Response(200, json={"images": LINES})).client).show(digits)
