import pytest

from farm.report.evidence import (
    Key,
    Standing,
    complete,
    explained,
    failing,
    flaky,
    message,
    plural,
    results,
    some,
    standing,
)
from farm.report.parts import CellPart
from tests.unit.documents import OUTCOMES, Tests, cell, report

CELL = "debian-13/amd64"


def part(outcome: str, tests: Tests | None = None, *before: Tests) -> CellPart:
    return report(cell(CELL, outcome, tests or {}, before=before)).cells[0]


STANDINGS = {
    "passed": Standing.PASSED,
    "failed": Standing.FAILED,
    "build": Standing.FAILED,
    "timeout": Standing.FAILED,
    "panic": Standing.FAILED,
    "broken": Standing.FAILED,
    "skipped": Standing.SKIPPED,
    "infra": Standing.NO_DATA,
    "config": Standing.NO_DATA,
    "farm": Standing.NO_DATA,
    "left out": Standing.NO_DATA,
    "cancelled": Standing.NO_DATA,
    "unfinished": Standing.NO_DATA,
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_is_known_of_a_cell(outcome: str) -> None:
    assert standing(part(outcome, {"a": "skipped"})) is STANDINGS[outcome]


def test_a_cell_that_was_skipped_without_a_test_did_not_run() -> None:
    assert standing(part("skipped")) is Standing.NO_DATA


@pytest.mark.parametrize("outcome", [name for name, found in STANDINGS.items() if found is Standing.NO_DATA])
def test_a_cell_without_data_has_no_tests_whatever_was_collected(outcome: str) -> None:
    found = part(outcome, {"a": "failed", "b": "passed"})
    assert (results(found), failing(found), flaky(found), complete(found)) == ({}, {}, (), False)


@pytest.mark.parametrize(
    ("outcome", "tests", "whole", "by_tests"),
    [
        ("passed", {"a": "passed"}, True, False),
        ("passed", {}, True, False),
        ("failed", {"a": "failed"}, True, True),
        ("failed", {"a": "passed"}, True, False),
        ("skipped", {"a": "skipped"}, True, False),
        ("build", {}, False, False),
        ("failed", {}, False, False),
        ("timeout", {"a": "failed"}, False, False),
        ("panic", {}, False, False),
        ("broken", {"a": "failed"}, False, False),
    ],
)
def test_whether_a_missing_test_is_really_missing(outcome: str, tests: Tests, whole: bool, by_tests: bool) -> None:
    found = part(outcome, tests)
    assert (complete(found), explained(found)) == (whole, by_tests)


def test_the_worst_of_several_results_with_one_name_counts() -> None:
    orders = [("passed", "failed"), ("failed", "passed"), ("skipped", "passed"), ("passed", "skipped"), ("error",)]
    worst = []
    for statuses in orders:
        twice = [test for status in statuses for test in cell(CELL, "failed", {"a": status}).attempts[0].tests]
        worst += [str(test.status) for test in results(report(cell(CELL, "failed", twice)).cells[0]).values()]
    assert worst == ["failed", "failed", "passed", "passed", "error"]


def test_tests_of_one_name_in_two_suites_are_two() -> None:
    assert len(results(part("passed", {"one/a": "passed", "two/a": "passed"}))) == 2


@pytest.mark.parametrize(
    ("last", "before", "found"),
    [
        ({"a": "passed"}, [{"a": "failed"}], ["a"]),
        ({"a": "passed"}, [{"a": "error"}, {}], ["a"]),
        ({"a": "passed: passed only after 2 failed tries: x"}, [], ["a"]),
        ({"a": "passed"}, [{"a": "passed", "b": "failed"}], []),
        ({"a": "failed"}, [{"a": "failed"}], []),
        ({"a": "skipped"}, [{"a": "failed"}], []),
        ({"a": "passed"}, [], []),
    ],
)
def test_what_passes_only_now_is_flaky(last: Tests, before: list[Tests], found: list[str]) -> None:
    assert [key.name for key in flaky(part("passed", last, *before))] == found


def test_a_label_says_nothing_twice() -> None:
    assert Key("swap", "swap", "load").label == "swap › load"
    assert Key("swap", "", "load").label == "swap › load"
    assert Key("s", "c", "n").label == "s › c › n"


def test_the_message_of_a_test_that_only_has_details_is_their_first_line() -> None:
    (test,) = results(part("failed", {"a": "failed"})).values()
    assert message(test.model_copy(update={"detail": "\n  assert 1 == 2\nmore"})) == "assert 1 == 2"
    assert message(test.model_copy(update={"message": "said", "detail": "more"})) == "said"
    assert message(test) == ""


def test_words() -> None:
    assert [plural(count, "cell") for count in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
    assert [some("abc"[:count], most=2) for count in (1, 2, 3)] == ["a", "a, b", "a, b and 1 more"]
