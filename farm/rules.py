"""The table of verdicts: read from the top, the first row that fits the symptoms decides.

`docs/verdicts.md` shows the same table to people, and a test holds the two against each other. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from farm.errors import (
    ConfigError,
    FullError,
    HostError,
    MatrixError,
    NotFoundError,
    PackageError,
    PlanError,
    SourceError,
    UntrustedError,
)
from farm.model import SCRIPTS, Blame, Ending, Outcome, Phase, Verdict
from farm.text import clean, terminal

_SUMMARY_CHARS = 400
_LINE_CHARS = 2_000


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
    UNWANTED = "nothing to test"


class Console(StrEnum):
    """What the guest's console shows of its end."""

    CRASHED = "crash"
    OFF = "powered off"
    QUIET = "neither"


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
    console: tuple[Console, ...] = ()
    results: tuple[Results, ...] = ()

    def fits(self, seen: Symptoms) -> bool:
        """Whether all conditions hold."""
        return (
            (not self.phases or seen.phase in self.phases)
            and (not self.endings or seen.ending in self.endings)
            and (not self.errors or issubclass(seen.error, self.errors))
            and (not self.console or seen.console in self.console)
            and (not self.results or seen.results in self.results)
        )

    def outcome(self, words: Mapping[str, object], lines: tuple[str, ...] = ()) -> Outcome:
        """The outcome, its summary filled in with `words` and kept to one line."""
        return Outcome(
            verdict=self.decision.verdict,
            blame=self.decision.blame,
            rule=self.rule,
            summary=_one_line(self.summary.format_map(words)),
            lines=tuple(clean(line, limit=_LINE_CHARS) for line in lines),
            retry=self.decision.retry,
        )


@dataclass(frozen=True)
class Symptoms:
    """The evidence in the table's own terms. Where nothing went wrong, `collect` ended well."""

    phase: Phase
    ending: Ending
    error: type
    console: Console
    results: Results


START = (Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.UPLOAD, Phase.TEARDOWN)
"""Teardown is that of a guest that has built for another: the one that tests has not begun then."""
COLLECT = (Phase.COLLECT,)
AROUND_SCRIPTS = (Phase.BOOT, Phase.CONNECT, Phase.UPLOAD, *COLLECT)
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

HOST_FULL = "host-full"
"""The rule of a host that is short of disk or memory."""
CONNECTION_LOST = "connection-lost"
COLLECT_BROKEN = "collect"
GUESTS_CAN = frozenset({CONNECTION_LOST, COLLECT_BROKEN})
"""Rules that blame infrastructure, which is likelier; but a guest that wants to can bring about what they mean."""

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
    Row(HOST_FULL, TRY_AGAIN, _SAID, errors=(FullError,)),
    Row("host", TRY_AGAIN, _SAID, errors=(HostError,)),
    Row("unacceptable", ERROR_OF_TEST, _SAID, phases=SCRIPTS + COLLECT, errors=(UntrustedError,)),
    Row(
        "crash-in-script",
        FAILED_BY_GUEST,
        "{phase}: the guest crashed under the script ({crash})",
        phases=SCRIPTS,
        endings=STOPPED,
        console=(Console.CRASHED,),
    ),
    # Nobody but the guest itself has its kernel say so; whoever kills its machine from outside leaves no word.
    Row(
        "powered-off-in-script",
        FAILED_BY_TEST,
        "{phase}: the guest was powered off or restarted from inside, under the script",
        phases=SCRIPTS,
        endings=STOPPED,
        console=(Console.OFF,),
    ),
    Row(
        "crash",
        ERROR_OF_GUEST,
        "{phase}: the guest crashed ({crash})",
        phases=AROUND_SCRIPTS,
        endings=NOT_OK,
        console=(Console.CRASHED,),
    ),
    Row(
        "powered-off",
        ERROR_OF_GUEST,
        "{phase}: the guest was powered off or restarted from inside",
        phases=AROUND_SCRIPTS,
        endings=NOT_OK,
        console=(Console.OFF,),
    ),
    Row("start", TRY_AGAIN, _SAID, phases=START, endings=NOT_OK),
    Row(
        CONNECTION_LOST,
        TRY_AGAIN,
        _SAID + "; the console shows no crash of the guest's own",
        phases=SCRIPTS,
        endings=(Ending.LOST,),
    ),
    Row("script-timeout", FAILED_BY_TEST, _SAID + "{sign}", phases=SCRIPTS, endings=(Ending.TIMEOUT,)),
    Row(COLLECT_BROKEN, ERROR_OF_INFRA, _SAID, phases=COLLECT, endings=NOT_OK),
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
        "{phase}: the script returned {status}{sign}",
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
    Row(
        "reserved",
        Decision(Verdict.SKIPPED),
        "nothing was to be tested: the guest was for a person",
        phases=COLLECT,
        endings=OK,
        results=(Results.UNWANTED,),
    ),
    Row("passed", Decision(Verdict.PASSED), "{passed}", phases=COLLECT, endings=OK),
    Row("unforeseen", ERROR_OF_FARM, _DEFECT + "no rule fits: {ending}, {error}: {message}"),
)

ATTEMPT_LOST = Row("attempt-lost", TRY_AGAIN, "the attempt was lost: {reason}")
WAITED = Row(
    "waited-too-long",
    ERROR_OF_INFRA,
    "no attempt could be started within {reason}; `timeouts: {{queue: …}}` says how long a cell may wait",
)
SKIPPED = Row("skipped", Decision(Verdict.SKIPPED), "skipped: {reason}")
UNPLACEABLE = Row("unplaceable", ERROR_OF_CONFIG, "{reason}")

INTERRUPTED = Row("interrupted", TRY_AGAIN, "the attempt was interrupted: {reason}")

DEFECT = Row("defect", ERROR_OF_FARM, "a defect of the farm, which cannot go on with the run: {reason}")

FLAKY = Row("flaky", Decision(Verdict.PASSED), "flaky: attempt {number} passed, after {failures}: {reason}")

WITHOUT_EVIDENCE = (ATTEMPT_LOST, INTERRUPTED, WAITED, SKIPPED, UNPLACEABLE, DEFECT, FLAKY)
"""Outcomes of what never came to an end of its own, and of cells that needed several attempts."""


def _one_line(text: str) -> str:
    line = " ".join(terminal(text).split())
    return line if len(line) <= _SUMMARY_CHARS else line[: _SUMMARY_CHARS - 1] + "…"
