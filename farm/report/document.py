"""The report of a run as one frozen document: `report.json`, and what every other format is made of.

Every text in it is cleaned and bounded by its type, so that a format only has to escape. The shape is a
promise to others (docs/report.md, docs/report.schema.json): whoever changes it raises `SCHEMA`.
"""

from __future__ import annotations

import glob
import json
import shlex
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
)

from farm.model import (
    AttemptRecord,
    Blame,
    CellRecord,
    Ending,
    Model,
    Phase,
    RunRecord,
    State,
    TestResult,
    TestStatus,
    Verdict,
)
from farm.text import clean, clean_line
from farm.verdict import exit_code

SCHEMA: Final = 1

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


def _cleaned(limit: int) -> BeforeValidator:
    return BeforeValidator(lambda text: clean(text, limit=limit) if isinstance(text, str) else text)


def _cleaned_line(limit: int) -> BeforeValidator:
    return BeforeValidator(lambda text: clean_line(text, limit=limit) if isinstance(text, str) else text)


Name = Annotated[str, _cleaned(4_000)]
Line = Annotated[str, _cleaned_line(2_000)]
Verbatim = Annotated[str, _cleaned(2_000)]
Text = Annotated[str, _cleaned(32_000)]
Time = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC))]
Value = StrictBool | StrictInt | StrictFloat | Line


class Part(Model):
    """A part of the document; takes its fields from the attributes of a record of the same names."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class SourcePart(Part):
    """The program under test."""

    kind: Line
    description: Line
    digest: Line
    """SHA-256 over paths, modes and contents of the tree."""
    files: int
    bytes: int


class CellCounts(Part):
    """How many cells came to which verdict."""

    all: int
    passed: int
    failed: int
    error: int
    skipped: int
    cancelled: int
    unfinished: int
    """Without a verdict yet."""


class TestCounts(Part):
    """How many tests had which result, in the attempts that count."""

    __test__ = False

    all: int
    passed: int
    failed: int
    error: int
    skipped: int


class RunPart(Part):
    """The run as a whole."""

    id: Name
    matrix: Line
    matrix_file: Line
    """As the user named it."""
    source: SourcePart
    state: State
    created: Time
    finished: Time | None
    duration_s: float | None
    cancelled: bool
    exit_code: int | None
    """Of `farm run`; null while the run is not finished."""
    exit_meaning: str
    headline: str
    """One sentence for a person."""
    cells: CellCounts
    tests: TestCounts


class ExcludedPart(Part):
    """A combination that was left out."""

    id: Name
    reason: Line


class OutcomePart(Part):
    """A verdict and what it rests on."""

    verdict: Verdict
    blame: Blame | None
    rule: Line
    """The row of the classification table that decided."""
    summary: Line
    lines: tuple[Verbatim, ...]
    """The lines of a log, the console or an exception that decided."""


class GuestPart(Part):
    """What the guest of an attempt really was."""

    host: Line
    hypervisor: Line
    hypervisor_version: Line
    emulated: bool
    machine: Line
    cpu: Line
    image: Line
    image_digest: Line
    vcpus: int
    memory_mib: int


class PhasePart(Part):
    """A phase of an attempt."""

    phase: Phase
    started: Time
    duration_s: float | None
    """null while it goes on."""
    ending: Ending | None
    exit_status: int | None
    detail: Line


class TestPart(Part):
    """The result of one test."""

    __test__ = False

    suite: Line
    name: Line
    classname: Line
    status: TestStatus
    duration_s: float
    message: Line
    detail: Text


class ArtifactPart(Part):
    """A file that an attempt left."""

    path: Name
    bytes: int
    sha256: Line


class AttemptPart(Part):
    """One try at a cell."""

    number: int
    state: State
    created: Time
    finished: Time | None
    duration_s: float | None
    outcome: OutcomePart | None
    guest: GuestPart | None
    """null where none was made."""
    phases: tuple[PhasePart, ...]
    tests: tuple[TestPart, ...]
    artifacts: tuple[ArtifactPart, ...]
    cpu_s: float
    """CPU time of the farm's worker, without the hypervisor's."""


class CellPart(Part):
    """One combination of axis values and what it came to."""

    id: Name
    values: dict[Name, Value]
    may_fail: bool
    state: State
    outcome: OutcomePart | None
    """null while it is not finished."""
    phase: Phase | None
    """The first phase of the last attempt that did not end well."""
    hypervisor: Line
    """Of the last guest; before there is one, what was planned."""
    emulated: bool
    host: Line
    image_digest: Line
    tests: TestCounts
    rerun: str
    """The command that runs this cell alone."""
    attempts: tuple[AttemptPart, ...]
    """The oldest first; the last one counts."""

    @property
    def last(self) -> AttemptPart | None:
        """The attempt that counts."""
        return self.attempts[-1] if self.attempts else None

    @property
    def verdict(self) -> Verdict | None:
        """Its verdict; None while it is not finished."""
        return self.outcome.verdict if self.outcome else None


class Document(Part):
    """`report.json`."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    run: RunPart
    excluded: tuple[ExcludedPart, ...]
    warnings: tuple[Line, ...]
    cells: tuple[CellPart, ...]
    """In the order of the plan."""

    @property
    def troubles(self) -> tuple[CellPart, ...]:
        """The cells that failed or ended in an error."""
        return tuple(cell for cell in self.cells if cell.verdict in {Verdict.FAILED, Verdict.ERROR})


def document(run: RunRecord) -> Document:
    """The report of a run, finished or not."""
    plan = run.submission.plan
    return Document(
        schema_version=SCHEMA,
        run=_run(run),
        excluded=tuple(ExcludedPart.model_validate(one) for one in plan.excluded),
        warnings=plan.warnings,
        cells=tuple(_cell(run, cell) for cell in run.cells),
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


def _run(run: RunRecord) -> RunPart:
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
        tests=_count_tests(test for cell in run.cells for test in _tests(cell)),
    )


def _cell(run: RunRecord, record: CellRecord) -> CellPart:
    cell, placement, last = record.placement.cell, record.placement, record.last
    facts = last.facts if last else None
    phases = last.phases if last else ()
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
        tests=_count_tests(_tests(record)),
        rerun=clean_line(rerun_command(run.submission.matrix_file or "MATRIX", cell.id), limit=8_000),
        attempts=tuple(_attempt(attempt) for attempt in record.attempts),
    )


def _attempt(record: AttemptRecord) -> AttemptPart:
    return AttemptPart(
        number=record.key.number,
        state=record.state,
        created=record.created,
        finished=record.finished,
        duration_s=_between(record.created, record.finished),
        outcome=OutcomePart.model_validate(record.outcome) if record.outcome else None,
        guest=GuestPart.model_validate(record.facts) if record.facts else None,
        phases=tuple(PhasePart.model_validate(phase) for phase in record.phases),
        tests=tuple(TestPart.model_validate(test) for test in record.tests),
        artifacts=tuple(ArtifactPart.model_validate(artifact) for artifact in record.artifacts),
        cpu_s=record.cpu_s,
    )


def _tests(cell: CellRecord) -> tuple[TestResult, ...]:
    return cell.last.tests if cell.last else ()


def _between(start: datetime, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if end else None


def _count_cells(run: RunRecord) -> CellCounts:
    by_verdict = {verdict.value: run.count(verdict) for verdict in Verdict}
    unfinished = len(run.cells) - sum(by_verdict.values())
    return CellCounts(all=len(run.cells), unfinished=unfinished, **by_verdict)


def _count_tests(tests: Iterable[TestResult]) -> TestCounts:
    found = Counter(test.status for test in tests)
    return TestCounts(all=found.total(), **{status.value: found[status] for status in TestStatus})


def _headline(run: RunRecord, counts: CellCounts) -> str:
    """A sentence: 4 of 6 cells passed, 1 failed, 1 ended in an error."""
    others = [f"{run.count(verdict)} {word}" for verdict, word in _VERDICT_WORDS.items() if run.count(verdict)]
    others += [f"{counts.unfinished} without a result"] if counts.unfinished else []
    cells = "cell" if counts.all == 1 else "cells"
    passed = f"{counts.passed} of {counts.all} {cells} passed"
    if counts.all and counts.passed == counts.all:
        passed = "The only cell passed" if counts.all == 1 else f"All {counts.all} cells passed"
    opening = "Cancelled: " if run.cancelled else "" if run.state is State.FINISHED else "Not finished yet: "
    return opening + ", ".join([passed, *others]) + "."
