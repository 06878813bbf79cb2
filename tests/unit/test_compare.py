import json
from collections import Counter

import pytest
from hypothesis import given, settings

from farm.model import GuestFacts, TestResult, TestStatus
from farm.report.changes import TABLE, Change, Comparison
from farm.report.compare import PackageChange, compare
from farm.report.evidence import Standing
from farm.report.parts import Document
from tests.unit.documents import Tests, cell, report, reports
from tests.unit.records import demo_run, facts

CELL = "debian-13/amd64"
SWAPPED = {Change.REGRESSION: Change.FIXED, Change.FIXED: Change.REGRESSION}
UNCHANGED = {Change.STILL_PASSING, Change.STILL_FAILING, Change.STILL_SKIPPED, Change.NO_DATA}


def compared(before: tuple[str, Tests] | None, after: tuple[str, Tests] | None) -> Comparison:
    """One cell in two runs; None: it is not in it."""
    runs = [report(cell(CELL, *found)) if found else report() for found in (before, after)]
    return compare(*runs)


OF_CELLS = [
    ("passed", "passed", "still_passing"),
    ("passed", "failed", "regression"),
    ("passed", "build", "regression"),
    ("passed", "panic", "regression"),
    ("passed", "broken", "regression"),
    ("passed", "skipped", "disappeared"),
    ("passed", "infra", "no_data"),
    ("passed", "config", "no_data"),
    ("passed", "farm", "no_data"),
    ("passed", "cancelled", "no_data"),
    ("passed", "left out", "no_data"),
    ("passed", "unfinished", "no_data"),
    ("passed", None, "disappeared"),
    ("failed", "passed", "fixed"),
    ("panic", "passed", "fixed"),
    ("failed", "failed", "still_failing"),
    ("build", "panic", "still_failing"),
    ("failed", "infra", "no_data"),
    ("failed", None, "disappeared"),
    ("skipped", "passed", "new_pass"),
    ("skipped", "failed", "new_failure"),
    ("skipped", "skipped", "still_skipped"),
    ("skipped", None, "disappeared"),
    ("infra", "passed", "new_pass"),
    ("infra", "failed", "new_failure"),
    ("infra", "skipped", "appeared"),
    ("infra", "cancelled", "no_data"),
    ("infra", None, "disappeared"),
    (None, "passed", "new_pass"),
    (None, "failed", "new_failure"),
    (None, "skipped", "appeared"),
    (None, "infra", "no_data"),
]


@pytest.mark.parametrize(("before", "after", "change"), OF_CELLS)
def test_what_became_of_a_cell(before: str | None, after: str | None, change: str) -> None:
    tests = {"a": "skipped"}
    found = compared((before, tests) if before else None, (after, tests) if after else None)
    assert [str(one.change) for one in found.cell_changes] == [change]
    assert found.cells.all == getattr(found.cells, change) == 1


OF_TESTS = [
    (("passed", {"a": "passed"}), ("passed", {"a": "passed"}), "still_passing"),
    (("passed", {"a": "passed"}), ("failed", {"a": "failed"}), "regression"),
    (("passed", {"a": "passed"}), ("failed", {"a": "error"}), "regression"),
    (("failed", {"a": "error"}), ("failed", {"a": "failed"}), "still_failing"),
    (("failed", {"a": "failed"}), ("passed", {"a": "passed"}), "fixed"),
    (("passed", {}), ("passed", {"a": "passed"}), "new_pass"),
    (("passed", {}), ("failed", {"a": "failed"}), "new_failure"),
    (("passed", {}), ("skipped", {"a": "skipped"}), "appeared"),
    (("passed", {"a": "passed"}), ("passed", {}), "disappeared"),
    (("passed", {"a": "passed"}), ("passed", {"a": "skipped"}), "disappeared"),
    (("passed", {"a": "passed"}), ("failed", {"b": "failed"}), "disappeared"),
    (("passed", {"a": "passed"}), ("build", {}), "no_data"),
    (("passed", {"a": "passed"}), ("timeout", {"b": "failed"}), "no_data"),
    (("passed", {"a": "passed"}), ("infra", {"a": "failed"}), "no_data"),
    (("passed", {"a": "passed"}), ("cancelled", {"a": "passed"}), "no_data"),
    (("passed", {"a": "passed"}), ("unfinished", {}), "no_data"),
    (("build", {}), ("failed", {"a": "failed"}), "new_failure"),
    (("build", {}), ("passed", {"a": "passed"}), "new_pass"),
    (("infra", {"a": "failed"}), ("passed", {"a": "passed"}), "new_pass"),
    (("timeout", {"a": "passed"}), ("failed", {"a": "failed"}), "regression"),
    (None, ("failed", {"a": "failed"}), "new_failure"),
    (("passed", {"a": "passed"}), None, "disappeared"),
]


@pytest.mark.parametrize(("before", "after", "change"), OF_TESTS)
def test_what_became_of_a_test(before: tuple[str, Tests] | None, after: tuple[str, Tests] | None, change: str) -> None:
    found = compared(before, after)
    without = found.tests.all - len({name for one in (before, after) if one for name in one[1] if name != "a"})
    assert without == 1
    assert getattr(found.tests, change) >= 1
    listed = [str(one.change) for one in found.test_changes if one.name == "a"]
    assert listed in ([], [change])


def test_the_table_covers_every_pair_and_mirrors_itself() -> None:
    pairs = {(one, other) for one in Standing for other in Standing} - {(Standing.ABSENT, Standing.ABSENT)}
    assert set(TABLE) == pairs
    for one, other in pairs:
        assert (TABLE[one, other] is Change.REGRESSION) == (TABLE[other, one] is Change.FIXED)
        if other is Standing.NO_DATA:
            assert TABLE[one, other] is Change.NO_DATA
        if other is Standing.FAILED:
            assert TABLE[one, other] in {Change.REGRESSION, Change.NEW_FAILURE, Change.STILL_FAILING}
        if TABLE[one, other] in {Change.STILL_PASSING, Change.NEW_PASS, Change.FIXED}:
            assert other is Standing.PASSED


@settings(deadline=None)
@given(reports())
def test_a_run_has_not_changed_against_itself(run: Document) -> None:
    found = compare(run, run)
    assert {one.change for one in (*found.cell_changes, *found.test_changes)} <= UNCHANGED
    assert not found.worse
    assert found.same_source
    assert found.differences == found.images == ()


@settings(deadline=None)
@given(reports(), reports())
def test_every_pair_is_in_exactly_one_class_and_swapping_swaps_them(base: Document, head: Document) -> None:
    there, back = compare(base, head), compare(head, base)
    for counts, swapped in ((there.cells, back.cells), (there.tests, back.tests)):
        by_class = {change: getattr(counts, change.value) for change in Change}
        assert sum(by_class.values()) == counts.all == swapped.all
        assert (counts.regression, counts.fixed) == (swapped.fixed, swapped.regression)
        assert counts.still_passing == swapped.still_passing
        assert counts.still_failing == swapped.still_failing
    both = {one.id: one.change for one in there.cell_changes}
    assert set(both) == {one.id for one in (*base.cells, *head.cells)}
    for one in back.cell_changes:
        if both[one.id] in SWAPPED:
            assert one.change is SWAPPED[both[one.id]]


@settings(deadline=None)
@given(reports(), reports())
def test_what_is_listed_is_what_is_counted(base: Document, head: Document) -> None:
    found = compare(base, head)
    cells = Counter(one.change for one in found.cell_changes)
    tests = Counter(one.change for one in found.test_changes)
    assert all(cells[change] == getattr(found.cells, change.value) for change in Change)
    for change in (Change.REGRESSION, Change.NEW_FAILURE, Change.STILL_FAILING, Change.FIXED):
        assert tests[change] == getattr(found.tests, change.value)
        assert tests[change] == sum(getattr(one.tests, change.value) for one in found.cell_changes)
    assert Comparison.model_validate_json(found.model_dump_json()) == found


@settings(deadline=None)
@given(reports(), reports())
def test_a_cell_without_data_is_neither_green_nor_a_regression(base: Document, head: Document) -> None:
    for one in compare(base, head).cell_changes:
        if one.after is Standing.NO_DATA:
            assert one.change is Change.NO_DATA
            assert one.tests.all == one.tests.no_data


@pytest.mark.parametrize(
    ("before", "after", "may_fail", "worse"),
    [
        (("passed", {}), ("failed", {}), False, True),
        (("passed", {}), ("failed", {}), True, False),
        (None, ("failed", {}), False, True),
        (("infra", {}), ("failed", {}), False, True),
        (("failed", {"a": "failed"}), ("failed", {"a": "failed", "b": "failed"}), False, True),
        (("failed", {"a": "failed"}), ("failed", {"a": "failed", "b": "failed"}), True, False),
        (("failed", {"a": "failed"}), ("failed", {"a": "failed"}), False, False),
        (("passed", {"a": "passed"}), ("infra", {}), False, False),
    ],
)
def test_when_a_head_is_worse(
    before: tuple[str, Tests] | None, after: tuple[str, Tests], may_fail: bool, worse: bool
) -> None:
    base = report(cell(CELL, *before)) if before else report()
    assert compare(base, report(cell(CELL, *after, may_fail=may_fail))).worse is worse


def test_new_tests_of_a_new_cell_are_counted_but_not_listed() -> None:
    found = compared(None, ("failed", {"a": "passed", "b": "failed", "c": "skipped"}))
    assert (found.tests.new_pass, found.tests.new_failure, found.tests.appeared) == (1, 1, 1)
    assert [one.name for one in found.test_changes] == ["b"]


def test_a_change_says_what_failed_and_why() -> None:
    before, after = {"a": "failed: old", "b": "passed"}, {"a": "passed", "b": "failed: 4 bytes differ"}
    found = compared(("failed", before), ("failed", after))
    assert [(one.label, one.message) for one in found.test_changes] == [
        ("suite › a", "old"),
        ("suite › b", "4 bytes differ"),
    ]
    (one,) = found.cell_changes
    assert (one.why_before, one.why_after, one.blame) == ("tests failed", "tests failed", "test")


def test_an_axis_that_was_added_makes_other_cells() -> None:
    found = compare(report(cell(CELL, "passed")), report(cell(f"{CELL}/bug=on", "passed")))
    assert [(one.id, str(one.change)) for one in found.cell_changes] == [
        (f"{CELL}/bug=on", "new_pass"),
        (CELL, "disappeared"),
    ]


OLD = facts("amd64")
NEW = OLD.model_copy(update={"image_digest": "sha256:new", "hypervisor_version": "10.1.0", "layers": ("a", "b")})


def two_cells(guest: GuestFacts) -> Document:
    return report(*(cell(f"debian-13/amd64/bug={bug}", "passed", guest=guest) for bug in ("on", "off")))


def test_what_else_differs_is_said_for_a_cell_and_for_all() -> None:
    found = compare(two_cells(OLD), two_cells(NEW))
    assert [(one.what, one.before, one.after, one.cells) for one in found.differences] == [
        ("image digest", OLD.image_digest, "sha256:new", 2),
        ("layers", "wire-headers", "a, b", 2),
        ("QEMU", "10.0.2", "10.1.0", 2),
    ]
    assert [one.what for one in found.cell_changes[0].differences] == ["image digest", "layers", "QEMU"]


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("image", "other", "image"),
        ("image_kind", "cloud", "image kind"),
        ("hypervisor", "qemu", "hypervisor"),
        ("emulated", True, "emulated"),
        ("host", "builder-2", "host"),
        ("machine", "pc", "machine"),
        ("cpu", "host", "CPU"),
        ("vcpus", 4, "vCPUs"),
        ("memory_mib", 4096, "memory"),
        ("builder", OLD, "builder"),
    ],
)
def test_every_fact_of_a_guest_is_compared(field: str, value: object, what: str) -> None:
    found = compare(two_cells(OLD), two_cells(OLD.model_copy(update={field: value})))
    assert [one.what for one in found.differences] == [what]


def test_changed_packages_are_given_by_the_caller() -> None:
    change = PackageChange(name="libc6", before="2.41-1", after="2.41-2")
    digests = (OLD.image_digest, "sha256:new")
    for packages, known in (({digests: [change]}, (change,)), ({digests: []}, ()), ({}, None), (None, None)):
        (image,) = compare(two_cells(OLD), two_cells(NEW), packages=packages).images
        assert (image.before, image.after, image.cells, image.packages) == (*digests, 2, known)


def test_a_guest_that_was_never_made_differs_in_nothing() -> None:
    found = compare(report(cell(CELL, "config")), report(cell(CELL, "passed")))
    assert found.differences == ()
    assert found.images == ()


@pytest.mark.parametrize(
    ("before", "after", "headline"),
    [
        (("passed", {"a": "passed"}), ("failed", {"a": "failed"}), "1 regression (1 test)."),
        (("failed", {"a": "failed"}), ("passed", {"a": "passed"}), "1 fixed (1 test)."),
        (
            ("failed", {"a": "failed"}),
            ("failed", {"a": "failed", "b": "failed"}),
            "0 new failures (1 test), 1 still failing (1 test).",
        ),
        (("passed", {}), ("passed", {}), "Nothing became worse or better."),
        (("passed", {}), ("infra", {}), "Nothing became worse or better; 1 cell without data."),
    ],
)
def test_the_headline(before: tuple[str, Tests], after: tuple[str, Tests], headline: str) -> None:
    assert compared(before, after).headline == headline


def test_the_sides_say_which_runs_they_are() -> None:
    source = demo_run().submission.source.model_copy(update={"digest": "other"})
    submission = demo_run().submission.model_copy(update={"source": source})
    found = compare(report(), report(id="demo-4", submission=submission))
    assert (found.base.id, found.head.id, found.same_source) == ("demo-3", "demo-4", False)
    assert found.head.source.digest == "other"


def test_200_000_pairs_of_tests_are_counted_right() -> None:
    tests = [TestResult(suite="s", name=f"t{number}", status=TestStatus.PASSED) for number in range(200)]
    bad = [*tests[:100], *(test.model_copy(update={"status": TestStatus.FAILED}) for test in tests[100:])]
    base, head = (
        report(*(cell(f"debian-13/amd64/n={number}", "failed", found) for number in range(1000)))
        for found in (tests, bad)
    )
    found = compare(base, head)
    assert (found.tests.all, found.tests.regression) == (200_000, 100_000)
    json.loads(found.model_dump_json())
