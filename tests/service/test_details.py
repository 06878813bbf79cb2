"""What a run came to, looked at from the run down to the bytes of a log."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from xml.etree.ElementTree import fromstring

import httpx
import pytest

from farm.report import FORMATS
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

CELL = "debian-13/amd64/fake"
OTHER = "debian-13/s390x/fake"
RUNS = "/api/v1/runs"
JUNIT = (
    '<testsuite name="unit"><testcase name="good"/><testcase name="also 100% good"/>'
    '<testcase name="bad"><failure message="1 is not 2">the detail</failure></testcase></testsuite>'
)
MATRIX = f"""\
name: details
axes:
  image: [debian-13]
  arch: [amd64, s390x]
  hypervisor: [fake]
guest: {{memory: 128M}}
test: |
  echo hello from the guest
  echo '{JUNIT}' > results.xml
  echo 'a file' > out/a-füle.txt
collect:
  junit: ["*.xml"]
  artifacts: ["out/*"]
"""


class Done(NamedTuple):
    """A run that has ended, and how to ask for it."""

    client: httpx.Client
    run: str

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        answer = self.client.get(f"{RUNS}/{self.run}{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer

    def attempt(self, path: str, **parameters: Any) -> httpx.Response:
        return self.get(f"/cells/{CELL}/attempts/1{path}", **parameters)


@pytest.fixture(scope="module")
def done(server: Serving) -> Done:
    submitter = server.client("submit")
    run = server.submit(submitter, matrix=MATRIX, version="1.2")
    server.wait_for(submitter, run)
    return Done(server.client("read"), run)


def test_the_cells_of_a_run_are_told_in_pages(done: Done) -> None:
    first = done.get("/cells", limit=1).json()
    second = done.get("/cells", limit=1, after=first["next"]).json()
    assert [cell["id"] for page in (first, second) for cell in page["cells"]] == [CELL, OTHER]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("wanted", "cells"),
    [
        ({"verdict": "failed"}, [CELL, OTHER]),
        ({"verdict": "passed"}, []),
        ({"verdict": "none"}, []),
        ({"state": "finished"}, [CELL, OTHER]),
        ({"state": "queued"}, []),
        ({"cell": "*/s390x"}, [OTHER]),
        ({"cell": "*/s390x", "verdict": "failed"}, [OTHER]),
        ({"after": "no such cell"}, []),
    ],
)
def test_cells_are_filtered(done: Done, wanted: dict[str, str], cells: list[str]) -> None:
    assert [cell["id"] for cell in done.get("/cells", **wanted).json()["cells"]] == cells


def test_a_cell_tells_all_but_its_tests_which_it_counts(done: Done) -> None:
    found = done.get(f"/cells/{CELL}").json()
    assert found["tests"] == {"all": 3, "passed": 2, "failed": 1, "error": 0, "skipped": 0}
    (attempt,) = found["attempts"]
    assert attempt["tests"]["failed"] == 1
    assert [phase["phase"] for phase in attempt["phases"]][:2] == ["provision", "boot"]
    assert attempt["guest"]["hypervisor"] == "fake"
    assert attempt == done.attempt("").json() == done.get(f"/cells/{CELL}/attempts").json()["attempts"][0]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["good", "also 100% good", "bad"]),
        ({"status": "failed"}, ["bad"]),
        ({"text": "NOT 2"}, ["bad"]),
        ({"text": "100%"}, ["also 100% good"]),
        ({"text": "_"}, []),
        ({"text": "unit"}, ["good", "also 100% good", "bad"]),
    ],
)
def test_the_tests_of_an_attempt_are_filtered(done: Done, wanted: dict[str, str], names: list[str]) -> None:
    assert [test["result"]["name"] for test in done.attempt("/tests", **wanted).json()["tests"]] == names


def test_the_tests_of_a_run_are_told_in_pages_over_all_cells(done: Done) -> None:
    pages, after = [], 0
    while after is not None:
        pages.append(done.get("/tests", limit=4, after=after).json())
        after = pages[-1]["next"]
    assert [len(page["tests"]) for page in pages] == [4, 2]
    failed = done.get("/tests", status="failed").json()["tests"]
    assert {(test["cell"], test["number"]) for test in failed} == {(CELL, 1), (OTHER, 1)}
    assert failed[0]["result"]["detail"] == "the detail"


def test_the_logs_of_an_attempt_are_listed_with_their_sizes(done: Done) -> None:
    sizes = {log["name"]: log["bytes"] for log in done.attempt("/logs").json()["logs"]}
    assert {"test", "console"} <= set(sizes)
    assert len(done.attempt("/logs/test").content) == sizes["test"]


def test_a_log_is_text_and_nothing_else_for_a_browser(done: Done) -> None:
    answer = done.attempt("/logs/test")
    assert b"hello from the guest\n" in answer.content
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-4", 206, slice(0, 5)),
        ("bytes=3-", 206, slice(3, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=2-999999", 206, slice(2, None)),
        ("bytes=-999999", 206, slice(0, None)),
        ("bytes=999999-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-2", 200, slice(0, None)),
        ("bytes=0-1,3-4", 200, slice(0, None)),
        ("lines=0-1", 200, slice(0, None)),
        ("bytes=-", 200, slice(0, None)),
    ],
)
def test_a_range_of_a_log_is_given(done: Done, header: str, status: int, part: slice | None) -> None:
    whole = done.attempt("/logs/test").content
    path = f"{RUNS}/{done.run}/cells/{CELL}/attempts/1/logs/test"
    answer = done.client.get(path, headers={"Range": header})
    assert answer.status_code == status
    if part is None:
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
        assert answer.json()["type"] == "/problems/range"
        return
    assert answer.content == whole[part]
    if status == 206:
        start, end, _ = part.indices(len(whole))
        assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(whole)}"


def test_a_log_of_an_attempt_that_has_ended_can_be_followed_to_its_end(done: Done) -> None:
    assert done.attempt("/logs/test", follow=True).content == done.attempt("/logs/test").content


def test_a_log_is_followed_while_it_grows(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client, "echo one\nsleep 3\necho two", only=[CELL])
    server.wait_for(client, run, "running")
    path = f"{RUNS}/{run}/cells/{CELL}/attempts/1/logs/test"
    with client.stream("GET", path, params={"follow": True}) as answer:
        heard = [(line, client.get(f"{RUNS}/{run}").json()["run"]["state"]) for line in answer.iter_lines()]
    assert [line for line, _ in heard if line in {"one", "two"}] == ["one", "two"]
    assert dict(heard)["one"] == "running"
    assert server.wait_for(client, run)["run"]["exit_code"] == 0


def test_who_follows_a_log_and_goes_away_leaves_the_server_well(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client, "echo one\nsleep 2\necho two", only=[CELL])
    server.wait_for(client, run, "running")
    path = f"{RUNS}/{run}/cells/{CELL}/attempts/1/logs/test"
    with client.stream("GET", path, params={"follow": True}) as answer:
        next(answer.iter_lines())
    server.wait_for(client, run)
    assert client.get(path).content.endswith(b"two\n")


def test_an_artifact_is_downloaded_and_not_shown(done: Done) -> None:
    (artifact,) = done.attempt("/artifacts").json()["artifacts"]
    assert artifact["path"] == "out/a-füle.txt"
    answer = done.attempt(f"/artifacts/{artifact['path']}")
    assert answer.content == b"a file\n"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a-f%C3%BCle.txt"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", FORMATS)
def test_the_report_is_given_in_every_format(done: Done, name: str) -> None:
    answer = done.get(f"/report/{name}")
    assert "sandbox; default-src 'none'" in answer.headers["Content-Security-Policy"]
    readers: dict[str, Any] = {
        "application/json": json.loads,
        "application/xml": fromstring,
        "image/svg+xml": fromstring,
    }
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in readers or kind.startswith("text/")
    assert readers.get(kind, str.strip)(answer.text) is not None
    assert done.run in answer.text or name == "badge"


def test_the_badge_of_a_project_tells_of_its_newest_run(done: Done) -> None:
    answer = done.client.get("/api/v1/projects/details/badge")
    assert answer.headers["Content-Type"] == "image/svg+xml"
    assert answer.headers["Cache-Control"] == "max-age=60, must-revalidate"
    assert "0 of 2" in answer.text


def test_a_run_that_has_not_changed_is_not_sent_again(done: Done) -> None:
    first = done.get("")
    again = done.client.get(f"{RUNS}/{done.run}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_was_kept_of_a_run_is_what_the_store_has_after_every_change(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client, "sleep 1\necho hello")
    server.wait_for(client, run)
    seen = client.get(f"{RUNS}/{run}").json()
    report = client.get(f"{RUNS}/{run}/report/json").json()
    assert seen["run"] == report["run"]
    for brief, cell in zip(seen["cells"], report["cells"], strict=True):
        last = cell["attempts"][-1]
        assert (brief["id"], brief["verdict"], brief["attempts"]) == (cell["id"], "passed", len(cell["attempts"]))
        assert (brief["duration_s"], brief["tests"]) == (last["duration_s"], cell["tests"])
