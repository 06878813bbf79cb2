"""From the evidence of an attempt to its verdict: one table, read from the top, the first row that fits decides.

`docs/verdicts.md` shows the same table to people, and a test holds the two against each other. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from farm import errors
from farm.errors import (
    AttemptError,
    ConfigError,
    ConnectError,
    DeadlineError,
    FarmError,
    FullError,
    HostError,
    LostError,
    MatrixError,
    NotFoundError,
    PackageError,
    PlanError,
    SourceError,
    UntrustedError,
)
from farm.model import SCRIPTS, Blame, Ending, Evidence, Failure, Outcome, Phase, RunRecord, TestStatus, Verdict


class Unnamed:
    """In the place of an error's class: none was named, a script's exit status speaks."""


class Unknown:
    """In the place of an error's class: what was named is none of the farm's errors."""


class Results(StrEnum):
    """What the test results say by themselves; the gravest first."""

    FAILED = "a test failed"
    BROKEN = "a file is broken"
    MISSING = "promised, no file"
    EMPTY = "promised, no test"
    SKIPPED = "every test skipped"
    GOOD = "no test failed"
    NONE = "none promised"


@dataclass(frozen=True)
class Decision:
    """What a row decides."""

    verdict: Verdict
    blame: Blame | None = None
    retry: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: where all its conditions hold (an empty one always does), its decision stands."""

    rule: str
    decision: Decision
    summary: str
    """For a person; may mention what `_words` gives."""
    phases: tuple[Phase, ...] = ()
    endings: tuple[Ending, ...] = ()
    errors: tuple[type, ...] = ()
    """Classes of `farm.errors`, each with the ones below it."""
    crashed: bool = False
    """True: the console shows a crash of the guest's own."""
    results: tuple[Results, ...] = ()

    def fits(self, seen: Symptoms) -> bool:
        """Whether all conditions hold."""
        return (
            (not self.phases or seen.phase in self.phases)
            and (not self.endings or seen.ending in self.endings)
            and (not self.errors or issubclass(seen.error, self.errors))
            and (not self.crashed or seen.crashed)
            and (not self.results or seen.results in self.results)
        )

    def outcome(self, words: Mapping[str, object], lines: tuple[str, ...] = ()) -> Outcome:
        """The outcome, its summary filled in with `words` and kept to one line."""
        return Outcome(
            verdict=self.decision.verdict,
            blame=self.decision.blame,
            rule=self.rule,
            summary=_one_line(self.summary.format_map(words)),
            lines=lines,
            retry=self.decision.retry,
        )


@dataclass(frozen=True)
class Symptoms:
    """The evidence in the table's own terms. Where nothing went wrong, `collect` ended well."""

    phase: Phase
    ending: Ending
    error: type
    crashed: bool
    results: Results


START = (Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.UPLOAD)
COLLECT = (Phase.COLLECT,)
OK = (Ending.OK,)
FAILED = (Ending.FAILED,)
STOPPED = (Ending.TIMEOUT, Ending.LOST)
NOT_OK = (*FAILED, *STOPPED)
NOT_TO_BE_HAD = (PackageError, ConfigError, SourceError, MatrixError, PlanError, NotFoundError)

FAILED_BY_TEST = Decision(Verdict.FAILED, Blame.TEST)
FAILED_BY_GUEST = Decision(Verdict.FAILED, Blame.GUEST)
ERROR_OF_TEST = Decision(Verdict.ERROR, Blame.TEST)
ERROR_OF_GUEST = Decision(Verdict.ERROR, Blame.GUEST)
ERROR_OF_CONFIG = Decision(Verdict.ERROR, Blame.CONFIG)
ERROR_OF_FARM = Decision(Verdict.ERROR, Blame.FARM)
ERROR_OF_INFRA = Decision(Verdict.ERROR, Blame.INFRA)
TRY_AGAIN = Decision(Verdict.ERROR, Blame.INFRA, retry=True)

_SAID = "{phase}: {message}"
_DEFECT = "{phase}: a defect of the farm: "

CANCELLED = Row("cancelled", Decision(Verdict.CANCELLED), "cancelled: {reason}", endings=(Ending.CANCELLED,))

TABLE: tuple[Row, ...] = (
    CANCELLED,
    # A failed test stays failed whatever collecting came to afterwards. Were it an error of the host
    # instead, the cell would be tried again, and a pass could paint over the failure.
    Row(
        "tests-failed-status-0",
        FAILED_BY_TEST,
        "{failed}, although the script returned 0",
        phases=COLLECT,
        results=(Results.FAILED,),
    ),
    Row("unknown-error", ERROR_OF_FARM, _DEFECT + "{error}: {message}", errors=(Unknown,)),
    Row(
        "no-error-named",
        ERROR_OF_FARM,
        _DEFECT + "it failed without naming an error: {message}",
        phases=START + COLLECT,
        endings=FAILED,
        errors=(Unnamed,),
    ),
    Row("not-to-be-had", ERROR_OF_CONFIG, _SAID, errors=NOT_TO_BE_HAD),
    Row("host-full", TRY_AGAIN, _SAID, errors=(FullError,)),
    Row("host", TRY_AGAIN, _SAID, errors=(HostError,)),
    Row("unacceptable", ERROR_OF_TEST, _SAID, phases=SCRIPTS + COLLECT, errors=(UntrustedError,)),
    Row(
        "crash-in-script",
        FAILED_BY_GUEST,
        "{phase}: the guest crashed under the script ({crash})",
        phases=SCRIPTS,
        endings=STOPPED,
        crashed=True,
    ),
    Row(
        "crash",
        ERROR_OF_GUEST,
        "{phase}: the guest crashed ({crash})",
        phases=(Phase.BOOT, Phase.CONNECT, Phase.UPLOAD, Phase.COLLECT),
        endings=NOT_OK,
        crashed=True,
    ),
    Row("start", TRY_AGAIN, _SAID, phases=START, endings=NOT_OK),
    Row(
        "connection-lost",
        TRY_AGAIN,
        _SAID + "; the console shows no crash of the guest's own",
        phases=SCRIPTS,
        endings=(Ending.LOST,),
    ),
    Row("script-timeout", FAILED_BY_TEST, _SAID, phases=SCRIPTS, endings=(Ending.TIMEOUT,)),
    Row("collect", ERROR_OF_INFRA, _SAID, phases=COLLECT, endings=NOT_OK),
    Row(
        "tests-failed",
        FAILED_BY_TEST,
        "{failed}",
        phases=(Phase.TEST,),
        endings=FAILED,
        errors=(Unnamed,),
        results=(Results.FAILED,),
    ),
    Row(
        "status-against-tests",
        FAILED_BY_TEST,
        "{phase}: the script returned {status}, although none of {total} tests failed",
        phases=(Phase.TEST,),
        endings=FAILED,
        errors=(Unnamed,),
        results=(Results.GOOD,),
    ),
    Row(
        "script-failed",
        FAILED_BY_TEST,
        "{phase}: the script returned {status}",
        phases=SCRIPTS,
        endings=FAILED,
        errors=(Unnamed,),
    ),
    Row(
        "results-broken",
        ERROR_OF_TEST,
        "a results file is broken: {problem}",
        phases=COLLECT,
        endings=OK,
        results=(Results.BROKEN,),
    ),
    Row(
        "results-missing",
        ERROR_OF_TEST,
        "the script returned 0, but the test results that it promised are not there",
        phases=COLLECT,
        endings=OK,
        results=(Results.MISSING,),
    ),
    Row(
        "results-empty",
        ERROR_OF_TEST,
        "the script returned 0, but the test results that it promised hold no test",
        phases=COLLECT,
        endings=OK,
        results=(Results.EMPTY,),
    ),
    Row(
        "all-skipped",
        Decision(Verdict.SKIPPED),
        "every one of {total} tests was skipped",
        phases=COLLECT,
        endings=OK,
        results=(Results.SKIPPED,),
    ),
    Row("passed", Decision(Verdict.PASSED), "{passed}", phases=COLLECT, endings=OK),
    Row("unforeseen", ERROR_OF_FARM, _DEFECT + "no rule fits: {ending}, {error}: {message}"),
)

ATTEMPT_LOST = Row("attempt-lost", TRY_AGAIN, "the attempt was lost: {reason}")
SKIPPED = Row("skipped", Decision(Verdict.SKIPPED), "skipped: {reason}")
UNPLACEABLE = Row("unplaceable", ERROR_OF_CONFIG, "{reason}")

WITHOUT_EVIDENCE = (ATTEMPT_LOST, SKIPPED, UNPLACEABLE)
"""Outcomes of what never came to an end of its own."""

_NOT_THE_GUESTS_OWN = frozenset({"disk-error", "hung"})
"""Rules of `runners.console` that an overloaded host or its disk brings about as well: no proof against the guest."""

_KNOWN: Mapping[str, type[FarmError]] = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type)
    and issubclass(cls, FarmError)
    and not issubclass(cls, AttemptError)
    and cls is not FarmError
}

_ENDINGS: Mapping[type, Ending] = {DeadlineError: Ending.TIMEOUT, LostError: Ending.LOST, ConnectError: Ending.LOST}
"""What these errors say more exactly than "failed"."""

_SUMMARY_CHARS = 400


def classify(evidence: Evidence) -> Outcome:
    """The outcome of an attempt: that of the first row that fits. Teardown never changes it."""
    failure = evidence.failure
    if failure and failure.phase is Phase.TEARDOWN:
        failure = None
    seen = _symptoms(failure, evidence)
    row = next(row for row in TABLE if row.fits(seen))
    lines = failure.lines if failure and failure.lines else evidence.failed_tests
    return row.outcome(_words(failure, seen, evidence), lines)


def lost_attempt(reason: str) -> Outcome:
    """Of an attempt whose worker died, or was not heard of for the length of its lease."""
    return ATTEMPT_LOST.outcome({"reason": reason})


def cancelled(reason: str) -> Outcome:
    """Of a cell that was told to stop, or not to start."""
    return CANCELLED.outcome({"reason": reason})


def skipped(reason: str) -> Outcome:
    """Of a cell that was left out on purpose."""
    return SKIPPED.outcome({"reason": reason})


def unplaceable(problem: str) -> Outcome:
    """Of a cell that fits on no host."""
    return UNPLACEABLE.outcome({"reason": problem})


def exit_code(run: RunRecord) -> int:
    """The exit status of the program that waited for a run.

    130 cancelled; else, over the cells that may not fail: 1 where one failed, 2 where one is an error
    or has no outcome; then 3 where no cell at all ran (each was skipped or cancelled), else 0.
    Failed comes before error: it is a finding about the program under test, which is what the run was
    for, and stays one however often the rest is repeated; an error only says that there is more to find.
    """
    if run.cancelled:
        return 130
    counted = {_verdict_of(cell.outcome) for cell in run.cells if not cell.placement.cell.may_fail}
    every = {_verdict_of(cell.outcome) for cell in run.cells}
    codes = (
        (1, Verdict.FAILED in counted),
        (2, Verdict.ERROR in counted),
        (3, every <= {Verdict.SKIPPED, Verdict.CANCELLED}),
    )
    return next((code for code, holds in codes if holds), 0)


def _verdict_of(outcome: Outcome | None) -> Verdict:
    return outcome.verdict if outcome else Verdict.ERROR


def _symptoms(failure: Failure | None, evidence: Evidence) -> Symptoms:
    results = _results(evidence)
    if failure is None:
        return Symptoms(Phase.COLLECT, Ending.OK, Unnamed, crashed=False, results=results)
    error = _KNOWN.get(failure.error, Unknown) if failure.error else Unnamed
    ending = _ENDINGS.get(error, Ending.FAILED) if failure.ending is Ending.FAILED else failure.ending
    crashed = bool(failure.crash) and failure.crash not in _NOT_THE_GUESTS_OWN
    return Symptoms(failure.phase, ending, error, crashed, results)


def _results(evidence: Evidence) -> Results:
    total = sum(evidence.tests.values())
    signs = (
        (Results.FAILED, _failed(evidence) > 0),
        (Results.BROKEN, bool(evidence.junit_problem)),
        (Results.MISSING, evidence.junit_promised and not evidence.junit_files),
        (Results.EMPTY, evidence.junit_promised and not total),
        (Results.SKIPPED, 0 < total == evidence.tests.get(TestStatus.SKIPPED, 0)),
        (Results.GOOD, total > 0),
    )
    return next((result for result, holds in signs if holds), Results.NONE)


def _failed(evidence: Evidence) -> int:
    return evidence.tests.get(TestStatus.FAILED, 0) + evidence.tests.get(TestStatus.ERROR, 0)


def _words(failure: Failure | None, seen: Symptoms, evidence: Evidence) -> dict[str, object]:
    """What the summaries may mention."""
    failed, total = _failed(evidence), sum(evidence.tests.values())
    names = ", ".join(evidence.failed_tests[:3]) + (", …" if failed > len(evidence.failed_tests[:3]) else "")
    message = failure.message if failure else ""
    status = failure.exit_status if failure else None
    return {
        "phase": failure.place if failure else seen.phase,
        "ending": seen.ending,
        "error": (failure.error if failure else "") or "no error",
        "message": message or _DEFAULT_MESSAGES.get(seen.ending, "no reason was given"),
        "reason": f"in {seen.phase}",
        "status": "no status" if status is None else status,
        "crash": failure.crash if failure else "",
        "total": total,
        "failed": f"{failed} of {total} tests failed" + (f": {names}" if evidence.failed_tests else ""),
        "passed": f"{total} tests, none failed" if total else "every script returned 0",
        "problem": evidence.junit_problem,
    }


_DEFAULT_MESSAGES = {Ending.TIMEOUT: "not done in time", Ending.LOST: "the connection was lost"}


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SUMMARY_CHARS else line[: _SUMMARY_CHARS - 1] + "…"
