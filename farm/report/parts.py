"""The types of `report.json`: what every report of a run is made of.

Every text is cleaned and bounded by its type, so that a format only has to escape. The shape is a promise
to others (docs/report.md, docs/report.schema.json): whoever removes a field or gives it another meaning
raises `SCHEMA`.
"""

from __future__ import annotations

from datetime import UTC
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

from farm.model import Blame, Ending, Model, Phase, Start, State, TestStatus, Verdict
from farm.text import clean, clean_line

SCHEMA: Final = 1


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
    flaky: int = 0
    """Of those that passed: only after a failure."""
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
    project: Line
    """What its history is kept under: the matrix' name."""
    version: Line
    """What was tested, as people call it; empty where nobody said."""
    labels: dict[Line, Line]
    owner: Line
    priority: int
    rerun_of: Line | None
    """The run of which this repeats some cells."""


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
    flaky: bool = False
    """Of a cell that passed: an attempt before had failed. Its summary says how; its lines are those of the failure."""


class SlownessPart(Part):
    """How many times longer than natively on its host something took in a guest like this one; measured."""

    cpu: float
    """Computing."""
    fork: float
    """Starting programs."""
    disk: float
    """Writing files and reading them."""
    factor: float
    """What estimates are made with: the larger of the first two, at least 1."""


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
    image_kind: Line
    """`unpacked`, `installed` or `cloud`."""
    layers: tuple[Line, ...]
    """What is on top of the image."""
    vcpus: int
    memory_mib: int
    start: Start
    """`cold`: it booted. `restored`: it is a copy of one that had booted."""
    start_note: Line
    """How it was restored, or why it was not."""
    slowness: SlownessPart | None
    """null where it has not been measured."""
    builder: GuestPart | None
    """The guest that built for this one, where there was one."""


class PhasePart(Part):
    """A phase of an attempt."""

    phase: Phase
    started: Time
    duration_s: float | None
    """null while it goes on."""
    ending: Ending | None
    exit_status: int | None
    detail: Line
    native_estimate_s: float | None
    """What it would have taken natively: its duration divided by the slowness of the guest. Only of scripts; null
    where the slowness is not known, or the guest was limited."""


class LimitsPart(Part):
    """What a guest was allowed to take of its host; null: as much as it could get."""

    cpu_percent: int | None
    """Of one CPU."""
    disk_bytes_per_s: int | None
    network_bytes_per_s: int | None = None
    """In each direction."""
    disk_mib: int


class UsagePart(Part):
    """What a guest used of its host; null: it could not be found out."""

    cpu_s: float | None
    """CPU seconds of its hypervisor's process."""
    memory_peak_mib: int | None
    """The most that process had in memory at a time, what it shares with other guests included."""
    disk_read_bytes: int | None
    disk_written_bytes: int | None
    network_received_bytes: int | None
    """By the guest's own word."""
    network_sent_bytes: int | None


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


class AttemptFacts(Part):
    """What every view of a try at a cell has."""

    number: int
    state: State
    created: Time
    finished: Time | None
    duration_s: float | None
    outcome: OutcomePart | None
    guest: GuestPart | None
    """null where none was made."""
    phases: tuple[PhasePart, ...]
    artifacts: tuple[ArtifactPart, ...]
    cpu_s: float
    """CPU time of the farm's worker, without the hypervisor's."""
    limits: LimitsPart
    usage: UsagePart | None
    """null where there was no guest, or it was gone before it could be asked."""


class AttemptPart(AttemptFacts):
    """One try at a cell."""

    tests: tuple[TestPart, ...]


class PinPart(Part):
    """The image that an alias was settled to when the run was submitted."""

    name: Line
    """`debian-13`."""
    arch: Line
    digest: Line
    """Names its content; nothing else was run."""


class CellFacts(Part):
    """What every view of a cell has in common."""

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
    pinned: PinPart | None
    """Where the cell names its image by an alias, what that was settled to; else null."""


class CellPart(CellFacts):
    """One combination of axis values and what it came to."""

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
