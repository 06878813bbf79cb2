"""Which hosts are taken out, by what their attempts came to."""

from __future__ import annotations

from datetime import timedelta

import pytest

from farm import rules, verdict
from farm.health import Health, next_test
from farm.model import AttemptKey, Blame, Ending, Mark, Outcome, Phase, Verdict
from tests.unit.test_verdict import after, failing

INFRA = verdict.lost_attempt("its worker died")
FULL = Outcome(verdict=Verdict.ERROR, blame=Blame.INFRA, rule=rules.HOST_FULL, summary="no space left", retry=True)
PASSED = Outcome(verdict=Verdict.PASSED)
FAILED = Outcome(verdict=Verdict.FAILED, blame=Blame.TEST)
AWAY = verdict.interrupted("the farm was stopped")
GONE = verdict.classify(after(failing(Phase.TEST, Ending.LOST, "LostError")))
UNREAD = verdict.classify(after(failing(Phase.COLLECT, Ending.LOST, "LostError")))
CANCELLED = verdict.cancelled("the run was cancelled")


def judged(*ended: tuple[str, Outcome], host: str = "a") -> list[Mark | None]:
    health = Health()
    found = [health.take(host, AttemptKey(run="r", cell=cell, number=1), outcome) for cell, outcome in ended]
    return [one.mark if one else None for one in found]


def test_three_failures_in_a_row_take_a_host_out() -> None:
    assert judged(("x", INFRA), ("y", INFRA), ("z", INFRA)) == [None, None, Mark.FAILED]


@pytest.mark.parametrize("between", [PASSED, FAILED])
def test_anything_that_infra_did_not_spoil_ends_the_row(between: Outcome) -> None:
    assert judged(("x", INFRA), ("y", INFRA), ("z", between), ("x", INFRA), ("y", INFRA)) == [None] * 5


@pytest.mark.parametrize("between", [AWAY, CANCELLED, GONE, UNREAD])
def test_what_says_nothing_of_the_host_is_passed_over(between: Outcome) -> None:
    assert judged(("x", INFRA), ("y", INFRA), ("z", between), ("z", INFRA))[-1] is Mark.FAILED


def test_a_cell_that_fails_by_itself_takes_no_host_out() -> None:
    assert judged(*[("x", INFRA)] * 5) == [None] * 5
    assert judged(*[("x", INFRA)] * 5, ("y", INFRA))[-1] is Mark.FAILED


@pytest.mark.parametrize("outcome", [GONE, UNREAD], ids=lambda outcome: outcome.rule)
def test_guests_that_end_their_own_connections_take_no_host_out(outcome: Outcome) -> None:
    assert outcome.blame is Blame.INFRA
    assert judged(*[(cell, outcome) for cell in "uvwxyz"]) == [None] * 6


def test_what_guests_can_bring_about_are_rules_of_the_table() -> None:
    assert {row.rule for row in rules.TABLE} > rules.GUESTS_CAN


def test_hosts_are_judged_each_by_its_own() -> None:
    health = Health()
    found = [health.take(host, AttemptKey(run="r", cell=host, number=1), INFRA) for host in "abcabc"]
    assert found == [None] * 6


def test_a_full_host_is_taken_out_at_once_and_the_reason_is_what_it_said() -> None:
    found = Health().take("a", AttemptKey(run="r", cell="x", number=1), FULL)
    assert found == (Mark.FULL, "no space left")


def test_after_a_judgement_counting_begins_anew() -> None:
    assert judged(*[(cell, INFRA) for cell in "uvwxyz"]) == [None, None, Mark.FAILED] * 2


def test_each_test_waits_twice_as_long_as_the_one_before() -> None:
    assert [next_test(tries) / timedelta(minutes=1) for tries in (0, 1, 2, 6, 99)] == [1, 2, 4, 60, 60]
