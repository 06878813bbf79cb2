"""Two runs of a program, and what the commands say of them."""

from __future__ import annotations

import csv
import json

from tests.e2e.cli.conftest import Farm, fake

SUITE = "<testsuite name='unit'><testcase name='one'/><testcase name='two'>{}</testcase></testsuite>"
TEST = ". ./$CASE.sh\n"


def script(problem: str = "") -> str:
    return f'echo "{SUITE.format(problem)}" > result.xml\n' + ("exit 1\n" if problem else "")


def run(farm: Farm, **problems: str) -> None:
    """A run of two cases, each with what its second test says."""
    files = {f"{case}.sh": script(problems.get(case, "")) for case in ("big", "little")}
    matrix = farm.matrix(files=files, axes=fake(case=["big", "little"]), test=TEST, collect={"junit": ["result.xml"]})
    assert farm("run", matrix).status == (1 if problems else 0)


def test_two_runs_are_compared_and_stated(farm: Farm) -> None:
    run(farm)
    run(farm, big="<failure message='4 bytes differ'/>")
    check_compare(farm)
    check_patterns(farm)
    check_statement(farm)


def check_compare(farm: Farm) -> None:
    worse = farm("compare", "e2e-1", "e2e-2")
    assert worse.status == 1
    assert worse.out.startswith("e2e-1 → e2e-2: 1 regression (1 test).\n")
    assert "debian-13/amd64/fake/case=big  unit › two  4 bytes differ" in worse.out
    better = farm("compare", "e2e-2", "latest", "--format", "json")
    assert better.status == 0
    assert json.loads(better.out)["tests"]["still_failing"] == 1
    swapped = farm("compare", "e2e-2", "e2e-1", "--format", "markdown")
    assert swapped.status == 0
    assert "| fixed |" in swapped.out
    assert "no such format" in farm("compare", "e2e-1", "e2e-2", "--format", "pdf").err
    unknown = farm("compare", "e2e-1", "e2e-9")
    assert unknown.status == 2
    assert "e2e-9" in unknown.err


def check_patterns(farm: Farm) -> None:
    marks = "[emulated only, a single cell, a single attempt]"
    assert f"1 test  fails in 1 of 2 cells: too few to find a pattern {marks}\n" in farm("patterns").out
    assert farm("patterns", "e2e-1").out.endswith("Nothing failed.\n")


def check_statement(farm: Farm) -> None:
    assert "Supported on 1 of 2 platforms; 1 not supported." in farm("statement").out
    assert "2 not known" in farm("statement", "e2e-1", "--max-age", "0s").out
    rows = list(csv.DictReader(farm("statement", "--format", "csv", "--baseline", "e2e-1").out.splitlines()))
    assert {row["axis:case"]: (row["status"], row["baseline_tests"]) for row in rows} == {
        "big": ("not_supported", "2"),
        "little": ("supported", "2"),
    }
    written = farm("statement", "--format", "html", "--out", "statement.html")
    assert written.out == "Supported on 1 of 2 platforms; 1 not supported. Written to statement.html.\n"
    assert "1 of 2 tests failed: unit › two" in (farm.folder / "statement.html").read_text()
    nowhere = farm("statement", "--out", "no-such-folder/statement.txt")
    assert nowhere.status == 2
    assert "cannot write no-such-folder/statement.txt: No such file or directory" in nowhere.err
