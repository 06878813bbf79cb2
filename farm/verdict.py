"""From the evidence of an attempt to its verdict, by the table of `farm.rules`. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

from farm import errors
from farm.errors import AttemptError, ConnectError, DeadlineError, FarmError, LostError
from farm.model import Ending, Evidence, Failure, Outcome, Phase, RunRecord, TestStatus, Verdict
from farm.rules import (
    ATTEMPT_LOST,
    CANCELLED,
    DEFECT,
    FLAKY,
    INTERRUPTED,
    SKIPPED,
    TABLE,
    UNPLACEABLE,
    WAITED,
    Console,
    Results,
    Row,
    Symptoms,
    Unknown,
    Unnamed,
)

_NOT_THE_GUESTS_OWN = frozenset({"disk-error", "read-only", "hung", "no-space"})
"""Rules of `runners.console` that are no proof against the guest: a full or overloaded host or its disk brings them
about as well, and a full disk of the guest's own ends no connection."""

_POWERED_OFF = "powered-off"
"""The rule of `runners.console` of a guest that ended in an orderly way."""

_TRACEBACK_LINES = 12

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

_UNTESTED = Failure(phase=Phase.TEST, ending=Ending.OK, message="nothing went wrong, and yet its test was not begun")


def classify(evidence: Evidence) -> Outcome:
    """The outcome of an attempt: that of the first row that fits. How the guest that tested ends changes nothing."""
    failure = evidence.failure
    if failure and failure.phase is Phase.TEARDOWN and not failure.builder:
        failure = None
    if failure is None and not (evidence.tested or evidence.reserved):
        failure = _UNTESTED
    seen = _symptoms(failure, evidence)
    row = next(row for row in TABLE if row.fits(seen))
    words = _words(failure, seen, evidence)
    return row.outcome(words, () if row.decision.verdict is Verdict.PASSED else _lines(row, failure, evidence, words))


def lost_attempt(reason: str) -> Outcome:
    """Of an attempt whose worker died, or was not heard of for the length of its lease."""
    return _because(ATTEMPT_LOST, reason)


def waited_too_long(seconds: float) -> Outcome:
    """Of a cell that could not be started for longer than it may wait."""
    return _because(WAITED, f"{seconds:g} s")


def interrupted(reason: str) -> Outcome:
    """Of an attempt that ended with the program that looked after it. It is tried again, and counts as no try."""
    return _because(INTERRUPTED, reason)


def flaky(failures: Sequence[Outcome], number: int) -> Outcome:
    """Of a cell that passed at an attempt of this number, after one or more that had failed: the last is shown."""
    last = failures[-1]
    words = {"number": number, "reason": last.summary, "failures": "a failure"}
    if len(failures) > 1:
        words["failures"] = f"{len(failures)} failures"
    return FLAKY.outcome(words, last.lines).model_copy(update={"flaky": True})


def after_hold(evidence: Evidence, otherwise: Outcome) -> Outcome:
    """Of an attempt that was ended while its guest was kept: what was known before that began.

    Where the guest was reserved, nothing was to be known, so that it is `otherwise`. In neither case is it tried
    again: the person for whom the guest was kept has lost it.
    """
    known = otherwise if evidence.reserved else classify(evidence)
    return known.model_copy(update={"retry": False})


def cancelled(reason: str) -> Outcome:
    """Of a cell that was told to stop, or not to start."""
    return _because(CANCELLED, reason)


def defect(error: BaseException) -> Outcome:
    """Of a cell of a run with which the farm cannot go on, for a reason that nobody has foreseen."""
    lines = "".join(traceback.format_exception(error)).splitlines()[-_TRACEBACK_LINES:]
    return DEFECT.outcome({"reason": f"{type(error).__name__}: {error}"}, tuple(lines))


def skipped(reason: str) -> Outcome:
    """Of a cell that was left out on purpose."""
    return _because(SKIPPED, reason)


def unplaceable(problem: str) -> Outcome:
    """Of a cell that fits on no host."""
    return _because(UNPLACEABLE, problem)


def _because(row: Row, reason: str) -> Outcome:
    """What a row says where nothing but a reason is known: that is what it rests on."""
    return row.outcome({"reason": reason}, (reason,) if reason else ())


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
        return Symptoms(Phase.COLLECT, Ending.OK, Unnamed, Console.QUIET, results)
    error = _KNOWN.get(failure.error, Unknown) if failure.error else Unnamed
    if failure.ending is Ending.OK:  # a contradiction, which must not be taken for a pass
        error = Unknown
    ending = _ENDINGS.get(error, Ending.FAILED) if failure.ending is Ending.FAILED else failure.ending
    return Symptoms(failure.phase, ending, error, _console(failure.crash), results)


def _console(rule: str) -> Console:
    if rule == _POWERED_OFF:
        return Console.OFF
    return Console.CRASHED if rule and rule not in _NOT_THE_GUESTS_OWN else Console.QUIET


def _results(evidence: Evidence) -> Results:
    total = sum(evidence.tests.values())
    signs = (
        (Results.UNWANTED, evidence.reserved),
        (Results.FAILED, _failed(evidence) > 0),
        (Results.BROKEN, bool(evidence.junit_problem)),
        (Results.MISSING, evidence.junit_promised and not evidence.junit_files),
        (Results.EMPTY, evidence.junit_promised and not total),
        (Results.SKIPPED, 0 < total == evidence.tests.get(TestStatus.SKIPPED, 0)),
        (Results.GOOD, total > 0),
    )
    return next((result for result, holds in signs if holds), Results.NONE)


def _lines(row: Row, failure: Failure | None, evidence: Evidence, words: Mapping[str, object]) -> tuple[str, ...]:
    """What a decision rests on, never nothing: the tests that failed, else what was said, else what was counted."""
    counted = f"{words['total']} tests in {evidence.junit_files} results files, {_failed(evidence)} of them failed"
    if Results.FAILED in row.results:
        return evidence.failed_tests or (counted,)
    if failure is None:
        return (evidence.junit_problem or counted,)
    if failure.lines:
        return failure.lines
    if failure.error or failure.message:
        return (f"{failure.error}: {words['message']}" if failure.error else failure.message,)
    return (f"{words['phase']}: exit status {words['status']}, {words['ending']}",)


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
        "sign": f" (the guest's console: {failure.crash})" if failure and failure.crash else "",
        "total": total,
        "failed": f"{failed} of {total} tests failed" + (f": {names}" if evidence.failed_tests else ""),
        "passed": f"{total} tests, none failed" if total else "every script returned 0",
        "problem": evidence.junit_problem,
    }


_DEFAULT_MESSAGES = {Ending.TIMEOUT: "not done in time", Ending.LOST: "the connection was lost"}
