import csv
import io
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from farm.model import State
from farm.report.document import document
from farm.report.statement import statement
from farm.report.statement_formats import STATEMENT_FORMATS, to_csv, to_html, to_json, to_markdown
from farm.report.support import Statement
from tests.unit.documents import cell, report
from tests.unit.records import START, demo_run
from tests.unit.test_report_formats import Page
from tests.unit.test_report_hostile import FORBIDDEN, NASTY, hostile_run, outside_of_code
from tests.unit.test_waivers import waiver

NOW = START + timedelta(days=3)
AMD, S390X, RISCV = "debian-13/amd64", "debian-13/s390x", "debian-13/riscv64"


def made() -> Statement:
    """Each status once."""
    release = report(
        cell(AMD, "passed", {"a": "passed"}),
        cell(S390X, "failed", {"a": "failed: wrong"}),
        cell(RISCV, "failed", {"a": "failed: wrong"}),
        cell("debian-12/amd64", "infra"),
    )
    waivers = [
        waiver(RISCV, "a", link="https://bugs.example/1", reason="big endian <b>"),
        waiver("sid", number=2, expires=START),
    ]
    return statement(release, now=NOW, waivers=waivers, baseline=report(id="demo-2"), max_age_days=30)


def hostile() -> Statement:
    reason = NASTY.encode("utf-8", "replace").decode()
    return statement(document(hostile_run()), now=NOW, waivers=[waiver("**", "*", reason=reason)])


def empty() -> Statement:
    return statement(report(state=State.RUNNING), now=NOW)


@pytest.mark.parametrize("name", STATEMENT_FORMATS)
@pytest.mark.parametrize("build", [made, hostile, empty])
def test_no_format_carries_control_or_invisible_characters(name: str, build: Callable[[], Statement]) -> None:
    text = STATEMENT_FORMATS[name].render(build())
    assert text.endswith("\n") or name == "html"
    assert not FORBIDDEN.search(text)


def test_the_json_reads_back() -> None:
    assert Statement.model_validate_json(to_json(made())) == made()
    assert json.loads(to_json(made()))["counts"] == {
        "all": 4,
        "supported": 1,
        "supported_with_waivers": 1,
        "not_supported": 1,
        "not_known": 1,
    }


def test_the_csv_has_a_line_for_each_platform() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(made()))))
    assert [(row["platform"], row["status"], row["tests"], row["waivers"], row["axis:arch"]) for row in rows] == [
        (AMD, "supported", "1", "", "amd64"),
        (S390X, "not_supported", "1", "", "s390x"),
        (RISCV, "supported_with_waivers", "1", "1", "riscv64"),
        ("debian-12/amd64", "not_known", "", "", "amd64"),
    ]
    assert rows[2]["reasons"].startswith("waived: 1 of 1 test failed: suite › a; emulated: by qemu")


def test_the_markdown_says_all_of_it() -> None:
    text = to_markdown(made())
    assert "**Supported on 2 of 4 platforms, 1 of them with waivers; 1 not supported, 1 not known.**" in text.replace(
        "&#46;", "."
    ).replace("&#59;", ";")
    assert text.count("| ✘ not supported |") == text.count("| ? not known |") == text.count("| ✔ supported |") == 1
    assert "never used" in text
    assert "expired" in text


def test_the_markdown_lets_nothing_of_the_guests_out() -> None:
    text = outside_of_code(to_markdown(hostile()))
    for piece in ("<script", "**bold", "](http", "`", "@everyone"):
        assert piece not in text


def test_the_page_is_well_formed_and_asks_nobody_for_anything() -> None:
    for build in (made, hostile, empty):
        page = Page(to_html(build()))
        assert page.open == []
        assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "form", "object", "base"}
        assert all(link.startswith("https://") for link in page.values("href"))
        policy = next(attributes["content"] for _, attributes in page.elements if attributes.get("http-equiv"))
        assert policy
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_the_page_says_every_status_in_words() -> None:
    text = to_html(made())
    for status in ("supported", "supported with waivers", "not supported", "not known"):
        css = status.replace(" ", "_")
        assert text.count(f'<span class="tag {css}">{status}</span>') == 1
        assert f'<span class="tag {css}">1 {status}</span>' in text
    assert "big endian &lt;b&gt;" in text
    assert '<a href="https://bugs.example/1" rel="noopener noreferrer">' in text
    assert "None" not in text


def test_the_page_is_made_for_paper_and_for_the_dark() -> None:
    text = to_html(made())
    for rule in ("@page { size: A4;", "@media print", "prefers-color-scheme: dark", "table-header-group"):
        assert rule in text


def test_an_unfinished_run_says_so() -> None:
    assert "The run is not finished." in to_html(empty())
    assert "The run is not finished." not in to_html(made())


def test_the_statement_of_the_demo_names_the_big_endian_cell() -> None:
    found = statement(document(demo_run()), now=NOW)
    assert found.headline == "Supported on 4 of 6 platforms; 2 not supported."
    assert "2 of 39 tests failed: swap › libwire.swap › load_be32" in to_html(found)


def test_a_version_is_named_wherever_the_release_is() -> None:
    submission = demo_run().submission.model_copy(update={"version": "2.1-rc1"})
    found = statement(report(submission=submission), now=NOW, baseline=report(submission=submission, id="demo-2"))
    for name in ("text", "markdown", "html"):
        assert "2.1-rc1" in STATEMENT_FORMATS[name].render(found)
