"""Whatever a guest writes, reading it gives results; never an exception, never a silent pass."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.results import Results, read
from farm.text import clean_line

NAMES = st.sampled_from(["a.xml", "a.tap", "a.txt", ""])

JUNIT = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="s" tests="3" failures="1" time="1,5">
<properties><property name="p" value="v"/></properties>
<testcase classname="c" name="one" time="0.5"/>
<testcase classname="c" name="two"><failure message="m &lt; n" type="T"><![CDATA[trace \x1b[31m]]></failure></testcase>
<testcase classname="c" name="three"><skipped/><system-out>&#x1b;[0m out</system-out></testcase>
</testsuite></testsuites>"""
TAP = b"""TAP version 14
1..4
ok 1 - one # time=3ms
not ok 2 - two
  ---
  message: why
  duration_ms: 1
  ...
# Subtest: three
    1..1
    ok 1 - in
ok 3 - three
not ok 4 - four # TODO later
"""


@given(NAMES, st.binary(max_size=400))
def test_arbitrary_bytes_give_results(name: str, data: bytes) -> None:
    results = read(name, data)
    assert isinstance(results, Results)
    assert results.tests or results.problem or b"<testsuite" in data


@pytest.mark.parametrize("valid", [JUNIT, TAP], ids=["junit", "tap"])
@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_file_gives_results(valid: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(start, min(len(valid), start + 40)))
    put = data.draw(
        st.binary(max_size=20) | st.sampled_from([b"<", b"&", b"\x00", b"\x1b[", b"]]>", b"<!DOCTYPE a>", b"1..9"])
    )
    results = read("a", valid[:start] + put + valid[end:])
    assert isinstance(results, Results)
    assert all(clean_line(test.name, limit=500) == test.name for test in results.tests)


@pytest.mark.parametrize(("valid", "count"), [(JUNIT, 3), (TAP, 4)], ids=["junit", "tap"])
@pytest.mark.parametrize("name", ["a.xml", "a.tap", "results"])
def test_content_decides_before_the_extension(valid: bytes, count: int, name: str) -> None:
    results = read(name, valid)
    assert (len(results.tests), results.problem) == (count, "")


@pytest.mark.parametrize(("valid", "last"), [(JUNIT, b">"), (TAP, b"not ok")], ids=["junit", "tap"])
def test_a_file_cut_before_its_last_word_has_a_problem(valid: bytes, last: bytes) -> None:
    whole = [length for length in range(valid.rindex(last)) if not read("a", valid[:length]).problem]
    assert whole == []


def test_a_text_that_is_neither_is_refused() -> None:
    assert "neither JUnit XML nor TAP" in read("a.txt", b"hello world").problem
