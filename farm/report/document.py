"""From the record of a run to its report: `report.json`, and what every other format is made from."""

from __future__ import annotations

import glob
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from farm.model import (
    SCRIPTS,
    AttemptRecord,
    CellRecord,
    Ending,
    GuestFacts,
    Phase,
    PhaseRecord,
    RunRecord,
    State,
    Submission,
    TestResult,
    TestStatus,
    Verdict,
)
from farm.report.parts import (
    SCHEMA,
    ArtifactPart,
    AttemptPart,
    CellCounts,
    CellPart,
    Document,
    ExcludedPart,
    GuestPart,
    LimitsPart,
    OutcomePart,
    PhasePart,
    PinPart,
    RunPart,
    SourcePart,
    TestCounts,
    TestPart,
    UsagePart,
)
from farm.text import clean_line
from farm.verdict import exit_code

_EXIT_MEANINGS = {
    0: "every cell that counts passed",
    1: "a cell failed",
    2: "a cell ended in an error",
    3: "nothing ran",
    130: "cancelled",
}
_VERDICT_WORDS = {
    Verdict.FAILED: "failed",
    Verdict.ERROR: "ended in an error",
    Verdict.SKIPPED: "skipped",
    Verdict.CANCELLED: "cancelled",
}
_WELL = {Ending.OK, None}


def document(run: RunRecord) -> Document:
    """The report of a run, finished or not."""
    plan = run.submission.plan
    return Document(
        schema_version=SCHEMA,
        run=run_part(run, count_tests(Counter(test.status for cell in run.cells for test in _tests(cell)))),
        excluded=tuple(ExcludedPart.model_validate(one) for one in plan.excluded),
        warnings=plan.warnings,
        cells=tuple(cell_part(run.submission, cell) for cell in run.cells),
    )


def render(report: Document) -> str:
    """`report.json`."""
    return report.model_dump_json(by_alias=True, indent=2) + "\n"


def schema() -> str:
    """The JSON Schema of `report.json`, as it is kept in docs/report.schema.json."""
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(title | Document.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n"


def rerun_command(matrix_file: str, cell_id: str) -> str:
    """The shell command that runs one cell again."""
    return f"farm run {shlex.quote(matrix_file)} --only {shlex.quote(glob.escape(cell_id))}"


def run_part(run: RunRecord, tests: TestCounts) -> RunPart:
    """A run as a whole; `tests` are those of the attempts that count."""
    submission, counts = run.submission, _count_cells(run)
    code = exit_code(run) if run.state is State.FINISHED else None
    return RunPart(
        id=run.id,
        matrix=submission.plan.matrix.name,
        matrix_file=submission.matrix_file,
        source=SourcePart.model_validate(submission.source),
        state=run.state,
        created=run.created,
        finished=run.finished,
        duration_s=_between(run.created, run.finished),
        cancelled=run.cancelled,
        exit_code=code,
        exit_meaning="" if code is None else _EXIT_MEANINGS[code],
        headline=_headline(run, counts),
        cells=counts,
        tests=tests,
        project=submission.plan.matrix.name,
        version=submission.version,
        labels=submission.labels,
        owner=submission.owner,
        priority=submission.priority,
        rerun_of=submission.rerun_of,
    )


def cell_part(submission: Submission, record: CellRecord) -> CellPart:
    """A cell of a run, with as much of its attempts as the record has."""
    cell, placement, last = record.placement.cell, record.placement, record.last
    facts = last.facts if last else None
    phases = last.phases if last else ()
    limits = LimitsPart.model_validate(submission.plan.matrix.guest)
    return CellPart(
        id=cell.id,
        values=cell.values,
        may_fail=cell.may_fail,
        state=record.state,
        outcome=OutcomePart.model_validate(record.outcome) if record.outcome else None,
        phase=next((entry.phase for entry in phases if entry.ending not in _WELL), None),
        hypervisor=facts.hypervisor if facts else placement.hypervisor,
        emulated=facts.emulated if facts else placement.emulated,
        host=facts.host if facts else "",
        image_digest=facts.image_digest if facts else "",
        pinned=PinPart.model_validate(placement.pinned) if placement.pinned else None,
        tests=count_tests(Counter(test.status for test in _tests(record))),
        rerun=clean_line(rerun_command(submission.matrix_file or "MATRIX", cell.id), limit=8_000),
        attempts=tuple(_attempt(attempt, limits) for attempt in record.attempts),
    )


def _attempt(record: AttemptRecord, limits: LimitsPart) -> AttemptPart:
    return AttemptPart(
        number=record.key.number,
        state=record.state,
        created=record.created,
        finished=record.finished,
        duration_s=_between(record.created, record.finished),
        outcome=OutcomePart.model_validate(record.outcome) if record.outcome else None,
        guest=GuestPart.model_validate(record.facts) if record.facts else None,
        phases=tuple(_phase(phase, record.facts, limits) for phase in record.phases),
        tests=tuple(TestPart.model_validate(test) for test in record.tests),
        artifacts=tuple(ArtifactPart.model_validate(artifact) for artifact in record.artifacts),
        cpu_s=record.cpu_s,
        limits=limits,
        usage=UsagePart.model_validate(record.usage) if record.usage else None,
    )


def _phase(record: PhaseRecord, facts: GuestFacts | None, limits: LimitsPart) -> PhasePart:
    limited = any(
        limit is not None for limit in (limits.cpu_percent, limits.disk_bytes_per_s, limits.network_bytes_per_s)
    )
    estimate = None if limited or facts is None else _native_estimate(record, facts)
    return PhasePart.model_validate({**record.model_dump(), "native_estimate_s": estimate})


def _native_estimate(record: PhaseRecord, facts: GuestFacts) -> float | None:
    """Only where a phase is nothing but a script: it is as much slower there as its guest is."""
    if record.phase not in SCRIPTS or record.duration_s is None or facts.slowness is None:
        return None
    with_a_builder_s_start = record.phase is Phase.BUILD and facts.builder is not None
    return None if with_a_builder_s_start else record.duration_s / facts.slowness.factor


def _tests(cell: CellRecord) -> tuple[TestResult, ...]:
    return cell.last.tests if cell.last else ()


def _between(start: datetime, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if end else None


def _count_cells(run: RunRecord) -> CellCounts:
    outcomes = [cell.outcome for cell in run.cells if cell.outcome]
    found = Counter(outcome.verdict for outcome in outcomes)
    return CellCounts(
        all=len(run.cells),
        unfinished=len(run.cells) - len(outcomes),
        flaky=sum(outcome.flaky for outcome in outcomes),
        **{verdict.value: found[verdict] for verdict in Verdict},
    )


def count_tests(found: Mapping[TestStatus, int]) -> TestCounts:
    """Counts by status as a part."""
    return TestCounts(all=sum(found.values()), **{status.value: found.get(status, 0) for status in TestStatus})


def _headline(run: RunRecord, counts: CellCounts) -> str:
    """A sentence: 4 of 6 cells passed, 1 failed, 1 ended in an error."""
    numbers = ((getattr(counts, verdict.value), word) for verdict, word in _VERDICT_WORDS.items())
    others = [f"{number} {word}" for number, word in numbers if number]
    others += [f"{counts.unfinished} without a result"] if counts.unfinished else []
    cells = "cell" if counts.all == 1 else "cells"
    passed = f"{counts.passed} of {counts.all} {cells} passed"
    if counts.all and counts.passed == counts.all:
        passed = "The only cell passed" if counts.all == 1 else f"All {counts.all} cells passed"
    if counts.flaky:
        passed += ", but only after a failure" if counts.all == 1 else f" ({counts.flaky} of them flaky)"
    opening = "Cancelled: " if run.cancelled else "" if run.state is State.FINISHED else "Not finished yet: "
    return opening + ", ".join([passed, *others]) + "."
