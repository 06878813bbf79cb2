import json

import pytest
from hypothesis import given, settings

from farm.model import TestResult, TestStatus
from farm.report.changes import Change, Comparison
from farm.report.compare import PackageChange, compare
from farm.report.compare_formats import COMPARE_FORMATS, SHOWN, rows_of_cells, rows_of_tests, to_markdown, to_text
from farm.report.document import document
from farm.report.parts import Document
from tests.unit.documents import cell, report, reports
from tests.unit.records import facts
from tests.unit.test_report_hostile import FORBIDDEN, hostile_run, outside_of_code

AMD, S390X, RISCV = "debian-13/amd64", "debian-13/s390x", "debian-13/riscv64"
NEW = facts("amd64").model_copy(update={"image_digest": "sha256:0123456789abcdef", "hypervisor_version": "10.1.0"})


def made(packages: list[PackageChange] | None = None) -> Comparison:
    """A regression, something fixed, a cell without data, another image and another QEMU."""
    base = report(
        cell(AMD, "failed", {"a": "failed: old"}),
        cell(S390X, "passed", {"a": "passed"}),
        cell(RISCV, "passed", {"a": "passed"}),
        id="demo-2",
    )
    head = report(
        cell(AMD, "passed", {"a": "passed"}, guest=NEW),
        cell(S390X, "failed", {"a": "failed: expected 1 | got 2"}),
        cell(RISCV, "infra"),
    )
    digests = facts("amd64").image_digest, NEW.image_digest
    return compare(base, head, packages=None if packages is None else {digests: packages})


def test_the_text_has_the_worst_first_and_what_else_differs_last() -> None:
    assert to_text(made()).splitlines() == [
        "demo-2 → demo-3: 1 regression (1 test), 1 fixed (1 test); 1 cell without data.",
        "",
        "base  demo-2, 2025-03-14 09:26:53 UTC: folder examples/libwire",
        "head  demo-3, 2025-03-14 09:26:53 UTC: folder examples/libwire",
        "The source is the same.",
        "",
        "cells  3 in all: 1 regression, 1 fixed, 1 no data",
        "  regression     debian-13/s390x    tests failed",
        "  fixed          debian-13/amd64    all passed",
        "  no data        debian-13/riscv64  connect: no answer",
        "",
        "tests  3 in all: 1 regression, 1 fixed, 1 no data",
        "  regression     debian-13/s390x  suite › a  expected 1 | got 2",
        "  fixed          debian-13/amd64  suite › a  old",
        "",
        "what else differs",
        "  QEMU: 10.0.2 → 10.1.0 in 1 cell",
        "  image debian-13/amd64: sha256:616d64363400 → sha256:0123456789ab in 1 cell; its packages are not known here",
    ]


PACKAGES = [
    ([], "the same packages"),
    ([PackageChange(name="libc6", before="1", after="2")], "1 package: libc6 1 → 2"),
    (
        [PackageChange(name="a", before="", after="2"), PackageChange(name="b", before="1", after="")],
        "2 packages: a 2 added, b 1 removed",
    ),
]


@pytest.mark.parametrize(("packages", "words"), PACKAGES)
def test_packages_that_changed_are_named(packages: list[PackageChange], words: str) -> None:
    assert f"in 1 cell; {words}\n" in to_text(made(packages))


def test_two_equal_runs_have_nothing_to_list() -> None:
    run = report(cell(AMD, "passed", {"a": "passed"}))
    text = to_text(compare(run, run))
    assert "cells  1 in all: 1 still passing\n" in text
    assert "differs" not in text


def test_a_cell_that_may_fail_says_so() -> None:
    runs = (
        report(cell(AMD, outcome, {"a": status}, may_fail=True))
        for outcome, status in (("passed",) * 2, ("failed",) * 2)
    )
    assert to_text(compare(*runs)).count(" (may fail)\n") == 2


def test_every_class_is_listed_but_those_of_which_nothing_has_to_be_said() -> None:
    assert set(Change) - set(SHOWN) == {Change.STILL_PASSING, Change.STILL_SKIPPED}


def test_the_json_reads_back() -> None:
    assert Comparison.model_validate(json.loads(COMPARE_FORMATS["json"](made()))) == made()


def test_the_markdown_has_a_table_of_cells_and_one_of_tests() -> None:
    text = to_markdown(made())
    assert text.startswith("# demo-2 → demo-3: 1 regression &#40;1 test&#41;, 1 fixed")
    assert "| regression | debian-13/s390x | tests failed |" in text
    assert "| regression | debian-13/s390x suite › a | expected 1 &#124; got 2 |" in text.replace("&#8250;", "›")
    assert "## What else differs" in text


@pytest.mark.parametrize("name", COMPARE_FORMATS)
def test_nothing_of_a_guest_gets_out_of_any_format(name: str) -> None:
    hostile = document(hostile_run())
    for found in (compare(report(), hostile), compare(hostile, hostile), compare(hostile, report())):
        text = COMPARE_FORMATS[name](found)
        assert not FORBIDDEN.search(text)
        if name == "markdown":
            assert not any(
                piece in outside_of_code(text) for piece in ("<script", "](http", "**bold", "`", "@everyone")
            )


def test_a_long_list_is_cut_and_says_so() -> None:
    tests = [TestResult(suite="s", name=f"t{number}", status=TestStatus.FAILED) for number in range(300)]
    found = compare(report(), report(cell(AMD, "failed", tests)))
    assert "… and 100 more, in the JSON" in to_text(found)
    assert "… and 100 more, in the JSON" in to_markdown(found)


@settings(deadline=None)
@given(reports(), reports())
def test_whatever_is_worse_is_in_the_rows(base: Document, head: Document) -> None:
    found = compare(base, head)
    assert sum(row.change is Change.REGRESSION for row in rows_of_cells(found)) == found.cells.regression
    assert sum(row.change is Change.REGRESSION for row in rows_of_tests(found)) == found.tests.regression
    assert [row.change for row in rows_of_cells(found)] == sorted(
        (row.change for row in rows_of_cells(found)), key=SHOWN.index
    )
