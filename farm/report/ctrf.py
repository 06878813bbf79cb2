"""`ctrf.json`: the Common Test Report Format, as its JSON Schema has it (ctrf.io, specification 0.0.0).

Every object there refuses what it does not know; what CTRF has no word for is in `extra`. Pure.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from farm.model import TestStatus, Verdict
from farm.report import evidence
from farm.report.evidence import Key, stands_alone
from farm.report.parts import AttemptPart, CellPart, Document, TestPart
from farm.report.words import verdict

SPEC_VERSION = "0.0.0"
_TOOL = "validation-farm"
_STATUSES = ("passed", "failed", "skipped", "pending", "other")
_OF_TEST = {
    TestStatus.PASSED: "passed",
    TestStatus.FAILED: "failed",
    TestStatus.ERROR: "failed",
    TestStatus.SKIPPED: "skipped",
}
_OF_CELL = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.ERROR: "failed",
    Verdict.SKIPPED: "skipped",
    Verdict.CANCELLED: "other",
    None: "pending",
}
"""An error is not green, so it is `failed`; `rawStatus` says which it was."""


def render(report: Document) -> str:
    """`ctrf.json`, without spaces: each test carries its axes, and there may be 200 000."""
    return json.dumps(_report(report), ensure_ascii=False, separators=(",", ":")) + "\n"


def _report(report: Document) -> dict[str, Any]:
    run = report.run
    return {
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "reportId": str(uuid5(NAMESPACE_URL, f"{_TOOL}:{run.id}:{run.created.isoformat()}")),
        "timestamp": (run.finished or run.created).isoformat(),
        "generatedBy": _TOOL,
        "results": {
            "tool": _tool(),
            "summary": _summary(report, tests := [test for cell in report.cells for test in _tests(cell)]),
            "tests": tests,
            "environment": _environment(report),
        },
    }


def _tool() -> dict[str, str]:
    try:
        return {"name": _TOOL, "version": version(_TOOL)}
    except PackageNotFoundError:  # run from a tree that is not installed
        return {"name": _TOOL}


def _summary(report: Document, tests: list[dict[str, Any]]) -> dict[str, int]:
    run, counted = report.run, Counter(test["status"] for test in tests)
    return {
        "tests": len(tests),
        **{status: counted[status] for status in _STATUSES},
        "flaky": sum(1 for test in tests if test.get("flaky")),
        "suites": len({tuple(test["suite"]) for test in tests}),
        "start": _ms(run.created),
        "stop": _ms(run.finished or run.created),
    }


def _environment(report: Document) -> dict[str, Any]:
    run = report.run
    facts = {"source": run.source.model_dump(mode="json"), "matrix_file": run.matrix_file, "headline": run.headline}
    healthy = {} if run.exit_code is None else {"healthy": run.exit_code == 0}
    return {"reportName": run.id, "appName": run.matrix, "buildName": run.id, **healthy, "extra": facts}


def _tests(cell: CellPart) -> Iterator[dict[str, Any]]:
    """The tests of the attempt that counts; the cell itself, where these do not tell what it came to."""
    flaky, last = set(evidence.flaky(cell)), cell.last
    for test in last.tests if last else ():
        yield _test(cell, test, flaky=Key(test.suite, test.classname, test.name) in flaky)
    if stands_alone(cell):
        yield _itself(cell, last)


def _test(cell: CellPart, test: TestPart, *, flaky: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": test.name or "(no name)",
        "status": _OF_TEST[test.status],
        "duration": round(test.duration_s * 1000),
        "suite": [cell.id, *([test.suite] if test.suite else [])],
        "rawStatus": test.status.value,
        "parameters": cell.values,
        "extra": {"classname": test.classname},
    }
    texts = {"message": test.message, "trace": test.detail}
    return made | {name: text for name, text in texts.items() if text} | ({"flaky": True} if flaky else {})


def _itself(cell: CellPart, last: AttemptPart | None) -> dict[str, Any]:
    """A cell as a test, named after the phase that decided."""
    outcome = cell.outcome
    made: dict[str, Any] = {
        "name": cell.phase.value if cell.phase else "cell",
        "status": _OF_CELL[cell.verdict],
        "duration": round((last.duration_s or 0.0) * 1000) if last else 0,
        "suite": [cell.id, "farm"],
        "rawStatus": verdict(cell),
        "message": outcome.summary if outcome else f"the cell is {cell.state}",
        "parameters": cell.values,
        "extra": {
            "cell": cell.id,
            "blame": outcome.blame if outcome else None,
            "rule": outcome.rule if outcome else "",
        },
    }
    made |= {"flaky": True} if outcome and outcome.flaky else {}
    return made | ({"trace": "\n".join(outcome.lines)} if outcome and outcome.lines else {})


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
