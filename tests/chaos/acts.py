"""What the cells of the chaos do.

What an attempt comes to is a function of its cell and its number: what is broken beside it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from farm.model import Blame, CellRecord, Outcome, Verdict


class Act(NamedTuple):
    """A script, and what it comes to where nothing is broken."""

    script: str
    verdict: Verdict
    blame: Blame | None = None
    passes_from: int = 1
    """The number of the first attempt that comes to that; those before it fail."""


ACTS: Mapping[str, Act] = MappingProxyType(
    {
        "passes": Act("echo begins\nsleep 1\necho ends", Verdict.PASSED),
        "passes-at-once": Act("echo well", Verdict.PASSED),
        "passes-late": Act("sleep 3\necho well\nsleep 1", Verdict.PASSED),
        "fails": Act("sleep 1\necho broken >&2\nexit 3", Verdict.FAILED, Blame.TEST),
        "fails-at-once": Act("exit 1", Verdict.FAILED, Blame.TEST),
        "crashes": Act("sleep 1\necho c > /proc/sysrq-trigger\nsleep 60", Verdict.FAILED, Blame.GUEST),
        "fails-then-passes": Act('sleep 1\ntest "$FARM_ATTEMPT" != 1\necho well', Verdict.PASSED, passes_from=2),
    }
)
SOURCE: Mapping[str, bytes] = MappingProxyType({name: f"{act.script}\n".encode() for name, act in ACTS.items()})
"""A file for each."""


def matrix(hypervisor: str, copies: int) -> str:
    """A matrix with so many cells of each act."""
    return f"""\
name: chaos
axes:
  image: [debian-13]
  arch: [amd64]
  hypervisor: [{hypervisor}]
  act: [{", ".join(ACTS)}]
  copy: [{", ".join(f"c{number}" for number in range(copies))}]
guest: {{memory: 256M}}
retries: {{infra: 8, test: 1}}
timeouts: {{test: 120s}}
test: . "./$ACT"
"""


def expected(cell: str) -> Act:
    """What a cell comes to, by its id."""
    return ACTS[next(part for part in reversed(cell.replace("=", "/").split("/")) if part in ACTS)]


def untruths(cell: CellRecord) -> Iterator[str]:
    """What of a cell with a verdict is not what its script has really done, or what that adds up to."""
    act, seen = expected(cell.id), [attempt.outcome for attempt in cell.attempts if attempt.outcome]
    for attempt in cell.attempts:
        if attempt.outcome and not _is_true(act, attempt.key.number, attempt.outcome):
            yield f"attempt {attempt.key.number} came to {_words(attempt.outcome)}"
    last = cell.outcome
    if last and (last.verdict, last.blame, last.flaky) != _added_up(seen):
        yield f"after {', '.join(map(_words, seen)) or 'no attempt'} it came to {_words(last)}"


def _is_true(act: Act, number: int, outcome: Outcome) -> bool:
    """Whether an attempt has said what the script does, or that the infrastructure kept it from that."""
    spoilt = outcome.verdict is Verdict.ERROR and outcome.blame is Blame.INFRA
    does = (act.verdict, act.blame) if number >= act.passes_from else (Verdict.FAILED, Blame.TEST)
    return spoilt or (outcome.verdict, outcome.blame) == does


def _added_up(seen: Sequence[Outcome]) -> tuple[Verdict, Blame | None, bool]:
    """Verdict and blame of a cell after these attempts, and whether it is flaky."""
    failures = [one for one in seen if one.verdict is Verdict.FAILED]
    if any(one.verdict is Verdict.PASSED for one in seen):
        return Verdict.PASSED, None, bool(failures)
    return (Verdict.FAILED, failures[-1].blame, False) if failures else (Verdict.ERROR, Blame.INFRA, False)


def _words(outcome: Outcome) -> str:
    flaky = " (flaky)" if outcome.flaky else ""
    return f"{outcome.verdict}{flaky}, {outcome.blame}: {outcome.summary}"
