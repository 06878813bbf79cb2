"""`junit.xml`: all cells in one file, a suite for each cell and suite of its guest.

Follows the schema that Jenkins and Surefire share: properties before testcases, counts in every suite.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import indent, tostring

from defusedxml.ElementTree import fromstring
from junitparser import Error, Failure, JUnitXml, Skipped, TestSuite
from junitparser.junitparser import FinalResult
from junitparser.xunit2 import FlakyError, FlakyFailure, InterimResult, TestCase

from farm.model import TestStatus, Verdict
from farm.report.evidence import Key, failed_attempts, failures_before, stands_alone
from farm.report.parts import CellPart, Document, TestPart
from farm.report.words import verdict

_OF_TEST: dict[TestStatus, type[FinalResult]] = {
    TestStatus.FAILED: Failure,
    TestStatus.ERROR: Error,
    TestStatus.SKIPPED: Skipped,
}
_OF_CELL: dict[Verdict | None, type[FinalResult]] = {
    Verdict.FAILED: Failure,
    Verdict.ERROR: Error,
    Verdict.SKIPPED: Skipped,
    Verdict.CANCELLED: Skipped,
    None: Skipped,
}
"""What is in neither passed."""
_OF_TRY: dict[TestStatus, type[InterimResult]] = {TestStatus.FAILED: FlakyFailure, TestStatus.ERROR: FlakyError}
"""Of a test that passes: what it came to before, by Surefire's names."""
_OWN_SUITE = "farm"


def render(report: Document) -> str:
    """`junit.xml`."""
    xml = JUnitXml(report.run.id)
    for cell in report.cells:
        for suite in _suites(cell):
            xml.append(suite)  # type: ignore[no-untyped-call]
    xml.update_statistics()  # type: ignore[no-untyped-call]
    tree = fromstring(xml.tostring())  # type: ignore[no-untyped-call]
    indent(tree)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(tree, encoding="unicode") + "\n"


def _suites(cell: CellPart) -> Iterable[TestSuite]:
    by_suite: dict[str, list[TestCase]] = {}
    before = failures_before(cell)
    for test in cell.last.tests if cell.last else ():
        tries = before.get(Key(test.suite, test.classname, test.name), ()) if test.status is TestStatus.PASSED else ()
        by_suite.setdefault(test.suite, []).append(_case(test, tries))
    if stands_alone(cell):
        by_suite.setdefault(_OWN_SUITE, []).append(_cell_case(cell))
    return [_suite(cell, name, cases) for name, cases in by_suite.items()]


def _suite(cell: CellPart, name: str, cases: list[TestCase]) -> TestSuite:
    suite = TestSuite(f"{cell.id}: {name}")
    for key, value in _properties(cell).items():
        suite.add_property(key, value)
    suite.extend(cases)  # type: ignore[no-untyped-call]
    if cell.last:
        suite.timestamp = cell.last.created.strftime("%Y-%m-%dT%H:%M:%S")
    suite.hostname = cell.host or "none"
    suite.update_statistics()  # type: ignore[no-untyped-call]
    return suite


def _properties(cell: CellPart) -> dict[str, str]:
    outcome = cell.outcome
    return {
        "cell": cell.id,
        "verdict": verdict(cell),
        "blame": outcome.blame.value if outcome and outcome.blame else "",
        "hypervisor": cell.hypervisor,
        "emulated": str(cell.emulated).lower(),
        "image_digest": cell.image_digest,
        "attempts": str(len(cell.attempts)),
        "may_fail": str(cell.may_fail).lower(),
    }


def _case(test: TestPart, tries: Iterable[TestPart]) -> TestCase:
    """A test, with what it came to in attempts before the one in which it passed."""
    case = TestCase(test.name, test.classname or test.suite, test.duration_s)
    kind = _OF_TEST.get(test.status)
    if kind:
        case.result = _result(kind, test.message, test.status.value, test.detail)
    elif test.message or test.detail:
        case.system_out = "\n".join(filter(None, (test.message, test.detail)))
    for one in tries:
        case.add_interim_result(_interim(_OF_TRY[one.status], one.message, one.status.value, one.detail))
    return case


def _cell_case(cell: CellPart) -> TestCase:
    """A test that stands for the cell itself, named after the phase that decided."""
    case = TestCase(cell.phase.value if cell.phase else "cell", cell.id, _duration_s(cell))
    kind = _OF_CELL.get(cell.verdict)
    if kind:
        outcome = cell.outcome
        message = outcome.summary if outcome else f"the cell is {cell.state.value}"
        case.result = _result(
            kind, message, outcome.rule if outcome else "", "\n".join(outcome.lines if outcome else ())
        )
    for failure in failed_attempts(cell):
        case.add_interim_result(_interim(FlakyFailure, failure.summary, failure.rule, "\n".join(failure.lines)))
    return case


def _duration_s(cell: CellPart) -> float:
    return (cell.last.duration_s or 0.0) if cell.last else 0.0


def _interim(kind: type[InterimResult], message: str, type_: str, text: str) -> InterimResult:
    result = kind(message, type_)
    result.text = text
    return result


def _result(kind: type[FinalResult], message: str, type_: str, text: str) -> FinalResult:
    result = kind(message, type_)
    result.text = text
    return result
