"""What became of the attempts at a cell, and what its verdict rests on, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from farm import rules
from farm.lifecycle import may_retry
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
    outcomes: list[Outcome] = []
    for attempt in record.attempts:
        outcome = attempt.outcome
        outcomes += [outcome] if outcome else []
        ended = record.outcome if attempt is record.last else None
        yield AttemptLine(
            number=attempt.key.number,
            host=attempt.host or (attempt.facts.host if attempt.facts else ""),
            verdict=outcome.verdict if outcome else None,
            blame=outcome.blame if outcome else None,
            rule=outcome.rule if outcome else "",
            summary=outcome.summary if outcome else "it goes on",
            next=_next(outcomes, submission, ended) if outcome else "",
        )


def _next(outcomes: Sequence[Outcome], submission: Submission, ended: Outcome | None) -> str:
    """Why there was another attempt after these, or (`ended` is what the cell came to with them) why not."""
    outcome, retries = outcomes[-1], submission.plan.matrix.retries
    if not (outcome.retry or outcome.verdict is Verdict.FAILED):
        return "final: what it came to is not tried again"
    if ended and may_retry(outcomes, infra=retries.infra, test=retries.test):
        return f"not tried again: {_reason(ended, outcome)}"
    word = "not tried again" if ended else "tried again"
    if outcome.verdict is Verdict.FAILED:
        return f"{word}: it failed, and retries: test is {retries.test}"
    if outcome.rule == rules.INTERRUPTED.rule:
        why = ended.summary if ended else "it ended with the farm, which counts as no try"
        return f"{word}: {why}"
    if outcome.rule == rules.HOST_FULL and not ended:
        return f"{word}: a full host says nothing of the cell"
    return f"{word}: infrastructure was at fault, and retries: infra is {retries.infra}"


def _reason(ended: Outcome, last: Outcome) -> str:
    """What has kept a cell from a retry that it had left."""
    return "it was told to stop, or its run was ended, before that" if ended == last else ended.summary
