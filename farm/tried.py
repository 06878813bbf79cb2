"""What became of the attempts at a cell, and what its verdict rests on, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from farm import rules
from farm.model import AttemptRecord, Blame, CellRecord, Outcome, Submission, Verdict
from farm.report.parts import Line, Part
from farm.report.words import duration


class AttemptLine(Part):
    """An attempt, and why there was another or none."""

    number: int
    host: Line
    verdict: Verdict | None
    blame: Blame | None
    rule: Line
    summary: Line
    next: Line
    """Why the cell was tried again, or not; empty while the attempt goes on."""


def under_way(attempt: AttemptRecord, now: datetime) -> str:
    """What an attempt is at."""
    phase = next((one.phase for one in attempt.phases if one.ending is None), None)
    where = f" on {attempt.host}" if attempt.host else ""
    since = duration((now - attempt.created).total_seconds())
    doing = f", in {phase}" if phase else ", and waits for a worker" if not attempt.phases else ""
    return f"It is under way: attempt {attempt.key.number}{where} began {since} ago{doing}."


def verdict_words(outcome: Outcome) -> str:
    """What a cell came to."""
    word = "flaky" if outcome.flaky else outcome.verdict.value
    blame = f", blame: {outcome.blame}" if outcome.blame else ""
    return f"It is {word}{blame}: {outcome.summary or 'nothing more is known'}"


def rests_on(outcome: Outcome, record: CellRecord) -> Iterator[str]:
    """Which rule decided that, and by which of its conditions."""
    rows = {row.rule: row for row in (*rules.TABLE, *rules.WITHOUT_EVIDENCE)}
    if row := rows.get(outcome.rule):
        conditions = [
            ("in " + " or ".join(phase.value for phase in row.phases)) if row.phases else "",
            ("it ended as " + " or ".join(ending.value for ending in row.endings)) if row.endings else "",
            ("the error was " + " or ".join(_error(cls) for cls in row.errors)) if row.errors else "",
            ("the console shows: " + " or ".join(row.console)) if row.console else "",
            ("of the results: " + " or ".join(row.results)) if row.results else "",
        ]
        what = "; ".join(filter(None, conditions)) or "whatever no other rule decides"
        yield f"the rule {outcome.rule} decided (docs/verdicts.md): {what}"
    if outcome.verdict is Verdict.CANCELLED and not record.attempts:
        yield "no attempt was made"


def _error(kind: type) -> str:
    names: dict[object, str] = {
        rules.Unnamed: "none that has a name: the exit status speaks",
        rules.Unknown: "none of the farm's own",
    }
    return names.get(kind, kind.__name__)


def attempts_of(record: CellRecord, submission: Submission) -> Iterator[AttemptLine]:
    """The attempts at a cell, the first one first."""
    for attempt in record.attempts:
        outcome, final = attempt.outcome, attempt is record.last
        yield AttemptLine(
            number=attempt.key.number,
            host=attempt.host or (attempt.facts.host if attempt.facts else ""),
            verdict=outcome.verdict if outcome else None,
            blame=outcome.blame if outcome else None,
            rule=outcome.rule if outcome else "",
            summary=outcome.summary if outcome else "it goes on",
            next=_next(outcome, submission, final=final, ended=record.outcome is not None) if outcome else "",
        )


def _next(outcome: Outcome, submission: Submission, *, final: bool, ended: bool) -> str:
    retries = submission.plan.matrix.retries
    again = not final or not ended
    if outcome.rule == rules.INTERRUPTED.rule and again:
        return "tried again: it ended with the farm, which counts as no try"
    if outcome.rule == rules.HOST_FULL and again:
        return "tried again: a full host says nothing of the cell"
    if outcome.retry:
        return _retried("infrastructure was at fault", "infra", retries.infra, again=again)
    if outcome.verdict is Verdict.FAILED:
        return _retried("it failed", "test", retries.test, again=again)
    return "final: what it came to is not tried again"


def _retried(cause: str, key: str, most: int, *, again: bool) -> str:
    word = "tried again" if again else "not tried again"
    return f"{word}: {cause}, and retries: {key} is {most}"
