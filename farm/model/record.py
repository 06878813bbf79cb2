"""What the store gives back: runs, cells and attempts as rows, for reports and for the controller."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from farm.model.attempt import AttemptKey, GuestFacts, Outcome, TestResult, Usage
from farm.model.base import Model
from farm.model.plan import Host, Placement, Submission
from farm.model.words import Ending, Mark, Phase, State, Verdict


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
    host: str = ""
    """Where it is or was; empty: it was given to none, or nobody knows."""


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


class GuestLine(Model):
    """A guest that there is now."""

    run: str
    cell: str
    number: int
    """Of the attempt."""
    since: datetime


class HostLook(Model):
    """A host."""

    name: str
    host: Host | None
    """What it can run, and in `room` what it has left; null: it has a mark, and is not there."""
    drained: bool
    """It gets nothing new; `mark` says who has decided that."""
    reason: str
    """Why it gets nothing new, and when it is tested."""
    mark: Mark | None = None
    """Who has decided that: `drained` a person, `failed` and `full` what its attempts came to; null: it takes work."""
    due: datetime | None = None
    """When it is tested, to take work again; null: that takes a person, or it takes work."""
    guests: tuple[GuestLine, ...]
    """The oldest first."""


class RunSummary(Model):
    """A line of `farm runs`."""

    id: str
    project: str
    """The matrix' name."""
    version: str
    owner: str
    priority: int
    labels: dict[str, str]
    state: State
    created: datetime
    finished: datetime | None
    cancelled: bool
    exit_code: int | None
    """What `farm run` exits with; None while it goes on."""
    rerun_of: str | None
    cells: int
    verdicts: dict[Verdict, int]
    flaky: int = 0
    """Of the cells that passed: those that did so only after a failure."""


class RunQuery(Model):
    """Which runs are asked for; what is None does not matter."""

    project: str | None = None
    version: str | None = None
    owner: str | None = None
    state: State | None = None
    exit_code: int | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    before: str | None = None
    """Only runs older than this one: the last of the page before."""
    limit: int = 50


class HostMark(Model):
    """A host that takes no new work."""

    name: str
    mark: Mark
    reason: str
    since: datetime
    due: datetime | None = None
    """When it is tested; None: somebody has to say that it takes work again."""
    tries: int = 0
    """How often it was tested in vain."""


class EventRecord(Model):
    """Something that happened, in the order of `id`."""

    id: int
    run: str
    cell: str | None
    """None: to the run as a whole."""
    number: int | None
    """Of the attempt; None: to the cell, or the run."""
    at: datetime
    kind: str
    payload: dict[str, Any]
