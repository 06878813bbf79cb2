"""What a run comes to that nobody goes on with: no failure that was seen is forgotten, and no pass is made up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from farm import verdict
from farm.abandoning import abandon
from farm.model import AttemptKey, Blame, Ending, Evidence, Failure, Held, Outcome, Phase, State, Verdict
from farm.store import Store
from farm.store.leases import LASTS
from farm.tenure import finish_lost_runs
from tests.unit.rehearsal import now
from tests.unit.test_store import FAILED, PASSED, submission

INFRA = verdict.lost_attempt("its worker died")
LOST = verdict.lost_attempt("its program was killed")
UNDER_WAY = None
AGES_AGO = 2 * LASTS
CASES: dict[str, tuple[list[Outcome | None], Outcome]] = {
    "nothing was tried": ([], LOST),
    "what was under way is lost": ([UNDER_WAY], LOST),
    "a pass that was not concluded yet": ([PASSED], PASSED),
    "a failure whose retry had not begun": ([FAILED], FAILED),
    "a failure whose retry was under way": ([FAILED, UNDER_WAY], FAILED),
    "a failure whose retry was spoilt": ([FAILED, INFRA], FAILED),
    "a failure and a pass": ([FAILED, PASSED], verdict.flaky((FAILED,), 2)),
    "an error whose retry had not begun": ([INFRA], INFRA),
}


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


def tried(store: Store, outcomes: list[Outcome | None]) -> str:
    """A run of somebody elsewhere, of whom nothing has been heard for long, with an attempt for each outcome."""
    made = submission("a", retries={"infra": 1, "test": 1})
    run = store.create_run(made, now=now() - AGES_AGO, owner="of another machine").id
    for number, outcome in enumerate(outcomes, 1):
        key = AttemptKey(run=run, cell="a", number=number)
        store.start_attempt(key, now=now())
        if outcome:
            store.finish_attempt(key, outcome, now=now())
    return run


@pytest.mark.parametrize(("outcomes", "expected"), CASES.values(), ids=CASES.keys())
def test_a_run_that_is_abandoned_comes_to_what_its_attempts_say(
    store: Store, outcomes: list[Outcome | None], expected: Outcome
) -> None:
    run = tried(store, outcomes)
    abandon(store, run, LOST)
    (cell,) = store.run(run).cells
    assert cell.outcome == expected
    assert [one.outcome for one in cell.attempts] == [outcome or LOST for outcome in outcomes]


@pytest.mark.parametrize(
    ("last", "flaky", "code"), [(PASSED, True, 0), (UNDER_WAY, False, 1)], ids=["passed", "under way"]
)
def test_a_run_whose_program_was_killed_remembers_the_failure(
    store: Store, last: Outcome | None, flaky: bool, code: int
) -> None:
    run = tried(store, [FAILED, last])
    assert finish_lost_runs(store) == (run,)
    record = store.run(run)
    assert (record.state, record.cancelled) == (State.FINISHED, False)
    assert [cell.outcome and cell.outcome.flaky for cell in record.cells] == [flaky]
    assert store.runs()[0].exit_code == code


def test_a_verdict_that_was_known_before_its_guest_was_kept_stays(store: Store) -> None:
    run = tried(store, [UNDER_WAY])
    failed = Evidence(failure=Failure(phase=Phase.TEST, ending=Ending.FAILED, exit_status=3))
    held = Held(at=now(), command="ssh x", until=now() + timedelta(hours=1), evidence=failed)
    assert store.record(AttemptKey(run=run, cell="a", number=1), [held])
    assert finish_lost_runs(store) == (run,)
    (cell,) = store.run(run).cells
    assert cell.outcome
    assert (cell.outcome.verdict, cell.outcome.blame) == (Verdict.FAILED, Blame.TEST)
