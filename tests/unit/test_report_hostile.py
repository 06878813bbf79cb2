"""A guest that writes whatever it likes into every field that it controls."""

import json
import re

import jsonschema
import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.model import ArtifactRecord, AttemptKey, Blame, Outcome, RunRecord, TestResult, TestStatus, Verdict
from farm.report import FORMATS, document, render
from farm.report.document import schema
from farm.report.markdown import code, escape, fence
from farm.results import read
from tests.unit.records import cell_record, demo_run
from tests.unit.test_report_formats import Page

WORDS = ("machine", "cpu", "hypervisor_version", "image", "image_kind", "start_note")
"""Of the facts of a guest."""
NASTY = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7777*7777 }}{% raw %}]]><!-- --><?php ?>"
    "\x1b[31mred\x1b]0;title\x07\x00\x08\x9b1m\r\n"
    "````\n```\n`|`|**bold**|[link](http://evil.example)<b>|@everyone #1 https://evil.example www.evil.example\n"
    "# heading\n---\n\u202egnp.exe\u2066\u200b\ufeff\ud800\ufffe &lt;&#x3c;&amp;\\`\\|"
)


def hostile_run(nasty: str = NASTY) -> RunRecord:
    """Every text of a guest is the nasty one."""
    record = cell_record("s390x", "on")
    last = record.last
    assert last
    assert last.facts
    outcome = Outcome(
        verdict=Verdict.FAILED, blame=Blame.TEST, rule="tests-failed", summary=nasty, lines=(nasty, nasty)
    )
    facts = last.facts.model_copy(update=dict.fromkeys(WORDS, nasty) | {"layers": (nasty, nasty)})
    facts = facts.model_copy(update={"builder": facts})
    attempt = last.model_copy(
        update={
            "facts": facts,
            "outcome": outcome,
            "phases": tuple(phase.model_copy(update={"detail": nasty}) for phase in last.phases),
            "tests": tuple(
                TestResult(suite=nasty, name=nasty, classname=nasty, status=status, message=nasty, detail=nasty)
                for status in TestStatus
            ),
            "artifacts": (ArtifactRecord(path=nasty, bytes=1, sha256="0" * 64),),
        }
    )
    return demo_run(
        (record.model_copy(update={"outcome": outcome, "attempts": (attempt,)}), cell_record("amd64", "on"))
    )


def nasty_log(key: AttemptKey, name: str) -> bytes:
    return NASTY.encode("utf-8", "replace") + b"\xff\xfe"


FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff\ud800-\udfff\ufffe\uffff]")


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_carries_control_bidi_or_invisible_characters(name: str) -> None:
    text = render(name, hostile_run(), nasty_log)
    assert not FORBIDDEN.search(text)
    text.encode()


def test_the_document_stays_json_that_keeps_to_its_schema() -> None:
    jsonschema.validate(json.loads(render("json", hostile_run(), nasty_log)), json.loads(schema()))


def test_the_junit_stays_xml_with_right_counts() -> None:
    text = render("junit", hostile_run(), nasty_log)
    root = fromstring(text)
    assert not root.findall(".//script")
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("1", "1", "2")
    results = read("junit.xml", text.encode())
    assert results.problem == ""
    assert len(results.tests) == 4 + 40


def test_the_page_holds_no_element_of_the_guests() -> None:
    calm = Page(render("html", hostile_run("calm"), lambda _key, _name: b"calm"))
    page = Page(render("html", hostile_run(), nasty_log))
    assert page.open == []
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in calm.elements}
    attributes = {name for _, attributes in page.elements for name in attributes}
    assert attributes <= {name for _, attributes in calm.elements for name in attributes}
    assert all(link.startswith("#") for link in page.values("href"))
    assert str(7777 * 7777) not in render("html", hostile_run(), nasty_log)


def outside_of_code(text: str) -> str:
    """What Markdown would read as its own: the text without fences and code spans (CommonMark 4.5, 6.1)."""
    kept, fenced = [], ""
    for line in text.splitlines():
        ticks = re.match(r" {0,3}(`{3,})", line)
        if fenced:
            fenced = "" if ticks and len(ticks[1]) >= len(fenced) and line.strip() == ticks[1] else fenced
        elif ticks:
            fenced = ticks[1]
        else:
            kept.append(re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "CODE", line))
    assert not fenced
    return "\n".join(kept)


def test_the_summary_lets_nothing_of_the_guests_out_of_its_fences() -> None:
    text = outside_of_code(render("markdown", hostile_run(), nasty_log))
    for piece in ("script", "evil", "everyone", "bold", "heading", "img", "`"):
        assert piece not in text


@settings(max_examples=200)
@given(st.text(alphabet="`~ab \n|\\<", max_size=60))
def test_no_text_ends_its_fence_or_span(text: str) -> None:
    assert outside_of_code("before\n" + fence(text) + "after") == "before\nafter"
    assert outside_of_code(f"before {code(text)} after") == "before CODE after"


@given(st.text(max_size=60))
def test_escaped_text_means_nothing_but_itself(text: str) -> None:
    assert not re.search(r"[*_`\[\]()<>|\\!~@:$\n]", escape(text))
    assert "www." not in escape(text)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=300))
def test_any_text_makes_valid_reports(text: str) -> None:
    run = hostile_run(text)
    assert document(run).cells[0].outcome
    fromstring(render("junit", run, nasty_log))
    assert Page(render("html", run, nasty_log)).open == []
    outside_of_code(render("markdown", run, nasty_log))
