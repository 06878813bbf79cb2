"""What the store gives back: runs, cells and attempts as rows, for reports and for the controller."""

from __future__ import annotations

from datetime import datetime

from farm.model.attempt import AttemptKey, GuestFacts, Outcome, TestResult, Usage
from farm.model.base import Model
from farm.model.plan import Placement, Submission
from farm.model.words import Ending, Phase, State, Verdict


class PhaseRecord(Model):
    """A phase of an attempt."""

    phase: Phase
    started: datetime
    duration_s: float | None = None
    """None while it goes on."""
    ending: Ending | None = None
    exit_status: int | None = None
    detail: str = ""


class ArtifactRecord(Model):
    """A file that an attempt left; `path` is relative to the attempt's folder `artifacts`."""

    path: str
    bytes: int
    sha256: str


class AttemptRecord(Model):
    """An attempt."""

    key: AttemptKey
    state: State
    created: datetime
    finished: datetime | None = None
    seen: datetime
    """When the last event came."""
    facts: GuestFacts | None = None
    outcome: Outcome | None = None
    phases: tuple[PhaseRecord, ...] = ()
    tests: tuple[TestResult, ...] = ()
    artifacts: tuple[ArtifactRecord, ...] = ()
    cpu_s: float = 0.0
    usage: Usage | None = None


class CellRecord(Model):
    """A cell of a run with its attempts, the oldest first."""

    placement: Placement
    state: State
    outcome: Outcome | None = None
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def id(self) -> str:
        """The cell's id."""
        return self.placement.cell.id

    @property
    def last(self) -> AttemptRecord | None:
        """The attempt that counts."""
        return self.attempts[-1] if self.attempts else None


class RunRecord(Model):
    """A run with its cells, in the order of its plan."""

    id: str
    """The matrix' name and a number: `demo-3`."""
    submission: Submission
    state: State
    created: datetime
    finished: datetime | None = None
    cancelled: bool = False
    cells: tuple[CellRecord, ...]

    def count(self, verdict: Verdict) -> int:
        """How many cells came to this verdict."""
        return sum(1 for cell in self.cells if cell.outcome and cell.outcome.verdict is verdict)


class RunSummary(Model):
    """A line of `farm runs`."""

    id: str
    state: State
    created: datetime
    finished: datetime | None
    cancelled: bool
    cells: int
    verdicts: dict[Verdict, int]
