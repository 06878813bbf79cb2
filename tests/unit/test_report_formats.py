from collections import Counter
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring

from farm.errors import ConfigError, NotFoundError
from farm.model import AttemptKey, CellRecord, GuestSpec, Outcome, RunRecord, State, TestResult, TestStatus, Verdict
from farm.report import FORMATS, document, put, render
from farm.report.page import bars, limits
from farm.report.words import duration, size
from farm.results import read
from tests.unit.records import START, attempt, cell_record, demo_run, read_log


def no_logs(key: AttemptKey, name: str) -> bytes:
    raise NotFoundError(f"cannot read the log {name} of {key}: there is none")


def test_every_format_has_a_file_of_its_own() -> None:
    assert [form.file for form in FORMATS.values()] == [
        "report.json",
        "junit.xml",
        "summary.md",
        "index.html",
        "ctrf.json",
        "results.csv",
        "badge.svg",
    ]


def test_a_report_is_written_over_an_older_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("old", "new"):
        assert put(tmp_path / "summary.md", text) == tmp_path / "summary.md"
    assert list(tmp_path.iterdir()) == [tmp_path / "summary.md"]
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == "new"


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*/file/report"):
        put(tmp_path / "file" / "report", "text")


def test_an_unknown_format_is_told_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no such format") as error:
        render("pdf", demo_run(), read_log)
    assert error.value.hint == "known: json, junit, markdown, html, ctrf, csv, badge"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_a_run_without_cells_guests_or_logs(name: str) -> None:
    queued = cell_record("s390x", "off").model_copy(update={"state": State.QUEUED, "outcome": None, "attempts": ()})
    bare = cell_record("s390x", "off").attempts[0].model_copy(update={"facts": None, "phases": (), "tests": ()})
    running = cell_record("amd64", "off").model_copy(
        update={"state": State.RUNNING, "outcome": None, "attempts": (bare.model_copy(update={"finished": None}),)}
    )
    for cells in ((), (queued,), (running, queued)):
        assert render(name, demo_run(cells, state=State.RUNNING, finished=None), no_logs)


# JUnit


def reread(run: RunRecord) -> tuple[TestResult, ...]:
    results = read("junit.xml", render("junit", run, no_logs).encode())
    assert results.problem == ""
    return results.tests


def test_the_merged_junit_reads_back_with_the_same_numbers() -> None:
    run = demo_run()
    counts = Counter(test.status for test in reread(run))
    tests = document(run).run.tests
    assert counts == {
        TestStatus.PASSED: tests.passed,
        TestStatus.FAILED: tests.failed,
        TestStatus.SKIPPED: tests.skipped,
        TestStatus.ERROR: 1,  # the cell that panicked without any tests
    }


def test_the_merged_junit_counts_right_in_every_suite() -> None:
    root = fromstring(render("junit", demo_run(), no_logs))
    marks = {"tests": ".//testcase", "failures": ".//failure", "errors": ".//error", "skipped": ".//skipped"}
    for element in (root, *root.iter("testsuite")):
        for attribute, path in marks.items():
            assert int(element.get(attribute)) == len(element.findall(path))
    for suite in root:
        assert suite[0].tag == "properties"
        assert suite.get("name").split(": ")[0] in {cell.id for cell in demo_run().cells}


def test_a_suite_carries_what_its_cell_was() -> None:
    root = fromstring(render("junit", demo_run(), no_logs))
    suite = next(suite for suite in root if suite.get("name") == "debian-13/s390x/bug=on: swap")
    found = {entry.get("name"): entry.get("value") for entry in suite.find("properties")}
    assert (found["hypervisor"], found["emulated"], found["blame"], found["verdict"]) == (
        "qemu",
        "true",
        "test",
        "failed",
    )


def with_outcome(verdict: Verdict | None, *, tests: tuple[TestResult, ...] = ()) -> CellRecord:
    record = cell_record("amd64", "off")
    outcome = Outcome(verdict=verdict, rule="some-rule", summary="said so", lines=("because",)) if verdict else None
    changed = attempt(record.placement.cell, 1, outcome, tests=tests)
    return record.model_copy(update={"outcome": outcome, "attempts": (changed,)})


ONE = TestResult(suite="s", name="t", status=TestStatus.PASSED)
STANDING_ALONE = {
    Verdict.FAILED: TestStatus.FAILED,
    Verdict.ERROR: TestStatus.ERROR,
    Verdict.CANCELLED: TestStatus.SKIPPED,
    Verdict.SKIPPED: TestStatus.SKIPPED,
    None: TestStatus.SKIPPED,
}


@pytest.mark.parametrize(("verdict", "status"), STANDING_ALONE.items())
@pytest.mark.parametrize("tests", [(), (ONE,)])
def test_a_cell_whose_tests_do_not_tell_its_verdict_gets_a_test_that_does(
    verdict: Verdict | None, status: TestStatus, tests: tuple[TestResult, ...]
) -> None:
    found = reread(demo_run((with_outcome(verdict, tests=tests),)))
    assert [test.status for test in found] == [test.status for test in tests] + [status]
    assert found[-1].classname == "debian-13/amd64/bug=off"


def test_a_passed_cell_without_tests_is_seen() -> None:
    (test,) = reread(demo_run((with_outcome(Verdict.PASSED),)))
    assert test.status is TestStatus.PASSED


def test_the_test_of_a_cell_is_named_after_the_phase_and_holds_the_lines() -> None:
    found = [test for test in reread(demo_run()) if test.status is TestStatus.ERROR]
    assert [(test.name, test.message) for test in found] == [("build", "the guest's kernel panicked during build")]
    assert "Kernel panic - not syncing" in found[0].detail


# Markdown


def test_the_summary_has_a_headline_a_table_and_the_command_to_rerun() -> None:
    text = render("markdown", demo_run(), no_logs)
    assert text.startswith("# demo-3: 4 of 6 cells passed, 1 failed, 1 ended in an error\n")
    assert "| s390x | qemu, emulated | ✔ passed, 40 tests | **✘ failed** (test), 2 of 40 tests failed |" in text
    assert "```sh\nfarm run matrices/demo.yaml --only debian-13/s390x/bug=on\n```" in text
    assert "expected 0x01020304, got 0x04030201" in text
    assert demo_run().submission.source.digest in text


# HTML


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


def test_the_page_is_well_formed_and_asks_nobody_for_anything() -> None:
    page = Page(render("html", demo_run(), read_log))
    assert page.open == []
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "form", "object", "base"}
    assert not page.values("src")
    policy = next(attributes["content"] for _, attributes in page.elements if attributes.get("http-equiv"))
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_every_link_of_the_page_leads_to_a_cell_of_it() -> None:
    page = Page(render("html", demo_run(), read_log))
    assert {link.removeprefix("#") for link in page.values("href")} == set(page.values("id"))
    assert len(page.values("id")) == len(set(page.values("id"))) == 6


def test_the_page_says_every_verdict_in_words() -> None:
    text = render("html", demo_run(), read_log)
    assert "<h1>4 of 6 cells passed, 1 failed, 1 ended in an error.</h1>" in text
    assert text.count('<span class="tag passed">passed</span>') == 4
    assert "emulated: every instruction in software" in text
    assert "Attempt 1: error (infra)" in text
    assert "farm run matrices/demo.yaml --only debian-13/s390x/bug=on" in text


def test_a_long_log_shows_its_end_and_says_what_is_missing() -> None:
    text = render("html", demo_run(), read_log)
    assert "ok 5999 - pack.field_5999" in text
    assert "ok 0 - pack.field_00" not in text
    assert "KiB are left out" in text


def test_the_timeline_stays_within_its_track() -> None:
    part = document(demo_run()).cells[0].attempts[0]
    made = bars(part)
    assert made[0].left == 0
    assert [bar.left for bar in made] == sorted(bar.left for bar in made)
    assert all(bar.left + bar.width <= 100.7 for bar in made)


def test_phases_at_odd_times_make_no_broken_bars() -> None:
    record = cell_record("amd64", "off")
    assert record.last
    phases = tuple(
        phase.model_copy(update={"started": START - timedelta(days=number), "duration_s": None})
        for number, phase in enumerate(record.last.phases)
    )
    changed = record.model_copy(update={"attempts": (record.last.model_copy(update={"phases": phases}),)})
    made = bars(document(demo_run((changed,))).cells[0].attempts[0])
    assert all(0 <= bar.left <= 100 and 0 < bar.width <= 100 for bar in made)


def test_a_large_run_keeps_the_page_within_bounds() -> None:
    failing = tuple(
        TestResult(
            suite="s", name=f"t{n}", status=TestStatus.FAILED if n % 2 else TestStatus.PASSED, detail="x" * 30_000
        )
        for n in range(100)
    )
    cells = tuple(with_outcome(Verdict.FAILED, tests=failing) for _ in range(100))
    run = demo_run(cells)
    most = limits(document(run))
    assert (most.good_tests, most.bad_tests) == (200, 200)
    log = b"a line of a log\n" * 100_000
    page = render("html", run, lambda _key, _name: log)
    assert 1_000_000 < len(page) < 30_000_000
    assert "characters left out" in page


def unmeasured() -> RunRecord:
    record = cell_record("amd64", "off")
    assert record.last
    bare = record.last.model_copy(update={"usage": None})
    return demo_run((record.model_copy(update={"attempts": (bare,)}),))


def test_the_page_and_the_summary_say_what_the_guests_used() -> None:
    page, summary = (render(name, demo_run(), read_log) for name in ("html", "markdown"))
    assert page.count("<dt>CPU time</dt><dd>17 s</dd>") == 7  # each attempt
    assert "<dt>Disk</dt><dd>30.0 MiB read, 5.0 MiB written</dd>" in page
    assert "<dt>Network, as it says itself</dt><dd>96.0 KiB received</dd>" in page
    assert page.count("<td>231 MiB</td>") == 6  # each cell
    line = "| debian-13/s390x/bug=on | restored | 21 s | 17 s | 231 MiB | 30.0 MiB read, 5.0 MiB written |"
    assert f"{line} 96.0 KiB received |" in summary


def test_what_is_not_known_is_not_made_up() -> None:
    for name in ("html", "markdown"):
        text = render(name, unmeasured(), no_logs)
        assert "What the guest" not in text
        assert "None" not in text
        assert "estimate" not in text


def test_the_page_says_how_a_guest_was_made_and_limited() -> None:
    text = render("html", demo_run(guest=GuestSpec.model_validate({"cpu": "50%", "disk-bandwidth": "512K"})), read_log)
    assert "<dd>50% of a CPU, disk 512.0 KiB/s</dd>" in text
    assert "<dd>restored from a snapshot (shared)</dd>" in text
    assert "<dd>cold boot (the snapshot could not be saved)</dd>" in text
    assert "<dd>computing 8.2×, starting programs 19×, disk 3.2×</dd>" in text
    assert "<dd>debian-13/s390x, unpacked</dd>" in text
    assert "wire-headers" in text


def test_an_estimate_is_called_one() -> None:
    text = render("html", demo_run((cell_record("s390x", "off"),)), read_log)
    assert "<small>≈ 0.31 s native</small>" in text
    assert "≈ is an estimate: the time of the script, divided by 19.0" in text


DURATIONS = {
    None: "",
    0.004: "0.004 s",
    0.25: "0.25 s",
    3.14: "3.1 s",
    42.4: "42 s",
    59.7: "1 min 00 s",
    185: "3 min 05 s",
    3720: "1 h 02 min",
}


@pytest.mark.parametrize(("seconds", "text"), DURATIONS.items())
def test_durations_as_a_person_reads_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_as_a_person_reads_them() -> None:
    assert [size(812), size(1536), size(2 * 1024 * 1024)] == ["812 bytes", "1.5 KiB", "2.0 MiB"]
    assert [size(None), size(0), size(3 * 1024**3), size(1024**4)] == ["", "0 bytes", "3.0 GiB", "1024.0 GiB"]
