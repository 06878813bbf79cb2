from textwrap import dedent

import pytest

from farm.model import TestStatus
from farm.results import Results, read

PASSED, FAILED, SKIPPED = TestStatus.PASSED, TestStatus.FAILED, TestStatus.SKIPPED


def tap(text: str) -> Results:
    return read("out/unit.tap", dedent(text).encode())


POINTS = {
    "ok 1 - works": ("works", PASSED, ""),
    "ok 1 works": ("works", PASSED, ""),
    "ok": ("test (no number)", PASSED, ""),
    "ok 1": ("test 1", PASSED, ""),
    "not ok 1 - broken": ("broken", FAILED, ""),
    "ok 1 - later # SKIP no net": ("later", SKIPPED, "no net"),
    "ok 1 - later # skipped: no net": ("later", SKIPPED, "no net"),
    "ok 1 # SKIP": ("test 1", SKIPPED, ""),
    "not ok 1 - x # SKIP": ("x", FAILED, "failed although skipped"),
    "not ok 1 - x # TODO write it": ("x", SKIPPED, "still to do: write it"),
    "ok 1 - x # todo write it": ("x", PASSED, "passed although still to do: write it"),
    "ok 1 - hash \\# TODO is a name": ("hash # TODO is a name", PASSED, ""),
}


@pytest.mark.parametrize(("line", "expected"), POINTS.items())
def test_each_kind_of_test_point(line: str, expected: tuple[str, TestStatus, str]) -> None:
    results = tap(f"1..1\n{line}\n")
    assert results.problem == ""
    (test,) = results.tests
    assert (test.name, test.status, test.message) == expected
    assert test.suite == "unit"


PROBLEMS = {
    "no plan": ("ok 1\n", "there is no plan", 1),
    "fewer than planned": ("1..3\nok 1\n", "the plan says 3 tests, there are 1", 1),
    "more than planned": ("1..1\nok 1\nok 2\n", "the plan says 1 tests, there are 2", 2),
    "two plans": ("1..1\nok 1\n1..1\n", "more than one plan", 1),
    "bail out": ("1..3\nok 1\nBail out! no database\nok 2\n", "bailed out: no database", 1),
    "a block without an end": ("1..2\nnot ok 1\n  ---\n  a: b\nok 2\n", "a diagnostic block has no end", 2),
    "a subtest that breaks off": ("1..1\nok 1\n    ok 1 - in\n", "a subtest breaks off", 2),
    "a subtest short of its plan": (
        "1..1\n    1..2\n    ok 1 - in\nok 1 - out\n",
        "in a subtest, the plan says 2 tests, there are 1",
        1,
    ),
    "too deep": ("1..1\n" + " " * 400 + "ok 1\n", "left out", 0),
}


@pytest.mark.parametrize(("text", "problem", "count"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_defect_is_told_and_the_rest_kept(text: str, problem: str, count: int) -> None:
    results = tap(text)
    assert problem in results.problem
    assert len(results.tests) == count


@pytest.mark.parametrize("plan", ["1..0 # SKIP no compiler", "TAP version 14\n1..0 # skip no compiler"])
def test_a_plan_of_nothing_is_one_skipped_test(plan: str) -> None:
    results = tap(plan)
    assert results.problem == ""
    assert [(test.status, "no compiler" in test.message) for test in results.tests] == [(SKIPPED, True)]


def test_diagnostics_become_the_detail() -> None:
    results = tap("""\
        TAP version 14
        1..2
        not ok 1 - sum
          ---
          message: 'one is not two'
          duration_ms: 12.5
          at:
            line: 7
          ...
        ok 2 - next
        """)
    first, second = results.tests
    assert results.problem == ""
    assert (first.message, first.duration_s) == ("one is not two", 0.0125)
    assert first.detail.splitlines()[-1] == "  line: 7"
    assert second.detail == ""


def test_comments_after_a_failure_become_its_detail() -> None:
    results = tap("ok 1 - a\n# talk\nnot ok 2 - b\n#   Failed test 'b'\n#   at t.t line 3\n1..2\n")
    assert [test.detail for test in results.tests] == ["", "  Failed test 'b'\n  at t.t line 3"]


def test_the_time_that_node_tap_writes_is_read() -> None:
    (test,) = tap("1..1\nok 1 - a # time=250ms\n").tests
    assert (test.name, test.duration_s) == ("a", 0.25)


def test_text_that_is_no_tap_is_passed_over() -> None:
    assert tap("hello\n1..1\nrandom noise\nok 1 - a\nbye\n").problem == ""


SUBTESTS = """\
1..1
# Subtest: group
    1..2
    {first} 1 - a
    ok 2 - b
{parent} 1 - group{directive}
"""


@pytest.mark.parametrize(
    ("first", "parent", "directive", "expected"),
    [
        ("ok", "ok", "", [("a", PASSED), ("b", PASSED)]),
        ("not ok", "not ok", "", [("a", FAILED), ("b", PASSED)]),
        ("ok", "not ok", "", [("a", PASSED), ("b", PASSED), ("group", FAILED)]),
        ("not ok", "ok", "", [("group", PASSED)]),
        ("not ok", "not ok", " # TODO soon", [("group", SKIPPED)]),
        ("ok", "ok", " # SKIP", [("a", PASSED), ("b", PASSED), ("group", SKIPPED)]),
    ],
)
def test_subtests_are_flattened_and_the_point_of_the_parent_decides(
    first: str, parent: str, directive: str, expected: list[tuple[str, TestStatus]]
) -> None:
    results = tap(SUBTESTS.format(first=first, parent=parent, directive=directive))
    assert results.problem == ""
    assert [(test.name, test.status) for test in results.tests] == expected


def test_a_nested_subtest_knows_its_parents() -> None:
    results = tap("""\
        1..1
            1..1
                1..1
                ok 1 - leaf
            ok 1 - inner
        ok 1 - outer
        """)
    assert results.problem == ""
    assert [(test.classname, test.name) for test in results.tests] == [("outer > inner", "leaf")]
