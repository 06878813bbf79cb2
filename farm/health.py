"""When a host takes no new work because of what its attempts came to, and when it is tested. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from datetime import timedelta
from typing import NamedTuple

from farm import rules
from farm.model import AttemptKey, Blame, Mark, Outcome, Verdict

FAILURES = 3
"""So many in a row, and a host takes no more work."""
FIRST_TEST_S = 60.0
"""How long after that it is tested for the first time; twice as long after each test that it does not pass."""
LONGEST_WAIT_S = 3600.0
_TOLD_NOTHING = frozenset({rules.INTERRUPTED.rule}) | rules.GUESTS_CAN
"""Rules that say nothing of a host: no guest may have one taken out."""


class Judgement(NamedTuple):
    """A host is to take no new work."""

    mark: Mark
    reason: str


class Health:
    """What the last attempts on each host came to. Forgotten with the process: the marks are in the store."""

    def __init__(self, failures: int = FAILURES) -> None:
        self._failures = failures
        self._spoilt: dict[str, deque[AttemptKey]] = defaultdict(lambda: deque(maxlen=failures))
        """Attempts in a row that infrastructure has ended."""

    def take(self, host: str, key: AttemptKey, outcome: Outcome) -> Judgement | None:
        """An attempt has ended on a host; a judgement where that is enough.

        Failures of one cell alone are no proof against a host: it may be the cell that fails everywhere.
        """
        if outcome.rule == rules.HOST_FULL:
            return Judgement(Mark.FULL, outcome.summary)
        if outcome.rule in _TOLD_NOTHING or outcome.verdict is Verdict.CANCELLED:
            return None
        spoilt = self._spoilt[host]
        if outcome.blame is not Blame.INFRA:
            spoilt.clear()
            return None
        spoilt.append(key)
        if len(spoilt) < self._failures or len({(one.run, one.cell) for one in spoilt}) == 1:
            return None
        spoilt.clear()
        return Judgement(Mark.FAILED, f"{self._failures} attempts in a row failed there, the last: {outcome.summary}")


def next_test(tries: int) -> timedelta:
    """How long after a host was taken out, or has not passed its last test, it is tested; `tries` were in vain."""
    return timedelta(seconds=min(LONGEST_WAIT_S, FIRST_TEST_S * 2 ** min(tries, 30)))
