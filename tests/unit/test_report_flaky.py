"""A cell that passed only after a failure: every report says so, and none shows it as a pass like any other."""

from __future__ import annotations

import re

from defusedxml.ElementTree import fromstring
from rich.console import Console

from farm import verdict
from farm.display import Display
from farm.model import Outcome, RunRecord, TestStatus, Verdict
from farm.report import FORMATS, document, render
from farm.report.overview import overview
from farm.report.parts import Document
from farm.report.statement import statement
from farm.report.support import Reason
from farm.tables import result_sentence, result_table
from tests.unit.records import FAILED, PASSED, START, attempt, cell_record, demo_run, read_log, results

SCRIPT = Outcome(verdict=Verdict.FAILED, rule="script-failed", summary="test: the script returned 3", lines=("boom",))


def flaky_run(failure: Outcome = FAILED, *, failing: bool = True, tests: bool = True) -> RunRecord:
    """Two cells: one passed at once, the other at its second attempt."""
    at_once, other = cell_record("amd64", "off"), cell_record("amd64", "on")
    cell = other.placement.cell
    first = attempt(cell, 1, failure, tests=results(failing=failing) if tests else ())
    second = attempt(cell, 2, PASSED, **({} if tests else {"tests": ()}))
    update = {"outcome": verdict.flaky((failure,), 2), "attempts": (first, second)}
    return demo_run((at_once, other.model_copy(update=update)))


def shown(name: str, run: RunRecord) -> str:
    return render(name, run, read_log)


def test_it_counts_as_passed_and_is_told_apart_in_every_count() -> None:
    report: Document = document(flaky_run())
    assert (report.run.cells.passed, report.run.cells.flaky) == (2, 1)
    assert report.run.headline == "All 2 cells passed (1 of them flaky)."
    assert [cell.outcome.flaky for cell in report.cells if cell.outcome] == [False, True]
    assert [cell.flaky for cell in overview(flaky_run(), {}).cells] == [False, True]


def test_its_summary_names_the_failure_and_its_lines_are_those_of_the_failure() -> None:
    outcome = verdict.flaky((SCRIPT, FAILED), 3)
    assert outcome.summary == f"flaky: attempt 3 passed, after 2 failures: {FAILED.summary}"
    assert (outcome.verdict, outcome.lines, outcome.blame) == (Verdict.PASSED, FAILED.lines, None)


def test_every_format_says_it() -> None:
    quiet = {name for name in FORMATS if "flaky" not in shown(name, flaky_run())}
    assert quiet == set()
    assert all(
        "flaky" not in shown(name, demo_run()).replace('"flaky": 0', "") for name in ("markdown", "badge", "csv")
    )


def test_a_test_that_failed_before_it_passed_is_a_flaky_failure_in_junit() -> None:
    tree = fromstring(shown("junit", flaky_run()))
    cases = {case.get("name"): case for case in tree.iter("testcase") if case.find("flakyFailure") is not None}
    assert set(cases) == {"load_be32", "header_round_trip"}
    failure = cases["load_be32"].find("flakyFailure")
    assert failure is not None
    assert failure.get("message") == "expected 0x01020304, got 0x04030201"
    assert "test_swap.c:57" in (failure.text or "")
    assert tree.get("failures") == "0"


def test_a_failure_of_the_script_is_one_of_the_cell_itself() -> None:
    tree = fromstring(shown("junit", flaky_run(SCRIPT, failing=False)))
    (failure,) = tree.iter("flakyFailure")
    assert (failure.get("message"), failure.get("type"), failure.text) == (SCRIPT.summary, "script-failed", "boom")


def test_a_cell_without_tests_has_its_flaky_failure_too() -> None:
    tree = fromstring(shown("junit", flaky_run(SCRIPT, tests=False)))
    assert [failure.get("type") for failure in tree.iter("flakyFailure")] == ["script-failed"]


def test_a_test_that_fails_again_has_failed_and_is_no_flake() -> None:
    run = flaky_run()
    cell = run.cells[1]
    again = attempt(cell.placement.cell, 2, FAILED, tests=results(failing=True))
    failed = cell.model_copy(update={"outcome": FAILED, "attempts": (cell.attempts[0], again)})
    text = shown("junit", demo_run((run.cells[0], failed)))
    assert "flakyFailure" not in text
    assert text.count("<failure") == 2


def test_the_page_and_the_summary_show_it_as_its_own_word() -> None:
    page, summary = shown("html", flaky_run()), shown("markdown", flaky_run())
    assert '<span class="tag flaky">1 flaky' in page
    assert re.search(r'<span class="tag flaky">flaky</span><b>debian-13/amd64/bug=on', page)
    assert "## Flaky: passed only after a failure" in summary
    assert "**≈ flaky**" in summary


def test_a_statement_says_it_beside_the_status() -> None:
    for run in (flaky_run(), flaky_run(SCRIPT, tests=False), flaky_run(SCRIPT, failing=False)):
        platforms = {one.id: one for one in statement(document(run), now=START).platforms}
        kinds = [reason.kind for reason in platforms["debian-13/amd64/bug=on"].reasons]
        assert Reason.FLAKY in kinds
        assert Reason.FLAKY not in [reason.kind for reason in platforms["debian-13/amd64/bug=off"].reasons]


def test_the_command_line_says_it() -> None:
    report = document(flaky_run())
    console = Console(width=200, record=True, file=None, force_terminal=False)
    with console.capture() as said:
        console.print(result_table(report.cells))
        console.print(result_sentence(report.run))
        Display(["a"], console).concluded("a", verdict.flaky((FAILED,), 2))
    words = said.get()
    assert "flaky: attempt 2 passed" in words
    assert "2 passed, 1 of these flaky" in words
    assert "FLAKY" in words


def test_a_status_of_tests_is_what_it_was() -> None:
    statuses = {test.status for cell in document(flaky_run()).cells for test in (cell.last.tests if cell.last else ())}
    assert statuses == {TestStatus.PASSED, TestStatus.SKIPPED}
