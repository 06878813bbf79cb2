from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.model import CellRecord, Excluded, Waiver
from farm.report.evidence import Standing, failing, standing
from farm.report.parts import Document
from farm.report.statement import statement
from farm.report.support import DECIDING, PlatformPart, Reason, Statement, Status
from tests.unit.documents import OUTCOMES, Tests, cell, report, reports
from tests.unit.records import START, demo_run, facts
from tests.unit.test_waivers import waiver

CELL = "debian-13/amd64"
NOW = START + timedelta(days=10)
PASSED: Tests = {"a": "passed", "b": "passed"}
FAILED: Tests = {"a": "passed", "b": "failed"}


def only(made: Statement) -> PlatformPart:
    (platform,) = made.platforms
    return platform


def kinds(platform: PlatformPart) -> list[str]:
    return [one.kind.value for one in platform.reasons]


def judged(record: CellRecord | None, **changes: Any) -> PlatformPart:
    return only(statement(report(*([record] if record else [])), now=NOW, **changes))


def phases_without_test(record: CellRecord) -> CellRecord:
    """As of a matrix that only builds."""
    (last,) = record.attempts
    kept = tuple(phase for phase in last.phases if phase.phase != "test")
    return record.model_copy(update={"attempts": (last.model_copy(update={"phases": kept}),)})


BY_OUTCOME = {
    "passed": ("supported", ["passed"]),
    "failed": ("not_supported", ["failed"]),
    "build": ("not_supported", ["failed"]),
    "timeout": ("not_supported", ["failed"]),
    "panic": ("not_supported", ["failed"]),
    "broken": ("not_supported", ["failed"]),
    "infra": ("not_known", ["error"]),
    "config": ("not_known", ["error"]),
    "farm": ("not_known", ["error"]),
    "skipped": ("not_known", ["all_skipped"]),
    "left out": ("not_known", ["not_run"]),
    "cancelled": ("not_known", ["not_run"]),
    "unfinished": ("not_known", ["not_run"]),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_may_be_claimed_by_how_a_cell_ended(outcome: str) -> None:
    tests = {"passed": PASSED, "failed": FAILED, "timeout": FAILED, "skipped": {"a": "skipped"}}.get(outcome, {})
    platform = judged(cell(CELL, outcome, tests))
    assert (platform.status, kinds(platform)) == BY_OUTCOME[outcome]
    assert (platform.evidence is None) == (platform.status == "not_known" and outcome != "skipped")


def test_reasons_stand_in_the_order_in_which_they_decide() -> None:
    assert list(DECIDING) == [kind for kind in Reason if kind in DECIDING]
    assert set(DECIDING.values()) == set(Status)


def test_nothing_but_a_pass_of_its_own_makes_a_platform_supported() -> None:
    assert [kind for kind, status in DECIDING.items() if status is Status.SUPPORTED] == [Reason.PASSED]
    assert list(DECIDING)[-1] is Reason.PASSED


@pytest.mark.parametrize(
    ("record", "status", "reasons"),
    [
        (cell(CELL, "passed"), "supported", ["passed", "no_results"]),
        (phases_without_test(cell(CELL, "passed")), "not_known", ["no_tests"]),
        (cell(CELL, "passed", {"a": "skipped"}), "not_known", ["all_skipped"]),
        (cell(CELL, "passed", {"a": "skipped", "b": "passed"}), "supported", ["passed"]),
        (cell(CELL, "passed", PASSED, guest=facts("s390x")), "supported", ["passed", "emulated"]),
        (cell(CELL, "passed", PASSED, before=[FAILED]), "supported", ["passed", "flaky"]),
        (cell(CELL, "failed", FAILED, may_fail=True), "not_supported", ["failed", "may_fail"]),
        (cell(CELL, "passed", FAILED), "not_supported", ["failed"]),
    ],
)
def test_what_has_to_be_known_beside_it(record: CellRecord, status: str, reasons: list[str]) -> None:
    platform = judged(record)
    assert (platform.status, kinds(platform)) == (status, reasons)


MANY: Tests = {f"t{number}": "passed" for number in range(9)}
BASELINES = [
    (PASSED, PASSED, "supported", ["passed"]),
    (PASSED, {**PASSED, "c": "passed"}, "not_known", ["fewer_tests", "passed"]),
    (PASSED, {**PASSED, "c": "failed"}, "not_known", ["fewer_tests", "passed"]),
    (PASSED, {**PASSED, "c": "skipped"}, "supported", ["passed"]),
    ({**PASSED, "c": "skipped"}, {**PASSED, "c": "passed"}, "not_known", ["fewer_tests", "passed"]),
    ({"a": "passed", "new": "passed"}, PASSED, "supported", ["passed", "other_tests"]),
    ({**PASSED, "new": "passed"}, PASSED, "supported", ["passed"]),
    ({}, PASSED, "not_known", ["fewer_tests", "passed", "no_results"]),
    (FAILED, {**PASSED, "c": "passed"}, "not_supported", ["failed", "fewer_tests"]),
]


@pytest.mark.parametrize(("now", "before", "status", "reasons"), BASELINES)
def test_less_than_the_baseline_is_not_enough(now: Tests, before: Tests, status: str, reasons: list[str]) -> None:
    baseline = report(cell(CELL, "passed", before), id="demo-2")
    outcome = "failed" if "failed" in now.values() else "passed"
    platform = judged(cell(CELL, outcome, now), baseline=baseline)
    assert (platform.status, kinds(platform)) == (status, reasons)


def test_fewer_tests_are_told_in_numbers_and_names() -> None:
    platform = judged(cell(CELL, "passed", {"t0": "passed"}), baseline=report(cell(CELL, "passed", MANY), id="demo-2"))
    assert platform.baseline_tests == 9
    assert platform.reasons[0].text == (
        "1 test ran, 9 in the baseline demo-2; not these: suite › t1, suite › t2, suite › t3, suite › t4, suite › t5"
        " and 3 more"
    )


@pytest.mark.parametrize("outcome", ["infra", "cancelled", "unfinished"])
def test_a_baseline_without_data_asks_for_nothing(outcome: str) -> None:
    platform = judged(cell(CELL, "passed", PASSED), baseline=report(cell(CELL, outcome, MANY)))
    assert (platform.status, platform.baseline_tests) == ("supported", None)


def test_a_platform_that_only_the_baseline_has_did_not_run() -> None:
    baseline = report(cell(CELL, "passed", PASSED), cell("debian-13/s390x", "passed"), id="demo-2")
    made = statement(report(cell(CELL, "passed", PASSED)), now=NOW, baseline=baseline)
    lost = made.platforms[1]
    assert (lost.id, lost.status, kinds(lost), lost.rerun) == ("debian-13/s390x", "not_known", ["not_run"], "")
    assert lost.reasons[0].text == "in the baseline demo-2, but not in this run: not in the matrix"
    assert made.headline == "Supported on 1 of 2 platforms; 1 not known."


def test_a_platform_that_was_excluded_says_why() -> None:
    plan = demo_run().submission.plan.model_copy(update={"excluded": (Excluded(id=CELL, reason="too slow"),)})
    release = report(submission=demo_run().submission.model_copy(update={"plan": plan}))
    platform = only(statement(release, now=NOW, baseline=report(cell(CELL, "passed"), id="demo-2")))
    assert platform.reasons[0].text == "in the baseline demo-2, but not in this run: too slow"


@pytest.mark.parametrize(
    ("most", "status", "reasons"),
    [
        (None, "supported", ["passed"]),
        (11, "supported", ["passed"]),
        (9, "not_known", ["stale", "passed"]),
        (0, "not_known", ["stale", "passed"]),
    ],
)
def test_old_evidence_is_stale(most: float | None, status: str, reasons: list[str]) -> None:
    platform = judged(cell(CELL, "passed", PASSED), max_age_days=most)
    assert (platform.status, kinds(platform)) == (status, reasons)


def test_a_failure_that_is_too_old_is_not_known_either() -> None:
    assert judged(cell(CELL, "failed", FAILED), max_age_days=1).status == "not_known"


def other_source(found: Document) -> Document:
    source = found.run.source.model_copy(update={"digest": "other"})
    return found.model_copy(update={"run": found.run.model_copy(update={"source": source})})


def earlier(outcome: str, tests: Tests, *, number: int = 2, days: float = -1) -> Document:
    return report(cell(CELL, outcome, tests), id=f"demo-{number}", days=days)


REUSED = [
    ([earlier("passed", PASSED)], "not_known", ["reused", "passed"], "demo-2"),
    ([earlier("failed", FAILED)], "not_supported", ["failed", "reused"], "demo-2"),
    ([other_source(earlier("passed", PASSED))], "not_known", ["stale", "passed"], "demo-2"),
    ([other_source(earlier("failed", FAILED))], "not_known", ["stale", "failed"], "demo-2"),
    ([earlier("infra", PASSED)], "not_known", ["error"], None),
    (
        [earlier("failed", FAILED, days=-3), earlier("passed", PASSED, number=1)],
        "not_known",
        ["reused", "passed"],
        "demo-1",
    ),
    ([earlier("infra", {}), earlier("passed", PASSED, number=1, days=-9)], "not_known", ["reused", "passed"], "demo-1"),
    ([earlier("passed", PASSED, number=3)], "not_known", ["error"], None),  # the release itself
]


@pytest.mark.parametrize(("runs", "status", "reasons", "run"), REUSED)
def test_an_earlier_run_may_speak_but_does_not_support(
    runs: list[Document], status: str, reasons: list[str], run: str | None
) -> None:
    platform = judged(cell(CELL, "infra"), earlier=runs)
    assert (platform.status, kinds(platform)) == (status, reasons)
    assert (platform.evidence.run if platform.evidence else None) == run


def test_an_earlier_run_says_nothing_where_the_release_ran() -> None:
    platform = judged(cell(CELL, "passed", PASSED), earlier=[earlier("failed", FAILED)])
    assert (platform.status, kinds(platform)) == ("supported", ["passed"])


def test_reused_evidence_says_where_it_is_from_and_why() -> None:
    (reason, _) = judged(cell(CELL, "infra"), earlier=[earlier("passed", PASSED)]).reasons
    assert reason.text == "from demo-2, 9 days ago; for this release: connect: no answer"


WAIVERS = [
    ([waiver(CELL, "b")], "supported_with_waivers", ["waived"], (1,)),
    ([waiver(CELL, "*")], "supported_with_waivers", ["waived"], (1,)),
    ([waiver(CELL, "a")], "not_supported", ["failed"], ()),
    ([waiver(CELL, "b", expires=NOW)], "not_supported", ["failed"], ()),
    ([waiver("sid", "b")], "not_supported", ["failed"], ()),
    ([], "not_supported", ["failed"], ()),
]


@pytest.mark.parametrize(("waivers", "status", "reasons", "ids"), WAIVERS)
def test_waived_failures_are_supported_with_waivers(
    waivers: list[Waiver], status: str, reasons: list[str], ids: tuple[int, ...]
) -> None:
    platform = judged(cell(CELL, "failed", FAILED), waivers=waivers)
    assert (platform.status, kinds(platform), platform.waivers) == (status, reasons, ids)


def test_waivers_do_not_make_up_for_tests_that_are_missing() -> None:
    baseline = report(cell(CELL, "passed", MANY))
    platform = judged(cell(CELL, "failed", FAILED), waivers=[waiver(CELL, "b")], baseline=baseline)
    assert (platform.status, kinds(platform)) == ("not_known", ["fewer_tests", "waived"])


def test_waivers_are_listed_with_what_is_wrong_with_them() -> None:
    made = statement(
        report(cell(CELL, "failed", FAILED)), now=NOW, waivers=[waiver(CELL, "b"), waiver("sid", number=2)]
    )
    assert [(one.id, one.flags) for one in made.waivers] == [(1, ()), (2, ("never used",))]
    assert [one.test.name for one in made.failures if one.test] == ["b"]
    assert made.headline == "Supported on 1 of 1 platform, 1 of them with waivers."


def test_what_failed_is_told_by_number_and_name() -> None:
    platform = judged(cell(CELL, "failed", FAILED))
    assert platform.reasons[0].text == "1 of 2 tests failed: suite › b"
    partly = judged(cell(CELL, "failed", {"a": "failed", "b": "failed"}), waivers=[waiver(CELL, "b")])
    assert partly.reasons[0].text.endswith("; 1 of 2 failures waived")
    assert judged(cell(CELL, "build")).reasons[0].text == "build: returned 2"


def test_the_evidence_says_what_it_was() -> None:
    found = judged(cell(CELL, "failed", {**FAILED, "c": "skipped"})).evidence
    assert found
    assert (found.tests, found.failed, found.skipped, found.attempts) == (2, 1, 1, 1)
    assert (found.run, found.hypervisor, found.host, found.image) == ("demo-3", "kvm", "builder-1", "debian-13/amd64")


@settings(deadline=None)
@given(reports(), reports(), st.sampled_from((None, 0.0, 365.0)))
def test_no_platform_is_supported_without_a_pass_of_its_own(
    release: Document, baseline: Document, most: float | None
) -> None:
    made = statement(release, now=NOW, baseline=baseline, max_age_days=most)
    cells = {one.id: one for one in release.cells}
    assert [one.id for one in made.platforms] == [*dict.fromkeys((*cells, *(one.id for one in baseline.cells)))]
    for platform in made.platforms:
        if platform.status is Status.SUPPORTED:
            assert standing(cells[platform.id]) is Standing.PASSED
            assert not failing(cells[platform.id])
            assert most != 0
            assert platform.evidence
            assert platform.evidence.tests >= (platform.baseline_tests or 0)
        assert platform.reasons
    counts = made.counts
    assert counts.all == counts.supported + counts.supported_with_waivers + counts.not_supported + counts.not_known
    assert Statement.model_validate_json(made.model_dump_json()) == made
