"""The words and types of a support statement, and the table that decides a platform's status. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

from farm.model import Verdict
from farm.report.changes import RunSide
from farm.report.parts import Line, Name, Part, Time, Value
from farm.report.waivers import WaivedFailure, WaiverUse


class Status(StrEnum):
    """What a release may claim of a platform."""

    SUPPORTED = "supported"
    """Its cell ran, its tests ran, and they passed."""
    WAIVED = "supported_with_waivers"
    """Something failed, and every failure is waived."""
    NOT_SUPPORTED = "not_supported"
    """Something failed that is not waived."""
    NOT_KNOWN = "not_known"
    """There is not enough evidence to claim anything."""


class Reason(StrEnum):
    """Why a platform has its status, or what has to be known beside it."""

    NOT_RUN = "not_run"
    """Its cell did not run, or was cancelled, or is not finished."""
    ERROR = "error"
    """It could not be found out: a host, the configuration or the farm was at fault."""
    STALE = "stale"
    """The evidence is too old, or of another source."""
    FAILED = "failed"
    ALL_SKIPPED = "all_skipped"
    """Every test was skipped."""
    NO_TESTS = "no_tests"
    """It passed, but nothing was tested."""
    REUSED = "reused"
    """It did not run for this release; an earlier run of the same source speaks for it."""
    FEWER_TESTS = "fewer_tests"
    """Fewer tests ran than in the baseline."""
    WAIVED = "waived"
    PASSED = "passed"
    OTHER_TESTS = "other_tests"
    """As many tests ran as in the baseline, but some of those did not."""
    NO_RESULTS = "no_results"
    """The test script passed, but said nothing of single tests."""
    FLAKY = "flaky"
    """A test, or the cell, passed only after it had failed."""
    EMULATED = "emulated"
    """It was not tried on real hardware."""
    MAY_FAIL = "may_fail"
    """The matrix says that its failure is no failure of the run."""


DECIDING: Final[Mapping[Reason, Status]] = {
    Reason.NOT_RUN: Status.NOT_KNOWN,
    Reason.ERROR: Status.NOT_KNOWN,
    Reason.STALE: Status.NOT_KNOWN,
    Reason.FAILED: Status.NOT_SUPPORTED,
    Reason.ALL_SKIPPED: Status.NOT_KNOWN,
    Reason.NO_TESTS: Status.NOT_KNOWN,
    Reason.REUSED: Status.NOT_KNOWN,
    Reason.FEWER_TESTS: Status.NOT_KNOWN,
    Reason.WAIVED: Status.WAIVED,
    Reason.PASSED: Status.SUPPORTED,
}
"""The first of these that a platform has decides. The others only have to be known."""


class ReasonPart(Part):
    """A reason, and what it is here."""

    kind: Reason
    text: Line


class EvidencePart(Part):
    """What a status rests on."""

    run: Name
    ran: Time
    """When its last attempt ended."""
    source_digest: Line
    verdict: Verdict | None
    hypervisor: Line
    emulated: bool
    host: Line
    image: Line
    image_digest: Line
    tests: int
    """That ran, in the attempt that counts."""
    failed: int
    skipped: int
    waived: int
    """Of its failures, the cell itself included."""
    attempts: int


class PlatformPart(Part):
    """A platform, which is a cell, and what may be claimed of it."""

    id: Name
    values: dict[Name, Value]
    status: Status
    reasons: tuple[ReasonPart, ...]
    """The one that decides first."""
    baseline_tests: int | None
    """That ran in the baseline; null where that has no data."""
    waivers: tuple[int, ...]
    """The ids of those that cover failures here."""
    evidence: EvidencePart | None
    """null where there is none."""
    rerun: str
    """The command that runs it again; empty where the release's run does not have it."""


class StatusCounts(Part):
    """How many platforms have which status."""

    all: int
    supported: int
    supported_with_waivers: int
    not_supported: int
    not_known: int


class Statement(Part):
    """What a release may claim."""

    run: RunSide
    baseline: RunSide | None
    made: Time
    max_age_days: float | None
    headline: str
    """One sentence for a person."""
    counts: StatusCounts
    platforms: tuple[PlatformPart, ...]
    """In the order of the release's plan, then those that only the baseline has."""
    failures: tuple[WaivedFailure, ...]
    """Of the release, those that waivers name."""
    waivers: tuple[WaiverUse, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of all platforms."""
        return tuple(dict.fromkeys(axis for platform in self.platforms for axis in platform.values))


def days(begin: datetime, end: datetime) -> float:
    """How many days lie between two times."""
    return (end - begin).total_seconds() / 86_400
