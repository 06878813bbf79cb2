"""CTRF by the structure of its own schema (ctrf-schema-0.0.json in the npm package ctrf 0.3.0)."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given, settings

from farm.report import ctrf
from farm.report.document import document
from farm.report.parts import Document
from tests.unit.documents import OUTCOMES, cell, report, reports
from tests.unit.records import START, demo_run
from tests.unit.test_report_hostile import hostile_run

TEXT, COUNT, OPEN = {"type": "string"}, {"type": "integer"}, {"type": "object"}
NAME = {"type": "string", "minLength": 1}


def closed(needed: str, optional: str, **types: Any) -> dict[str, Any]:
    """An object that refuses any other field; a field of no other type is a text."""
    names = (*needed.split(), *optional.split())
    properties = {name: types.get(name, TEXT) for name in names} | {"extra": OPEN}
    return {"type": "object", "required": needed.split(), "properties": properties, "additionalProperties": False}


TEST = closed(
    "name status duration",
    "id testId executionId start stop suite message trace snippet ai line rawStatus tags labels type filePath retries"
    " retryAttempts flaky stdout stderr threadId browser device screenshot attachments parameters steps insights",
    name=NAME,
    status={"enum": ["passed", "failed", "skipped", "pending", "other"]},
    duration=COUNT,
    suite={"type": "array", "minItems": 1, "items": TEXT},
    flaky={"type": "boolean"},
    parameters=OPEN,
)
COUNTS = "tests passed failed skipped pending other start stop"
SUMMARY = closed(COUNTS, "flaky suites duration", **dict.fromkeys([*COUNTS.split(), "flaky", "suites"], COUNT))
ENVIRONMENT = closed(
    "",
    "reportName appName appVersion buildId buildName buildNumber buildUrl repositoryName repositoryUrl commit"
    " branchName osPlatform osRelease osVersion testEnvironment shardId healthy",
    buildNumber=COUNT,
    healthy={"type": "boolean"},
)
RESULTS = closed(
    "tool summary tests",
    "environment",
    tool=closed("name", "version", name=NAME),
    summary=SUMMARY,
    tests={"type": "array", "items": TEST},
    environment=ENVIRONMENT,
)
SCHEMA = closed(
    "results reportFormat specVersion",
    "reportId runId timestamp generatedBy insights baseline",
    reportFormat={"const": "CTRF"},
    specVersion={"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+$"},
    results=RESULTS,
)


def read(found: Document) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(ctrf.render(found))
    jsonschema.validate(made, SCHEMA)
    return made


def listed(found: Document) -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = read(found)["results"]["tests"]
    return tests


def test_the_structure_refuses_what_is_not_ctrf() -> None:
    made = read(document(demo_run()))
    made["results"]["tests"][0]["verdict"] = "passed"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, SCHEMA)


@settings(deadline=None)
@given(reports())
def test_any_run_keeps_to_the_structure_and_counts_right(found: Document) -> None:
    results = read(found)["results"]
    statuses = [test["status"] for test in results["tests"]]
    assert all(
        results["summary"][name] == statuses.count(name) for name in ("passed", "failed", "skipped", "pending", "other")
    )
    assert results["summary"]["tests"] == len(statuses)


def test_a_hostile_guest_keeps_to_the_structure() -> None:
    read(document(hostile_run()))


def test_a_report_says_which_run_it_is_of() -> None:
    made = read(document(demo_run()))
    assert made == read(document(demo_run()))
    assert UUID(made["reportId"]) != UUID(read(document(demo_run(id="demo-4")))["reportId"])
    assert datetime.fromisoformat(made["timestamp"]) == demo_run().finished
    assert made["results"]["summary"]["start"] == START.timestamp() * 1000
    assert made["results"]["environment"]["healthy"] is False


def test_a_test_carries_its_cell_its_axes_and_what_it_said() -> None:
    found = [test for test in listed(document(demo_run())) if test["name"] == "load_be32" and "message" in test]
    assert found == [
        {
            "name": "load_be32",
            "status": "failed",
            "duration": 12,
            "suite": ["debian-13/s390x/bug=on", "swap"],
            "rawStatus": "failed",
            "parameters": {"image": "debian-13", "arch": "s390x", "bug": "on"},
            "extra": {"classname": "libwire.swap"},
            "message": "expected 0x01020304, got 0x04030201",
            "trace": "tests/test_swap.c:57: load_be32(bytes)\n  expected 0x01020304\n       got 0x04030201",
        }
    ]


STATUSES = {
    "passed": "passed",
    "failed": "failed",
    "build": "failed",
    "timeout": "failed",
    "panic": "failed",
    "broken": "failed",
    "infra": "failed",
    "config": "failed",
    "farm": "failed",
    "skipped": "skipped",
    "left out": "skipped",
    "cancelled": "other",
    "unfinished": "pending",
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_cell_without_tests_is_a_test_of_its_own(outcome: str) -> None:
    (test,) = listed(report(cell("debian-13/amd64", outcome)))
    assert test["status"] == STATUSES[outcome]
    assert test["suite"] == ["debian-13/amd64", "farm"]


def test_a_test_that_passed_only_later_is_flaky() -> None:
    found = report(cell("debian-13/amd64", "passed", {"a": "passed", "b": "passed"}, before=[{"a": "failed"}]))
    assert [test.get("flaky", False) for test in listed(found)] == [True, False]
    assert read(found)["results"]["summary"]["flaky"] == 1
