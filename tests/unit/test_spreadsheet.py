import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.report.document import document
from farm.report.parts import Document
from farm.report.spreadsheet import guarded, render, table
from tests.unit.documents import cell, report, reports
from tests.unit.records import demo_run


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


GUARDED = [
    ("=1+1", "'=1+1"),
    ("+1", "'+1"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\t=1", "'\t=1"),
    ("\r=1", "'\n=1"),
    ("\n=1", "'\n=1"),
    ("  =1", "'  =1"),
    ("＝1", "'＝1"),
    ("a=1", "a=1"),
    ("'=1", "'=1"),
    ("", ""),
    (-1.5, -1.5),
    (0, 0),
    (True, "yes"),
    (False, "no"),
    (None, ""),
]


@pytest.mark.parametrize(("value", "expected"), GUARDED)
def test_no_text_becomes_a_formula(value: object, expected: object) -> None:
    assert guarded(value) == expected


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2)))
def test_whatever_stands_in_a_table_it_reads_back_without_a_formula(lines: list[list[str]]) -> None:
    back = list(csv.reader(io.StringIO(table(("a", "b"), lines), newline="")))
    assert len(back) == 1 + len(lines)
    for line, read in zip(lines, back[1:], strict=True):
        assert not any(one.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for one in read)
        assert [one.removeprefix("'") for one in read] == [one.replace("\r", "\n").removeprefix("'") for one in line]


def test_a_line_for_each_test_with_its_cell_and_its_axes() -> None:
    found = rows(render(document(demo_run())))
    assert len(found) == 201  # 200 tests, and the cell that panicked
    bad = next(row for row in found if row["test"] == "load_be32" and row["status"] == "failed")
    assert (bad["run"], bad["cell"], bad["axis:arch"], bad["axis:bug"]) == (
        "demo-3",
        "debian-13/s390x/bug=on",
        "s390x",
        "on",
    )
    assert (bad["verdict"], bad["blame"], bad["emulated"], bad["suite"]) == ("failed", "test", "yes", "swap")
    assert bad["message"] == "expected 0x01020304, got 0x04030201"


@pytest.mark.parametrize("outcome", ["build", "infra", "unfinished", "cancelled"])
def test_a_cell_whose_tests_do_not_tell_has_a_line_of_its_own(outcome: str) -> None:
    (row,) = rows(render(report(cell("debian-13/amd64", outcome))))
    assert (row["test"], row["status"]) == ("", row["verdict"])


def test_a_formula_of_a_guest_stays_a_text() -> None:
    found = report(cell("debian-13/amd64", "failed", {"=cmd()": "failed: @SUM(1)"}))
    (row,) = rows(render(found))
    assert (row["test"], row["message"]) == ("'=cmd()", "'@SUM(1)")


@settings(deadline=None)
@given(reports())
def test_every_cell_is_in_the_table(found: Document) -> None:
    assert {row["cell"] for row in rows(render(found))} == {one.id for one in found.cells}
