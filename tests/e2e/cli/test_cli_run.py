"""From a matrix to verdicts, reports and exit status, with scripted guests."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from defusedxml.ElementTree import parse

from tests.e2e.cli.conftest import Farm, fake, verdict

GOOD = "echo \"<testsuite name='unit'><testcase name='one'/><testcase name='two'/></testsuite>\" > result.xml\n"
BAD = "echo \"<testsuite name='unit'><testcase name='one'/><testcase name='two'><failure message='no'/></testcase></testsuite>\" > result.xml\n"  # noqa: E501
SKIPPED = "echo \"<testsuite name='unit'><testcase name='one'><skipped/></testcase></testsuite>\" > result.xml\n"

SCRIPTS = {
    "pass": GOOD + "echo hello from pass\n",
    "fail": BAD + "echo to-stderr >&2\nexit 1\n",
    "quiet": "exit 3\n",
    "slow": "echo before\nsleep 600\n",
    "crash": "echo c > /proc/sysrq-trigger\n",
}
BOOTS = ("panic", "hang", "refuse", "no-host")
EXPECTED = {
    "pass": ("passed", None, "passed"),
    "fail": ("failed", "test", "tests-failed"),
    "quiet": ("failed", "test", "script-failed"),
    "slow": ("failed", "test", "script-timeout"),
    "crash": ("failed", "guest", "crash-in-script"),
    "panic": ("error", "guest", "crash"),
    "hang": ("error", "infra", "start"),
    "refuse": ("error", "infra", "start"),
    "no-host": ("error", "infra", "host"),
}
HAPPY_CELL = "debian-13/amd64/fake/case=pass"


def scripts(**by_case: str) -> dict[str, str]:
    """Source files: the script of each case."""
    return {f"{case}.sh": script for case, script in by_case.items()}


def test_every_way_to_end_has_its_verdict_and_stands_in_every_report(farm: Farm) -> None:
    matrix = farm.matrix(
        files=scripts(**SCRIPTS),
        axes=fake(case=list(SCRIPTS)),
        include=[
            {"image": "debian-13", "arch": "amd64", "hypervisor": "fake", "case": boot, "FAKE_BOOT": boot}
            for boot in BOOTS
        ],
        test=". ./$CASE.sh\n",
        collect={"junit": ["result.xml"]},
        timeouts={"boot": 2, "test": 2},
    )
    ended = farm("run", matrix)
    assert ended.status == 1, ended.err
    cells = farm.cells()
    assert {case: verdict(cell) for case, cell in cells.items()} == EXPECTED
    tries = {case: len(cell["attempts"]) for case, cell in cells.items()}
    assert tries == {case: 2 if blame == "infra" else 1 for case, (_, blame, _) in EXPECTED.items()}
    assert "9 cells" in ended.out
    assert "1 passed, 4 failed, 4 error of 9 cells" in ended.out
    assert "farm run m.yaml --only" in ended.out
    check_files(farm)
    check_commands(farm)


def check_files(farm: Farm) -> None:
    folder = farm.folder / "farm-report"
    root = parse(folder / "junit.xml").getroot()
    assert root is not None
    counts = root.attrib
    assert (counts["tests"], counts["failures"], counts["errors"]) == ("11", "4", "4")
    assert "1 of 9 cells passed" in (folder / "summary.md").read_text()
    page = (folder / "index.html").read_text()
    assert all(f"case={case}" in page for case in EXPECTED)


def check_commands(farm: Farm) -> None:
    runs = farm("runs")
    assert "e2e-1" in runs.out
    assert "finished" in runs.out
    again = farm("report", "latest", "--out", "again")
    assert again.status == 0
    assert (farm.folder / "again/report.json").read_text() == (farm.folder / "farm-report/report.json").read_text()
    assert farm("logs", "latest", HAPPY_CELL, "test").out == "hello from pass\n"
    assert "fake: booting" in farm("logs", "latest", HAPPY_CELL, "console").out
    assert farm("logs", "latest", "debian-13/*/fake/case=fail", "test").out == "to-stderr\n"
    every = farm("logs", "e2e-1", HAPPY_CELL)
    assert every.out.startswith("== test\nhello from pass\n== console\n")
    nothing = farm("logs", "latest", "debian-12", "test")
    assert nothing.status == 2
    assert "no cell matches" in nothing.err


def test_a_cell_that_may_fail_does_not_fail_the_run(farm: Farm) -> None:
    matrix = farm.matrix(
        files=scripts(good="echo good\n", bad="exit 3\n"),
        axes=fake(case=["good", "bad"]),
        test=". ./$CASE.sh\n",
        continue_on_error=[{"case": "bad"}],
    )
    ended = farm("run", matrix, "--out", "here")
    assert ended.status == 0, ended.err
    assert {case: cell["outcome"]["verdict"] for case, cell in farm.cells("here").items()} == {
        "good": "passed",
        "bad": "failed",
    }


def test_a_pass_after_a_failure_is_shown_as_flaky_everywhere(farm: Farm) -> None:
    matrix = farm.matrix(
        files=scripts(
            flaky='test "$FARM_ATTEMPT" != 1\n' + GOOD,
            broken=BAD + "exit 1\n",
            good=GOOD,
        ),
        axes=fake(case=["flaky", "broken", "good"]),
        test=". ./$CASE.sh\n",
        collect={"junit": ["result.xml"]},
        retries={"test": 1},
        continue_on_error=[{"case": "broken"}],
    )
    ended = farm("run", matrix, "--junit", "out.xml")
    assert ended.status == 0, ended.err
    cells = farm.cells()
    assert {case: verdict(cell) for case, cell in cells.items()} == {
        "flaky": ("passed", None, "flaky"),
        "broken": ("failed", "test", "tests-failed"),
        "good": ("passed", None, "passed"),
    }
    assert {case: [verdict(one)[0] for one in cell["attempts"]] for case, cell in cells.items()} == {
        "flaky": ["failed", "passed"],
        "broken": ["failed", "failed"],
        "good": ["passed"],
    }
    assert [case for case, cell in cells.items() if cell["outcome"]["flaky"]] == ["flaky"]
    assert "flaky" in ended.out
    for file in ("out.xml", "farm-report/junit.xml"):
        assert [failure.get("type") for failure in flaky_failures(farm, file)] == ["script-failed"]
    assert "flaky" in (farm.folder / "farm-report/summary.md").read_text()
    assert "1 of these flaky" in farm("runs").out
    told = farm("explain", "latest", "debian-13/amd64/fake/case=flaky")
    assert told.status == 0
    assert "It is flaky" in told.out


def flaky_failures(farm: Farm, file: str) -> list[Element]:
    root = parse(farm.folder / file).getroot()
    assert root is not None
    return root.findall(".//flakyFailure")


def test_results_that_were_promised_and_are_not_there_are_an_error(farm: Farm) -> None:
    matrix = farm.matrix(axes=fake(), test="echo fine\n", collect={"junit": ["result.xml"]})
    assert farm("run", matrix).status == 2
    (cell,) = farm.cells().values()
    assert verdict(cell) == ("error", "test", "results-missing")
    assert len(cell["attempts"]) == 1


def test_a_run_of_which_every_test_was_skipped_has_run_nothing(farm: Farm) -> None:
    matrix = farm.matrix(axes=fake(), test=SKIPPED, collect={"junit": ["result.xml"]})
    assert farm("run", matrix).status == 3
    (cell,) = farm.cells().values()
    assert verdict(cell) == ("skipped", None, "all-skipped")


def test_a_selection_that_matches_nothing_is_an_error_with_the_nearest_cells(farm: Farm) -> None:
    ended = farm("run", farm.matrix(axes=fake()), "--only", "debian-12/*")
    assert ended.status == 2
    assert "cannot select 'debian-12/*': no cell matches" in ended.err
    assert "debian-13/amd64/fake" in ended.err
    assert "e2e-1" not in farm("runs").out


def test_a_plan_shows_cells_hosts_and_what_was_excluded_and_starts_nothing(farm: Farm) -> None:
    matrix = farm.matrix(
        axes=fake(hypervisor=["fake", "qemu"], bug=["off", "on"]), exclude=[{"hypervisor": "fake", "bug": "on"}]
    )
    ended = farm("plan", matrix)
    assert ended.status == 0, ended.err
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.startswith("debian-13/")}
    assert set(lines) == {f"debian-13/amd64/{way}/bug={bug}" for way in ("fake", "qemu") for bug in ("off", "on")}
    assert "qemu (emulated)" in lines["debian-13/amd64/qemu/bug=on"]
    assert "excluded" in lines["debian-13/amd64/fake/bug=on"]
    assert "exclude" in lines["debian-13/amd64/fake/bug=on"].partition("excluded")[2]
    assert farm.left_behind() == []
    assert "e2e-1" not in farm("runs").out


def test_a_plan_with_a_cell_that_fits_nowhere_says_why(farm: Farm) -> None:
    ended = farm("plan", farm.matrix(axes=fake(arch=["amd64", "s390"])))
    assert ended.status == 2
    assert "no host knows the architecture 's390'" in ended.out
    assert "s390x" in ended.out
