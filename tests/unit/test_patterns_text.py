from farm.report.document import document
from farm.report.patterns import patterns
from farm.report.patterns_text import to_text
from tests.unit.documents import cell, report
from tests.unit.records import demo_run
from tests.unit.test_patterns import IDS, run, those
from tests.unit.test_report_hostile import FORBIDDEN, hostile_run


def test_an_exact_pattern_is_one_sentence_with_what_it_is_worth() -> None:
    sentence = "fails exactly where arch = s390x: 6 of 6; passes in the 18 others"
    assert to_text(patterns(run(those("s390x"), message="4 bytes differ"))).splitlines() == [
        "demo-3: 24 of 24 cells gave data; axes that vary: image, arch, bug",
        "",
        f"cells  {sentence} [emulated only]",
        "",
        f"1 test  {sentence} [emulated only]",
        "  suite › t",
        "",
        "the same message",
        f"  6 failures of 1 test in 6 cells ({sentence}): N bytes differ",
    ]


def test_the_second_best_of_partial_patterns_are_told_too() -> None:
    text = to_text(patterns(run(those("s390x") | those("debian-12") - {"debian-12/amd64/bug=off"})))
    assert "; or it fails " in text


def test_evidence_that_is_thin_says_so() -> None:
    assert "[a single cell, a single attempt]" in to_text(patterns(run({IDS[0]})))
    flaky = cell(IDS[1], "passed", {"t": "passed"}, before=[{"t": "failed"}])
    assert "flaky in 1 cell]" in to_text(patterns(report(cell(IDS[0], "failed", {"t": "failed"}), flaky)))


def test_a_run_in_which_nothing_failed_says_so() -> None:
    assert to_text(patterns(run(set()))).endswith("\nNothing failed.\n")
    assert to_text(patterns(report())).startswith("demo-3: 0 of 0 cells gave data; axes that vary: none\n")


def test_many_tests_are_named_up_to_a_point() -> None:
    names = {f"t{number:02}": "failed" for number in range(60)}
    text = to_text(patterns(report(cell(IDS[0], "failed", names))))
    assert "60 tests  fails in 1 of 1 cell: too few to find a pattern" in text
    assert "suite › t07 and 52 more\n" in text


def test_nothing_of_a_guest_gets_out() -> None:
    assert not FORBIDDEN.search(to_text(patterns(document(hostile_run()))))


def test_the_demo_is_understood() -> None:
    text = to_text(patterns(document(demo_run())))
    assert "2 tests  fails exactly where arch = s390x and bug = on: 1 of 1; passes in the 4 others" in text
