from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import errors, verdict
from farm.model import (
    Blame,
    Cell,
    CellRecord,
    Ending,
    Evidence,
    Failure,
    Matrix,
    Outcome,
    Phase,
    Placement,
    Plan,
    ResolvedSource,
    RunRecord,
    State,
    Submission,
    TestStatus,
    Verdict,
)
from farm.rules import TABLE, WITHOUT_EVIDENCE, Row
from farm.verdict import classify, exit_code

DOCS = Path(__file__).parents[2] / "docs" / "verdicts.md"

PASSED, FAILED, ERROR, SKIPPED = TestStatus.PASSED, TestStatus.FAILED, TestStatus.ERROR, TestStatus.SKIPPED


def failing(phase: Phase, ending: Ending = Ending.FAILED, error: str = "", **more: object) -> Failure:
    return Failure.model_validate({"phase": phase, "ending": ending, "error": error, "message": "it broke", **more})


def junit(tests: dict[TestStatus, int] | None = None, **more: object) -> Evidence:
    return Evidence.model_validate({"junit_promised": True, "junit_files": 1, "tests": tests or {}, **more})


def after(failure: Failure, tests: dict[TestStatus, int] | None = None) -> Evidence:
    return junit(tests, failure=failure)


P, B, C, U = Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.UPLOAD
TIMEOUT, LOST, OK = Ending.TIMEOUT, Ending.LOST, Ending.OK
SCRIPT_1 = failing(Phase.TEST, exit_status=1)

# evidence, the rule that decides, verdict, blame, retry
CASES: list[tuple[Evidence, str, Verdict, Blame | None, bool]] = [
    (Evidence(), "passed", Verdict.PASSED, None, False),
    (Evidence(reserved=True), "reserved", Verdict.SKIPPED, None, False),
    (Evidence(reserved=True, failure=failing(B, TIMEOUT)), "start", Verdict.ERROR, Blame.INFRA, True),
    (junit({PASSED: 3, SKIPPED: 1}), "passed", Verdict.PASSED, None, False),
    (junit({SKIPPED: 2}), "all-skipped", Verdict.SKIPPED, None, False),
    (junit({PASSED: 3, FAILED: 1}), "tests-failed-status-0", Verdict.FAILED, Blame.TEST, False),
    (junit({PASSED: 3, ERROR: 1}), "tests-failed-status-0", Verdict.FAILED, Blame.TEST, False),
    (
        junit({FAILED: 1}, junit_problem="it ends in the middle"),
        "tests-failed-status-0",
        Verdict.FAILED,
        Blame.TEST,
        False,
    ),
    (
        after(failing(Phase.COLLECT, error="HostError"), {FAILED: 1}),
        "tests-failed-status-0",
        Verdict.FAILED,
        Blame.TEST,
        False,
    ),
    (junit({PASSED: 3}, junit_problem="it ends in the middle"), "results-broken", Verdict.ERROR, Blame.TEST, False),
    (junit(junit_files=0), "results-missing", Verdict.ERROR, Blame.TEST, False),
    (junit(), "results-empty", Verdict.ERROR, Blame.TEST, False),
    (after(SCRIPT_1, {FAILED: 2, PASSED: 1}), "tests-failed", Verdict.FAILED, Blame.TEST, False),
    (after(SCRIPT_1, {PASSED: 3}), "status-against-tests", Verdict.FAILED, Blame.TEST, False),
    (after(SCRIPT_1), "script-failed", Verdict.FAILED, Blame.TEST, False),
    (after(failing(Phase.PREPARE, exit_status=1)), "script-failed", Verdict.FAILED, Blame.TEST, False),
    (after(failing(Phase.BUILD, exit_status=2)), "script-failed", Verdict.FAILED, Blame.TEST, False),
    (after(failing(Phase.TEST, TIMEOUT, "DeadlineError")), "script-timeout", Verdict.FAILED, Blame.TEST, False),
    (after(failing(Phase.TEST, TIMEOUT), {FAILED: 1}), "script-timeout", Verdict.FAILED, Blame.TEST, False),
    (after(failing(Phase.TEST, LOST, "LostError")), "connection-lost", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.TEST, error="LostError")), "connection-lost", Verdict.ERROR, Blame.INFRA, True),
    (
        after(failing(Phase.TEST, LOST, "LostError", crash="kernel-panic")),
        "crash-in-script",
        Verdict.FAILED,
        Blame.GUEST,
        False,
    ),
    (
        after(failing(Phase.BUILD, TIMEOUT, crash="kernel-panic")),
        "crash-in-script",
        Verdict.FAILED,
        Blame.GUEST,
        False,
    ),
    (
        after(failing(Phase.TEST, LOST, "LostError", crash="powered-off")),
        "powered-off-in-script",
        Verdict.FAILED,
        Blame.TEST,
        False,
    ),
    (after(failing(B, TIMEOUT, crash="powered-off")), "powered-off", Verdict.ERROR, Blame.GUEST, False),
    (after(failing(Phase.COLLECT, LOST, crash="powered-off")), "powered-off", Verdict.ERROR, Blame.GUEST, False),
    (after(failing(P, error="HypervisorError", crash="powered-off")), "host", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.TEST, LOST, crash="disk-error")), "connection-lost", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.TEST, exit_status=1, crash="hung")), "script-failed", Verdict.FAILED, Blame.TEST, False),
    (after(failing(B, TIMEOUT, "DeadlineError")), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(C, error="ConnectError")), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(C, error="UntrustedError")), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(U, LOST)), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(P, TIMEOUT)), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(B, LOST, crash="init-died")), "crash", Verdict.ERROR, Blame.GUEST, False),
    (after(failing(C, TIMEOUT, crash="kernel-oops")), "crash", Verdict.ERROR, Blame.GUEST, False),
    (after(failing(B, TIMEOUT, crash="hung")), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.COLLECT, LOST, crash="kernel-panic")), "crash", Verdict.ERROR, Blame.GUEST, False),
    (after(failing(Phase.COLLECT, TIMEOUT), {PASSED: 1}), "collect", Verdict.ERROR, Blame.INFRA, False),
    (after(failing(Phase.COLLECT, error="UntrustedError")), "unacceptable", Verdict.ERROR, Blame.TEST, False),
    (after(failing(Phase.TEST, error="UntrustedError")), "unacceptable", Verdict.ERROR, Blame.TEST, False),
    (after(failing(P, error="PackageError")), "not-to-be-had", Verdict.ERROR, Blame.CONFIG, False),
    (after(failing(P, error="ConfigError")), "not-to-be-had", Verdict.ERROR, Blame.CONFIG, False),
    (after(failing(U, error="SourceError")), "not-to-be-had", Verdict.ERROR, Blame.CONFIG, False),
    (after(failing(P, error="ImageError")), "host", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(B, error="HypervisorError", crash="kernel-panic")), "host", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.TEST, error="FullError")), "host-full", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(P, error="ZeroDivisionError")), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.TEST, LOST, "SSHException")), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.TEST, error="FarmError")), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(P)), "no-error-named", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.COLLECT)), "no-error-named", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.TEST, error="GuestError")), "unforeseen", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.TEST, OK)), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.COLLECT, OK)), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.COLLECT, OK, "ForbiddenError")), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (after(failing(Phase.TEST, Ending.CANCELLED), {FAILED: 1}), "cancelled", Verdict.CANCELLED, None, False),
    (after(failing(Phase.TEARDOWN, error="HostError"), {PASSED: 1}), "passed", Verdict.PASSED, None, False),
    (Evidence(tested=False), "unknown-error", Verdict.ERROR, Blame.FARM, False),
    (
        Evidence(tested=False, failure=failing(Phase.TEARDOWN, TIMEOUT)),
        "unknown-error",
        Verdict.ERROR,
        Blame.FARM,
        False,
    ),
    (Evidence(tested=False, reserved=True), "reserved", Verdict.SKIPPED, None, False),
    (after(failing(Phase.TEARDOWN, TIMEOUT, builder=True)), "start", Verdict.ERROR, Blame.INFRA, True),
    (after(failing(Phase.TEARDOWN, error="HostError", builder=True)), "host", Verdict.ERROR, Blame.INFRA, True),
    (
        after(failing(Phase.TEARDOWN, TIMEOUT), {FAILED: 1}),
        "tests-failed-status-0",
        Verdict.FAILED,
        Blame.TEST,
        False,
    ),
]


@pytest.mark.parametrize(("evidence", "rule", "expected", "blame", "retry"), CASES)
def test_the_evidence_of_an_attempt_decides(
    evidence: Evidence, rule: str, expected: Verdict, blame: Blame | None, retry: bool
) -> None:
    outcome = classify(evidence)
    assert (outcome.rule, outcome.verdict, outcome.blame, outcome.retry) == (rule, expected, blame, retry)
    assert outcome.summary
    assert "\n" not in outcome.summary


def test_every_row_of_the_table_decides_a_case() -> None:
    assert {row.rule for row in TABLE} == {case[1] for case in CASES}


def test_names_of_rows_are_unique() -> None:
    names = [row.rule for row in (*TABLE, *WITHOUT_EVIDENCE)]
    assert len(names) == len(set(names))


def test_only_infra_is_tried_again() -> None:
    assert {row.decision.blame for row in (*TABLE, *WITHOUT_EVIDENCE) if row.decision.retry} == {Blame.INFRA}


def test_every_verdict_of_failed_and_error_blames_somebody() -> None:
    for row in (*TABLE, *WITHOUT_EVIDENCE):
        assert (row.decision.blame is not None) == (row.decision.verdict in {Verdict.FAILED, Verdict.ERROR}), row.rule


def test_every_error_of_the_farm_is_classified_in_every_phase_by_a_row_that_means_it() -> None:
    classes = [
        cls.__name__ for cls in vars(errors).values() if isinstance(cls, type) and cls.__module__ == "farm.errors"
    ]
    known = set(classes) - {
        "FarmError",
        "BusyError",  # this and the next two are said to who asks the service, never by a worker
        "ForbiddenError",
        "ConflictError",
        "GuestError",
        "Problem",
        "ServerError",
        "AttemptError",
        "AttemptCancelledError",
        "AttemptLostError",
        "FencedError",  # said to the controller by the store
    }
    for error in known:
        for phase in set(Phase) - {Phase.TEARDOWN}:
            assert classify(after(failing(phase, error=error))).blame is not Blame.FARM, (error, phase)


def test_the_lines_of_the_failure_are_carried_over() -> None:
    lines = ("Kernel panic - not syncing: x", "CPU: 0")
    assert classify(after(failing(B, LOST, crash="kernel-panic", lines=lines))).lines == lines


def test_failed_tests_are_named() -> None:
    names = ("a::one", "a::two", "b::three", "b::four")
    outcome = classify(junit({FAILED: 4, PASSED: 1}, failed_tests=names))
    assert outcome.summary == "4 of 5 tests failed: a::one, a::two, b::three, …, although the script returned 0"
    assert outcome.lines == names


def test_a_summary_is_one_short_line_whatever_the_message_holds() -> None:
    failure = Failure(phase=P, ending=Ending.FAILED, error="HostError", message="{phase}\nno\n" + "x" * 10_000)
    summary = classify(Evidence(failure=failure)).summary
    assert summary.startswith("provision: {phase} no xxx")
    assert len(summary) <= 400


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (
            verdict.lost_attempt("its worker died"),
            Outcome(
                verdict=Verdict.ERROR,
                blame=Blame.INFRA,
                rule="attempt-lost",
                summary="the attempt was lost: its worker died",
                lines=("its worker died",),
                retry=True,
            ),
        ),
        (
            verdict.cancelled("fail-fast"),
            Outcome(verdict=Verdict.CANCELLED, rule="cancelled", summary="cancelled: fail-fast", lines=("fail-fast",)),
        ),
        (
            verdict.skipped("not asked for"),
            Outcome(
                verdict=Verdict.SKIPPED, rule="skipped", summary="skipped: not asked for", lines=("not asked for",)
            ),
        ),
        (
            verdict.unplaceable("no host {fits}"),
            Outcome(
                verdict=Verdict.ERROR,
                blame=Blame.CONFIG,
                rule="unplaceable",
                summary="no host {fits}",
                lines=("no host {fits}",),
            ),
        ),
    ],
)
def test_what_had_no_end_of_its_own_has_an_outcome(outcome: Outcome, expected: Outcome) -> None:
    assert outcome == expected


LOST_WORKER = verdict.lost_attempt("its worker died")


@pytest.mark.parametrize(
    ("evidence", "rule"),
    [
        (after(SCRIPT_1), "script-failed"),
        (after(failing(Phase.TEST, LOST, "LostError")), "connection-lost"),
        (Evidence(reserved=True), "attempt-lost"),
    ],
)
def test_what_ends_a_guest_that_is_kept_changes_no_verdict_and_is_not_tried_again(
    evidence: Evidence, rule: str
) -> None:
    outcome = verdict.after_hold(evidence, LOST_WORKER)
    assert (outcome.rule, outcome.retry) == (rule, False)


def test_the_document_shows_the_table_row_by_row() -> None:
    documented = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert documented == [_row(row) for row in TABLE] + [_ending_row(row) for row in WITHOUT_EVIDENCE]


def _row(row: Row) -> str:
    conditions = (
        ", ".join(row.phases),
        ", ".join(row.endings),
        ", ".join(_ERROR_WORDS.get(cls.__name__, cls.__name__) for cls in row.errors),
        ", ".join(row.console),
        ", ".join(row.results),
    )
    return _line(f"`{row.rule}`", *(text or "any" for text in conditions), *_decision(row))


def _ending_row(row: Row) -> str:
    return _line(f"`{row.rule}`", *_decision(row))


def _decision(row: Row) -> tuple[str, str, str]:
    return (row.decision.verdict, row.decision.blame or "–", "yes" if row.decision.retry else "no")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


_ERROR_WORDS = {"Unnamed": "none named", "Unknown": "not the farm's"}


NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run_of(*cells: tuple[Verdict | None, bool], cancelled: bool = False) -> RunRecord:
    placements = tuple(
        Placement(cell=Cell(id=str(number), values={"image": "x", "arch": "y"}, may_fail=may_fail))
        for number, (_, may_fail) in enumerate(cells)
    )
    matrix = Matrix(name="m", axes={"arch": ("y",)}, test="true")
    source = ResolvedSource(kind="folder", description="", digest="0", archive="", files=0, bytes=0)
    return RunRecord(
        id="m-1",
        submission=Submission(plan=Plan(matrix=matrix, placements=placements), source=source),
        state=State.FINISHED,
        created=NOW,
        finished=NOW,
        cancelled=cancelled,
        cells=tuple(
            CellRecord(placement=placement, state=State.FINISHED, outcome=Outcome(verdict=found) if found else None)
            for placement, (found, _) in zip(placements, cells, strict=True)
        ),
    )


STRICT, MAY_FAIL = False, True


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of((Verdict.PASSED, STRICT)), 0),
        (run_of((Verdict.PASSED, STRICT), (Verdict.SKIPPED, STRICT)), 0),
        (run_of((Verdict.PASSED, STRICT), (Verdict.FAILED, MAY_FAIL), (Verdict.ERROR, MAY_FAIL)), 0),
        (run_of((Verdict.FAILED, MAY_FAIL)), 0),
        (run_of((Verdict.PASSED, STRICT), (Verdict.FAILED, STRICT)), 1),
        (run_of((Verdict.ERROR, STRICT), (Verdict.FAILED, STRICT)), 1),
        (run_of((Verdict.ERROR, STRICT), (Verdict.FAILED, MAY_FAIL)), 2),
        (run_of((Verdict.PASSED, STRICT), (None, STRICT)), 2),
        (run_of((Verdict.SKIPPED, STRICT), (Verdict.CANCELLED, STRICT)), 3),
        (run_of(), 3),
        (run_of((Verdict.PASSED, STRICT), (Verdict.FAILED, STRICT), cancelled=True), 130),
    ],
)
def test_the_exit_code_sums_up_the_cells_that_count(run: RunRecord, code: int) -> None:
    assert exit_code(run) == code


NOT_PASSED = [case for case in CASES if case[2] is not Verdict.PASSED]


@pytest.mark.parametrize("evidence", [case[0] for case in NOT_PASSED])
def test_what_is_not_a_pass_names_its_rule_and_the_lines_it_rests_on(evidence: Evidence) -> None:
    outcome = classify(evidence)
    assert outcome.rule
    assert all(line.strip() for line in outcome.lines)
    assert outcome.lines
    assert outcome.blame or outcome.verdict in (Verdict.SKIPPED, Verdict.CANCELLED)


def test_tests_that_failed_are_what_their_verdict_rests_on_and_not_the_log() -> None:
    failure = failing(Phase.TEST, exit_status=1, lines=("make: *** [check] Error 1",))
    outcome = classify(junit({FAILED: 1}, failure=failure, failed_tests=("unit: two",)))
    assert outcome.lines == ("unit: two",)


@pytest.mark.parametrize(
    "outcome",
    [
        verdict.lost_attempt("killed"),
        verdict.interrupted("stopped"),
        verdict.cancelled("by a person"),
        verdict.skipped("left out"),
        verdict.unplaceable("no host"),
        verdict.waited_too_long(60),
        verdict.defect(ZeroDivisionError("no such size")),
    ],
    ids=lambda outcome: outcome.rule,
)
def test_what_never_came_to_an_end_of_its_own_rests_on_its_reason(outcome: Outcome) -> None:
    assert len(outcome.lines) == 1
    assert outcome.lines[0] in outcome.summary


FAILURES = st.builds(
    Failure,
    phase=st.sampled_from(Phase),
    builder=st.booleans(),
    ending=st.sampled_from(Ending),
    error=st.sampled_from(["", "KeyError", *(name for name in vars(errors) if name.endswith("Error"))]),
    message=st.text(max_size=20),
    exit_status=st.none() | st.integers(-1, 255),
    crash=st.sampled_from(["", "kernel-panic", "powered-off", "disk-error", "hung", "no-space"]),
    lines=st.lists(st.text(min_size=1, max_size=9), max_size=3).map(tuple),
)
EVIDENCE = st.builds(
    Evidence,
    failure=st.none() | FAILURES,
    tested=st.booleans(),
    junit_promised=st.booleans(),
    junit_files=st.integers(0, 3),
    junit_problem=st.sampled_from(["", "it ends in the middle"]),
    tests=st.dictionaries(st.sampled_from(TestStatus), st.integers(0, 3)),
    reserved=st.booleans(),
)


@given(EVIDENCE)
def test_the_table_decides_everything_and_passes_nothing_that_went_wrong(evidence: Evidence) -> None:
    outcome = classify(evidence)
    failed = evidence.tests.get(FAILED, 0) + evidence.tests.get(ERROR, 0)
    failure = evidence.failure
    wrong = failure is not None and (failure.builder or failure.phase is not Phase.TEARDOWN)
    if outcome.verdict is Verdict.PASSED:
        assert not any((wrong, failed, evidence.junit_problem, not evidence.tested))
        assert not evidence.junit_promised or evidence.junit_files
        assert outcome.blame is None
    else:
        assert outcome.rule
        assert outcome.lines
        assert (outcome.blame is None) == (outcome.verdict in (Verdict.SKIPPED, Verdict.CANCELLED))
    assert not outcome.retry or outcome.blame is Blame.INFRA
