"""What release managers ask a real server: history, comparisons, statements, waivers and baselines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

API = "/api/v1"
PROJECT = f"{API}/projects/compat"
AMD, S390X = "debian-13/amd64/fake", "debian-13/s390x/fake"
GOOD, BAD = '<testcase name="{name}"/>', '<testcase name="{name}"><failure message="1 is not 2">x</failure></testcase>'
MATRIX = """\
name: compat
axes:
  image: [debian-13]
  arch: [amd64, s390x]
  hypervisor: [fake]
guest: {{memory: 128M}}
test: |
  echo '<testsuite name="unit">{cases}</testsuite>' > results.xml
collect: {{junit: ["*.xml"]}}
"""


class Runs(NamedTuple):
    """Three runs: two of version 1, which passed, and one of version 2, in which a test fails."""

    first: str
    second: str
    third: str
    reader: httpx.Client
    operator: httpx.Client

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.reader.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()


def submit(server: Serving, client: httpx.Client, tests: Mapping[str, str], **more: Any) -> str:
    """A run of these tests to its end."""
    cases = "".join(case.format(name=name) for name, case in tests.items())
    body = {"matrix": MATRIX.format(cases=cases), "source": {"upload": server.upload(client)}} | more
    answer = client.post(f"{API}/runs", json=body)
    assert answer.status_code == 201, answer.text
    run = str(answer.json()["run"]["id"])
    server.wait_for(client, run)
    return run


@pytest.fixture(scope="module")
def runs(server: Serving) -> Iterator[Runs]:
    client = server.client("submit")
    release = {"version": "1", "labels": {"release": "1"}}
    first = submit(server, client, {"steady": GOOD, "new bug": GOOD}, **release)
    second = submit(server, client, {"steady": GOOD, "new bug": GOOD}, only=["*/amd64"], **release)
    third = submit(server, client, {"steady": GOOD, "new bug": BAD}, version="2")
    return Runs(first, second, third, server.client("read"), server.client("operate"))


# --- history ----------------------------------------------------------------------------------------


def test_a_project_is_listed_with_its_newest_run(runs: Runs) -> None:
    (found,) = (one for one in runs.get(f"{API}/projects") if one["project"] == "compat")
    assert (found["runs"], found["passed"], found["newest"], found["exit_code"]) == (3, 2, runs.third, 1)


def test_the_results_of_a_test_are_told_for_every_run_and_cell(runs: Runs) -> None:
    found = runs.get(f"{PROJECT}/tests", name="new bug")
    assert [one["run"] for one in found["results"]] == [runs.third] * 2 + [runs.second] + [runs.first] * 2
    assert {(one["run"], one["cell"], one["status"]) for one in found["results"]} == {
        (runs.third, AMD, "failed"),
        (runs.third, S390X, "failed"),
        (runs.second, AMD, "passed"),
        (runs.first, AMD, "passed"),
        (runs.first, S390X, "passed"),
    }
    assert found["next"] is None
    first = runs.get(f"{PROJECT}/tests", name="new bug", limit=2)
    second = runs.get(f"{PROJECT}/tests", name="new bug", limit=3, before=first["next"])
    assert [*first["results"], *second["results"]] == found["results"]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("wanted", "count"),
    [({"cell": "*/s390x"}, 2), ({"version": "1"}, 3), ({"suite": "another"}, 0), ({"arch": "amd64"}, 3)],
    ids=str,
)
def test_results_are_those_that_are_asked_for(runs: Runs, wanted: dict[str, str], count: int) -> None:
    assert len(runs.get(f"{PROJECT}/tests", name="new bug", **wanted)["results"]) == count


def test_cells_and_tests_are_told_over_the_runs(runs: Runs) -> None:
    found = runs.get(f"{PROJECT}/trends")
    assert [run["id"] for run in found["runs"]] == [runs.first, runs.second, runs.third]
    told = {cell["cell"]: [point and point["verdict"] for point in cell["points"]] for cell in found["cells"]}
    assert told == {AMD: ["passed", "passed", "failed"], S390X: ["passed", None, "failed"]}
    (flaky,) = runs.get(f"{PROJECT}/flaky")["tests"]
    assert (flaky["name"], flaky["changed"], flaky["passed"], flaky["failed"]) == ("new bug", 2, 3, 2)
    every = runs.get(f"{PROJECT}/flaky", rank="name")["tests"]
    assert [one["name"] for one in every] == ["new bug", "steady"]


# --- comparisons and statements ---------------------------------------------------------------------


@pytest.mark.parametrize("base", ["compat@1", "compat@last-release"])
def test_versions_are_compared(runs: Runs, base: str) -> None:
    found = runs.get(f"{API}/compare", base=base, head="compat@2")
    assert (found["base"]["id"], found["head"]["id"], found["worse"]) == (runs.second, runs.third, True)
    told = {one["id"]: one["change"] for one in found["cell_changes"]}
    assert told == {AMD: "regression", S390X: "new_failure"}


def test_a_comparison_is_to_be_had_for_a_summary(runs: Runs) -> None:
    answer = runs.reader.get(f"{API}/compare?base={runs.first}&head={runs.third}&format=markdown")
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert "2 regressions" in answer.text
    assert "new bug" in answer.text


def test_patterns_say_where_tests_fail(runs: Runs) -> None:
    found = runs.get(f"{API}/runs/{runs.third}/patterns")
    (finding,) = found["findings"]
    assert [test["name"] for test in finding["tests"]] == ["new bug"]
    assert "new bug" in runs.reader.get(f"{API}/runs/compat@2/patterns?format=text").text


def test_a_statement_takes_what_did_not_run_from_an_earlier_run(runs: Runs) -> None:
    found = runs.get(f"{API}/runs/{runs.second}/statement", baseline=runs.first)
    told = {one["id"]: (one["status"], one["reasons"][0]["kind"]) for one in found["platforms"]}
    assert told == {AMD: ("supported", "passed"), S390X: ("not_known", "reused")}
    aged = runs.get(f"{API}/runs/{runs.second}/statement", max_age="0s")
    assert {one["status"] for one in aged["platforms"]} == {"not_known"}


@pytest.mark.parametrize(
    ("form", "media", "has"),
    [
        ("html", "text/html; charset=utf-8", "<!doctype html>"),
        ("markdown", "text/markdown; charset=utf-8", "# Support statement"),
        ("csv", "text/csv; charset=utf-8", "platform,status"),
        ("text", "text/plain; charset=utf-8", AMD),
        ("json", "application/json", '"platforms"'),
    ],
)
def test_a_statement_is_to_be_had_in_every_format(runs: Runs, form: str, media: str, has: str) -> None:
    answer = runs.reader.get(f"{API}/runs/{runs.third}/statement", params={"format": form})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media)
    assert has.lower() in answer.text.lower()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    if form == "csv":
        assert {row["platform"] for row in csv.DictReader(io.StringIO(answer.text))} == {AMD, S390X}


def test_a_waiver_changes_the_statement_for_as_long_as_it_is_there(runs: Runs) -> None:
    waivers = f"{PROJECT}/waivers"
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    request = {"cells": "*/s390x", "tests": "new bug", "reason": "known", "expires": until}
    made = runs.operator.post(waivers, json=request)
    assert made.status_code == 201, made.text
    place = made.headers["Location"]
    assert runs.get(place) == made.json()
    assert made.json()["created_by"] == "the-operate"
    assert made.json() in runs.get(waivers)

    def status() -> dict[str, str]:
        found = runs.get(f"{API}/runs/{runs.third}/statement")
        return {one["id"]: one["status"] for one in found["platforms"]}

    assert status() == {AMD: "not_supported", S390X: "supported_with_waivers"}
    over = request | {"expires": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    assert runs.operator.put(place, json=over).json()["reason"] == "known"
    assert status() == {AMD: "not_supported", S390X: "not_supported"}
    assert runs.operator.delete(place).status_code == 204
    assert runs.reader.get(place).status_code == 404
    assert runs.operator.delete(place).status_code == 404


def test_a_baseline_is_a_reference(runs: Runs) -> None:
    place = f"{PROJECT}/baselines/golden"
    made = runs.operator.put(place, json={"run": "compat@last-release"})
    assert (made.status_code, made.json()["run"]) == (200, runs.second)
    assert runs.get(place) == made.json() == runs.get(f"{PROJECT}/baselines")[0]
    found = runs.get(f"{API}/compare", base="compat@baseline:golden", head=runs.third)
    assert found["base"]["id"] == runs.second
    assert runs.operator.delete(place).status_code == 204
    assert runs.reader.get(place).status_code == 404


def test_every_change_is_in_the_audit_log(server: Serving, runs: Runs) -> None:
    place = f"{PROJECT}/baselines/noted"
    runs.operator.put(place, json={"run": runs.first})
    runs.operator.delete(place)
    waiver = runs.operator.post(f"{PROJECT}/waivers", json={"reason": "noted"}).headers["Location"]
    runs.operator.put(waiver, json={"reason": "noted again"})
    runs.operator.delete(waiver)
    number = waiver.rpartition("/")[2]
    log = server.client("admin").get(f"{API}/audit").json()
    told = [(one["action"], one["target"]) for one in log if one["target"] in {"compat/noted", f"compat/{number}"}]
    assert told[::-1] == [
        ("baseline.set", "compat/noted"),
        ("baseline.remove", "compat/noted"),
        ("waiver.add", f"compat/{number}"),
        ("waiver.change", f"compat/{number}"),
        ("waiver.remove", f"compat/{number}"),
    ]
    assert {one["actor"] for one in log if one["target"] == "compat/noted"} == {"the-operate"}


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/projects/none/tests?name=a",
        "/projects/none/trends",
        "/projects/none/flaky",
        "/projects/none/waivers",
        "/projects/none/baselines",
        "/projects/compat/baselines/none",
        "/projects/compat/waivers/999999",
        "/compare?base=none-1&head=none-2",
        "/compare?base=compat@77&head=compat@2",
        "/runs/none-1/patterns",
        "/runs/compat@baseline:none/statement",
    ],
)
def test_what_is_not_there_is_not_found(runs: Runs, path: str) -> None:
    answer = runs.reader.get(f"{API}{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    assert answer.json()["detail"].startswith("cannot ")


@pytest.mark.parametrize(
    "path",
    [
        "/projects/compat/tests",
        "/projects/compat/tests?name=a&limit=0",
        "/projects/compat/tests?name=a&before=99999999999999999999",
        "/projects/compat/trends?last=1000",
        "/projects/compat/flaky?rank=loud",
        "/projects/compat/baselines/a%20b",
        "/projects/compat/waivers/one",
        "/compare?base=compat@1",
        "/compare?base=compat@1&head=compat@2&format=pdf",
        "/runs/latest/statement?max_age=old",
        "/runs/latest/statement?max_age=-1",
    ],
)
def test_what_cannot_be_meant_is_refused(runs: Runs, path: str) -> None:
    assert runs.reader.get(f"{API}{path}").status_code == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"reason": ""},
        {"reason": "x", "link": "javascript:1"},
        {"reason": "x", "expires": "soon"},
        {"reason": "x", "id": 1},
    ],
    ids=str,
)
def test_a_waiver_that_is_none_is_refused(runs: Runs, wrong: dict[str, object]) -> None:
    assert runs.operator.post(f"{PROJECT}/waivers", json=wrong).status_code == 422


def test_a_baseline_of_another_project_is_a_conflict(server: Serving, runs: Runs) -> None:
    client = server.client("submit")
    other = server.submit(client, name="other")
    server.wait_for(client, other)
    answer = runs.operator.put(f"{PROJECT}/baselines/golden", json={"run": other})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


@pytest.mark.parametrize("scope", ["read", "submit"])
def test_only_operators_accept_failures_and_name_baselines(server: Serving, runs: Runs, scope: str) -> None:
    client = server.client(scope)
    assert client.post(f"{PROJECT}/waivers", json={"reason": "x"}).status_code == 403
    assert client.put(f"{PROJECT}/waivers/1", json={"reason": "x"}).status_code == 403
    assert client.delete(f"{PROJECT}/waivers/1").status_code == 403
    assert client.put(f"{PROJECT}/baselines/x", json={"run": runs.first}).status_code == 403
    assert client.delete(f"{PROJECT}/baselines/x").status_code == 403


# --- the same from the command line, on the store and through the server ----------------------------


class Command(NamedTuple):
    """The program, asking the store or the server."""

    server: Serving
    more: tuple[str, ...]

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = self.server.farm(*arguments, *self.more, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout or done.stderr


@pytest.fixture(params=["store", "server"])
def farm(request: pytest.FixtureRequest, server: Serving, runs: Runs, tmp_path: Path) -> Command:
    if request.param == "store":
        return Command(server, ())
    file = tmp_path / "token"
    file.write_text(server.token("operate"))
    return Command(server, ("--server", server.url, "--token-file", str(file)))


def test_runs_are_compared_and_explained_by_reference(farm: Command, runs: Runs) -> None:
    assert farm("compare", "compat@last-release", "compat@2", status=1).startswith(f"{runs.second} → {runs.third}: ")
    assert farm("compare", runs.first, runs.second, "--format", "markdown").startswith("#")
    assert "new bug" in farm("patterns", "compat@2")
    assert "no finished run of the version '7'" in farm("compare", "compat@7", "compat@2", status=2)


def test_waivers_are_added_listed_and_removed(farm: Command) -> None:
    what = ("--cells", "*/amd64", "--tests", "new bug", "--link", "https://bugs.example.org/1")
    said = farm("waiver", "add", "compat", "--reason", "known [sic]", "--expires", "30d", *what)
    number = said.split()[1]
    assert "known [sic]" in farm("waiver", "list", "compat")
    assert "supported with waivers" in farm("statement", "compat@2").replace("_", " ")
    farm("waiver", "remove", "compat", number)
    assert "known [sic]" not in farm("waiver", "list", "compat")
    assert f"cannot find the waiver {number} of compat" in farm("waiver", "remove", "compat", number, status=2)


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [("--link", "javascript:1", "--link: "), ("--reason", "", "--reason: "), ("--expires", "soon", "duration")],
)
def test_a_waiver_that_is_none_is_told_by_its_option(
    server: Serving, runs: Runs, option: str, value: str, why: str
) -> None:
    given = {"--reason": "x"} | {option: value}
    done = server.farm("waiver", "add", "compat", *(word for pair in given.items() for word in pair), check=False)
    assert done.returncode == 2
    assert why in done.stderr


def test_baselines_are_set_listed_and_removed(farm: Command, runs: Runs) -> None:
    assert farm("baseline", "set", "compat", "cli", "compat@1") == f"compat@baseline:cli is {runs.second}\n"
    assert runs.second in farm("baseline", "list", "compat")
    assert farm("compare", "compat@baseline:cli", "compat@2", status=1).startswith(f"{runs.second} → ")
    farm("baseline", "remove", "compat", "cli")
    assert "none of this name" in farm("compare", "compat@baseline:cli", "compat@2", status=2)


def test_history_is_told_of_the_project_and_of_a_test(farm: Command, runs: Runs) -> None:
    told = farm("history", "compat")
    lines = {line.split()[0]: line for line in told.splitlines() if line.startswith("debian")}
    assert lines[AMD].split()[1:3] == ["..F", "2/3"]
    assert lines[S390X].split()[1:4] == [".", "F", "1/2"]
    assert "unit › new bug" in told
    test = farm("history", "compat", "new bug", "--cell", "*/amd64")
    assert [line.split()[0] for line in test.splitlines()[1:4]] == [runs.third, runs.second, runs.first]
    assert "unit › new bug: 5 results in 3 runs, 2 failed; 2 changed, 0 flaked" in test
