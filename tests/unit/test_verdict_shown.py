"""What a verdict rests on is seen wherever somebody asks: rule by rule, in every report and in the explanation."""

from __future__ import annotations

import pytest

from farm import verdict
from farm.model import Ending, Evidence, Failure, Outcome, Phase, Verdict
from farm.report import render
from farm.verdict import classify
from tests.unit.records import attempt, cell_record, demo_run, read_log
from tests.unit.test_explain import tried
from tests.unit.test_verdict import NOT_PASSED

BY_RULE = {rule: classify(evidence) for evidence, rule, *_ in NOT_PASSED} | {
    one.rule: one
    for one in (
        verdict.lost_attempt("its worker died"),
        verdict.interrupted("the farm was stopped"),
        verdict.unplaceable("no host has it"),
        verdict.waited_too_long(60),
    )
}


@pytest.mark.parametrize("rule", BY_RULE)
@pytest.mark.parametrize("name", ["markdown", "json", "junit", "html", "ctrf"])
def test_a_report_shows_the_rule_or_the_lines_of_each_verdict(name: str, rule: str) -> None:
    outcome = BY_RULE[rule]
    record = cell_record("amd64", "off")
    tries = (attempt(record.placement.cell, 1, outcome, tests=()),)
    run = demo_run((record.model_copy(update={"outcome": outcome, "attempts": tries}),))
    text = render(name, run, read_log)
    assert outcome.verdict in (Verdict.SKIPPED, Verdict.CANCELLED) or outcome.lines[0] in text


@pytest.mark.parametrize("rule", BY_RULE)
def test_the_explanation_shows_blame_rule_and_lines_of_each_verdict(rule: str) -> None:
    outcome = BY_RULE[rule]
    found = tried(outcome, outcome)
    assert found.outcome
    assert found.outcome.lines == outcome.lines
    assert any(rule in reason for reason in found.reasons)
    assert outcome.blame is None or f"blame: {outcome.blame}" in found.headline


def test_neither_summary_nor_lines_carry_what_a_terminal_would_obey() -> None:
    said = "\x1b]0;owned\x07\x1b[31mred\x9b2J \u202egnp.exe"
    failure = Failure(phase=Phase.BOOT, ending=Ending.LOST, error="LostError", message=said, lines=(said,))
    outcome: Outcome = classify(Evidence(failure=failure))
    assert outcome.summary == "boot: red [U+202E]gnp.exe"
    assert outcome.lines == ("red [U+202E]gnp.exe",)
