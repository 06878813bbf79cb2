"""What many runs of a project say together: results of a test, trends, and the runs that others are compared with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from farm.model.base import Model
from farm.model.words import State, TestStatus, Verdict


class ProjectSummary(Model):
    """A project, which is all runs of matrices of one name."""

    project: str
    runs: int
    passed: int
    """Those with the exit code 0."""
    newest: str
    """The id of the newest run; what follows is of it."""
    version: str
    created: datetime
    state: State
    exit_code: int | None


class TestQuery(Model):
    """Which results of a test are asked for; what is None does not matter."""

    __test__ = False

    project: str
    name: str
    suite: str | None = None
    classname: str | None = None
    cell: str | None = None
    """A glob, as `--only` takes it."""
    arch: str | None = None
    version: str | None = None
    image_digest: str | None = None
    before: int | None = None
    """Only results that come after this one: the last of the page before."""
    limit: int = 100


class TestHit(Model):
    """What a test came to in one cell of one run, in the attempt that counts."""

    __test__ = False

    id: int
    run: str
    version: str
    created: datetime
    """When the run was submitted."""
    cell: str
    attempt: int
    suite: str
    classname: str
    name: str
    status: TestStatus
    duration_s: float
    message: str
    host: str
    hypervisor: str
    emulated: bool
    image: str
    image_digest: str


class RunPoint(Model):
    """A run as a point of a trend."""

    id: str
    version: str
    created: datetime
    state: State
    exit_code: int | None


class CellPoint(Model):
    """What a cell came to in one run."""

    verdict: Verdict | None
    """None while it is not finished."""
    duration_s: float | None
    """Of the attempt that counts; None while it goes on, or where there was none."""
    attempts: int
    flaky: bool = False
    """It passed, but only after a failure."""


class CellTrend(Model):
    """A cell over the runs."""

    cell: str
    points: tuple[CellPoint | None, ...]
    """One for each run; None where it does not have the cell."""


class CellTrends(Model):
    """The cells of a project over its last runs."""

    project: str
    runs: tuple[RunPoint, ...]
    """The oldest first."""
    cells: tuple[CellTrend, ...]


class TestTrend(Model):
    """A test over the runs, all cells together."""

    __test__ = False

    suite: str
    classname: str
    name: str
    runs: int
    """In how many it was."""
    passed: int
    """Results, of all cells of these runs; so are the next two."""
    failed: int
    skipped: int
    flaked: int
    """Results that passed only after the test had failed in the same cell of the same run."""
    changed: int
    """Results that were not what they were in the same cell the last time: passed after failed, or the other way."""
    flakiness: float
    """The share of results that flaked or changed: 0 never, 1 always."""
    mean_s: float
    """Of the results that were not skipped; so are the next two."""
    longest_s: float
    means_s: tuple[float | None, ...]
    """For each run; None where it did not run there."""
    slower: float | None
    """The mean of the newer half of the runs by that of the older half: 1.5 is half as slow again. None: too few."""


class TestTrends(Model):
    """Tests of a project over its last finished runs."""

    __test__ = False

    project: str
    runs: tuple[RunPoint, ...]
    """The oldest first."""
    tests: tuple[TestTrend, ...]


class Rank(StrEnum):
    """In which order tests are listed, and which of them."""

    FLAKY = "flaky"
    """The flakiest first; only those that flaked or changed."""
    SLOW = "slow"
    """The slowest first, by their mean."""
    NAME = "name"


class Baseline(Model):
    """A run that others are compared with, by a name."""

    project: str
    name: str
    run: str
    set: datetime
    set_by: str
