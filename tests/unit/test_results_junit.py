import pytest

from farm.model import TestResult, TestStatus
from farm.results import base, read
from farm.results.base import DEEPEST, LARGEST_FILE_BYTES


def junit(inner: str, attributes: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>\n<testsuites><testsuite name="s" {attributes}>{inner}</testsuite></testsuites>'.encode()
    )


def only(data: bytes) -> TestResult:
    results = read("out/unit.xml", data)
    assert results.problem == ""
    (test,) = results.tests
    return test


STATUSES = {
    "passed": ('<testcase name="t"/>', TestStatus.PASSED, "", ""),
    "failure": ('<testcase name="t"><failure message="m">d</failure></testcase>', TestStatus.FAILED, "m", "d"),
    "failure without a message": (
        '<testcase name="t"><failure>\n first\n second</failure></testcase>',
        TestStatus.FAILED,
        "first",
        " first\n second",
    ),
    "failure with a type only": ('<testcase name="t"><failure type="E"/></testcase>', TestStatus.FAILED, "E", ""),
    "error": ('<testcase name="t"><error message="m"/></testcase>', TestStatus.ERROR, "m", ""),
    "skipped": ('<testcase name="t"><skipped message="why"/></testcase>', TestStatus.SKIPPED, "why", ""),
    "failure beside an error": (
        '<testcase name="t"><error message="e"/><failure message="f"/></testcase>',
        TestStatus.FAILED,
        "e",
        "",
    ),
    "failed again (Surefire)": (
        '<testcase name="t"><failure message="m">one</failure><rerunError>two</rerunError></testcase>',
        TestStatus.FAILED,
        "m",
        "one\n\ntwo",
    ),
    "flaky (Surefire)": (
        '<testcase name="t"><flakyFailure message="m"><stackTrace>trace</stackTrace></flakyFailure></testcase>',
        TestStatus.PASSED,
        "passed only after 1 failed tries: m",
        "trace",
    ),
    "not run (GoogleTest)": (
        '<testcase name="t" status="notrun" result="suppressed"/>',
        TestStatus.SKIPPED,
        "",
        "",
    ),
    "output stands in for a missing detail": (
        '<testcase name="t"><failure message="m"/><system-out>said</system-out></testcase>',
        TestStatus.FAILED,
        "m",
        "said",
    ),
    "output of a passed test is left": (
        '<testcase name="t"><system-out>x</system-out></testcase>',
        TestStatus.PASSED,
        "",
        "",
    ),
}


@pytest.mark.parametrize(("inner", "status", "message", "detail"), STATUSES.values(), ids=STATUSES)
def test_each_kind_of_testcase(inner: str, status: TestStatus, message: str, detail: str) -> None:
    test = only(junit(inner))
    assert (test.status, test.message, test.detail) == (status, message, detail)


TIMES = {
    "1.5": 1.5,
    "1,5": 1.5,
    "1,234.5": 1234.5,
    "": 0.0,
    "soon": 0.0,
    "nan": 0.0,
    "-1": 0.0,
    "inf": 0.0,
    "1e-3": 0.001,
}


@pytest.mark.parametrize(("text", "seconds"), TIMES.items())
def test_times_as_they_are_written(text: str, seconds: float) -> None:
    assert only(junit(f'<testcase name="t" time="{text}"/>')).duration_s == seconds


def test_a_testcase_needs_no_attributes_at_all() -> None:
    test = only(b"<testsuite><testcase/></testsuite>")
    assert (test.suite, test.name, test.duration_s) == ("unit", "(no name)", 0.0)


def test_nested_suites_are_named_by_their_path() -> None:
    inner = '<testsuite name="b"><testcase name="t"/></testsuite>'
    assert only(junit(inner)).suite == "s > b"


def test_names_in_a_namespace_are_read() -> None:
    assert only(b'<testsuite xmlns="urn:x" name="s"><testcase name="t"/></testsuite>').name == "t"


def test_a_failure_of_the_suite_itself_is_a_test() -> None:
    test = only(b'<testsuite name="s"><failure message="no fixture"/></testsuite>')
    assert (test.status, test.message) == (TestStatus.FAILED, "no fixture")


def test_counted_failures_without_a_failed_test_are_a_problem() -> None:
    results = read("a.xml", junit('<testcase name="t"/>', 'failures="1"'))
    assert "counts failures or errors" in results.problem
    assert len(results.tests) == 1


@pytest.mark.parametrize("inner", ["\x00a\x1b[31mb\x1b[0m\x07c", "&#0;a&#x1b;[31mb&#27;[0m&#7;c&#xFFFF;&#xD800;"])
def test_control_characters_are_removed_and_are_no_problem(inner: str) -> None:
    test = only(junit(f'<testcase name="t{inner}"><failure message="m">{inner}</failure></testcase>'))
    assert test.detail.rstrip("\ufffd") == "abc"
    assert test.name.rstrip("\ufffd") == "tabc"


def test_a_reference_to_a_real_character_stays_one() -> None:
    assert only(junit('<testcase name="&#228;&#x1F389;&lt;&#38;"/>')).name == "ä🎉<&"


ENCODED = {
    "latin-1": '<?xml version="1.0" encoding="ISO-8859-1"?><testsuite><testcase name="ü"/></testsuite>'.encode(
        "latin-1"
    ),
    "UTF-16": '<testsuite><testcase name="ü"/></testsuite>'.encode("utf-16"),
    "UTF-8 with a mark": '<testsuite><testcase name="ü"/></testsuite>'.encode("utf-8-sig"),
    "spaces before the declaration": '\n <?xml version="1.0"?><testsuite><testcase name="ü"/></testsuite>'.encode(),
}


@pytest.mark.parametrize("data", ENCODED.values(), ids=ENCODED)
def test_other_encodings_are_read(data: bytes) -> None:
    assert only(data).name == "ü"


def test_an_unknown_encoding_is_read_as_utf8() -> None:
    assert only('<?xml version="1.0" encoding="zip"?><testsuite><testcase name="ü"/></testsuite>'.encode()).name == "ü"


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<testsuites><testsuite name="s"><testcase name="&b;"/></testsuite></testsuites>"""

REFUSED = {
    "empty": (b"", "it is empty"),
    "only spaces": (b" \n\t", "it is empty"),
    "a billion laughs": (LAUGHS, "document type declaration"),
    "an external entity": (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><testsuite/>', "document type declaration"),
    "an undefined entity": (b"<testsuite>&lol;</testsuite>", "undefined entity"),
    "another root": (b"<html><testcase/></html>", "its root is <html>"),
    "no XML at all": (b"PK\x03\x04 rubbish", "its XML breaks off or is broken"),
    "too deep": (b"<testsuite>" * (DEEPEST + 1), "nested deeper"),
    "too many attributes": (b"<testsuite " + b" ".join(b'a%d=""' % n for n in range(600)) + b"/>", "500 attributes"),
    "too many elements in a test": (
        b"<testsuite><testcase>" + b"<a/>" * 10_001 + b"</testcase></testsuite>",
        "elements",
    ),
    "too large": (b"<testsuite>" + b" " * LARGEST_FILE_BYTES, "more than 67108864"),
}


@pytest.mark.parametrize(("data", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_told_and_gives_no_tests(data: bytes, problem: str) -> None:
    results = read("out/a.xml", data)
    assert results.tests == ()
    assert results.problem.startswith("cannot read out/a.xml in full: ")
    assert problem in results.problem


def test_of_a_truncated_file_every_complete_test_is_kept() -> None:
    whole = junit(
        "".join(f'<testcase name="t{n}"><failure message="m"/></testcase>' for n in range(100)), 'failures="100"'
    )
    results = read("a.xml", whole[: len(whole) // 2])
    assert 40 < len(results.tests) < 60
    assert "breaks off" in results.problem
    assert "line 2" in results.problem
    assert "counts failures" not in results.problem


def test_texts_are_bounded_and_the_failure_survives_what_the_test_printed() -> None:
    printed, failure = f"<system-out>{'o' * 500_000}</system-out>", f"<failure>{'f' * 50_000}</failure>"
    test = only(junit(f'<testcase name="{"n" * 10_000}">{printed}{failure}</testcase>'))
    assert len(test.name) == base.LONGEST_NAME
    assert len(test.detail) == base.LONGEST_DETAIL
    assert test.detail.startswith("fff")


def test_a_hundred_thousand_tests_are_read() -> None:
    results = read("a.xml", junit('<testcase classname="c" name="t" time="0.1"/>' * 100_000))
    assert len(results.tests) == 100_000
    assert results.problem == ""


def test_tests_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MOST_TESTS", 3)
    results = read("a.xml", junit('<testcase name="t"/>' * 5))
    assert len(results.tests) == 3
    assert "2 tests beyond the first 3 are left out" in results.problem


def test_the_name_of_a_hostile_file_is_cleaned() -> None:
    assert "\x1b" not in read("a\x1b[31m\nb.xml", b"").problem
