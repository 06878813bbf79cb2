"""A run at a glance: what a page or a list of its cells needs, without its tests, logs and artifacts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from farm.model import Blame, CellRecord, Phase, RunRecord, State, TestStatus, Verdict
from farm.report.document import count_tests, run_part
from farm.report.parts import Line, Name, Part, RunPart, TestCounts, Time, Value

Counts = Mapping[tuple[str, int], Mapping[TestStatus, int]]
"""How many tests had which result, by cell and number of the attempt."""


class CellBrief(Part):
    """A cell at a glance."""

    id: Name
    values: dict[Name, Value]
    may_fail: bool
    state: State
    verdict: Verdict | None
    """null while it is not finished."""
    flaky: bool = False
    """It passed, but only after a failure."""
    blame: Blame | None
    rule: Line
    summary: Line
    phase: Phase | None
    """The phase that goes on, or the first of the last attempt that did not end well."""
    hypervisor: Line
    emulated: bool
    host: Line
    image_digest: Line
    attempts: int
    started: Time | None
    """When the last attempt began."""
    duration_s: float | None
    """Of the last attempt; null while it goes on."""
    expected_s: float | None
    tests: TestCounts


class Overview(Part):
    """A run at a glance."""

    run: RunPart
    cells: tuple[CellBrief, ...]
    """In the order of the plan."""
    warnings: tuple[Line, ...]


def overview(run: RunRecord, counts: Counts) -> Overview:
    """The overview of a run; `run` needs to hold neither tests nor artifacts."""
    return overview_of(run, tuple(brief(cell, counts) for cell in run.cells))


def overview_of(run: RunRecord, cells: tuple[CellBrief, ...]) -> Overview:
    """The overview of a run of which the cells are known at a glance."""
    tests = [cell.tests for cell in cells if cell.tests.all]
    total = {name: sum(map(attrgetter(name), tests)) for name in TestCounts.model_fields}
    return Overview(run=run_part(run, TestCounts(**total)), cells=cells, warnings=run.submission.plan.warnings)


def brief(record: CellRecord, counts: Counts) -> CellBrief:
    """A cell at a glance; `record` needs to hold neither tests nor artifacts."""
    cell, outcome, last = record.placement.cell, record.outcome, record.last
    facts = last.facts if last else None
    return CellBrief(
        id=cell.id,
        values=cell.values,
        may_fail=cell.may_fail,
        state=record.state,
        verdict=outcome.verdict if outcome else None,
        flaky=bool(outcome and outcome.flaky),
        blame=outcome.blame if outcome else None,
        rule=outcome.rule if outcome else "",
        summary=outcome.summary if outcome else "",
        phase=_phase(record),
        hypervisor=facts.hypervisor if facts else record.placement.hypervisor,
        emulated=facts.emulated if facts else record.placement.emulated,
        host=facts.host if facts else "",
        image_digest=facts.image_digest if facts else "",
        attempts=len(record.attempts),
        started=last.created if last else None,
        duration_s=(last.finished - last.created).total_seconds() if last and last.finished else None,
        expected_s=record.placement.expected_s,
        tests=count_tests(_counts(record, counts)),
    )


def _phase(record: CellRecord) -> Phase | None:
    phases = record.last.phases if record.last else ()
    return next((entry.phase for entry in phases if entry.ending != "ok"), None)


def _counts(cell: CellRecord, counts: Counts) -> Mapping[TestStatus, int]:
    return counts.get((cell.id, cell.last.key.number), {}) if cell.last else {}
