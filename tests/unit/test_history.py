"""What many runs of a project say together, from a real store."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, event

from farm import verdict
from farm.cli.history_tables import cells_table
from farm.errors import NotFoundError
from farm.model import RESERVATION, Blame, CellRecord, Outcome, RunQuery, Verdict
from farm.model.history import Rank, TestQuery, TestTrend
from farm.report import Document, evidence
from farm.report.evidence import Key, Standing
from farm.store import Store
from farm.store.history import History
from farm.tables import runs_table
from tests.conftest import DATABASES, url_of
from tests.unit.documents import cell, cells, report
from tests.unit.records import facts
from tests.unit.seeded import seed, seed_many

AMD, RISCV, S390X = "debian-13/amd64", "debian-13/riscv64", "debian-13/s390x"
_numbers = count(1)


@pytest.fixture(scope="module", params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Shared: every test has a project of its own."""
    folder = tmp_path_factory.mktemp("history")
    opened = Store.open(url_of(request, folder), folder)
    yield opened
    opened.close()


@pytest.fixture
def history(store: Store) -> History:
    return History(store.engine)


@pytest.fixture
def project() -> str:
    return f"project{next(_numbers)}"


def trend(history: History, project: str, name: str, **how: Any) -> TestTrend:
    (found,) = history.tests(project, last=how.pop("last", 50), name=name, **how).tests
    return found


# --- results of one test ----------------------------------------------------------------------------


@pytest.fixture
def three_runs(store: Store, project: str) -> list[str]:
    """Version 1 twice and version 2 once; s390x has another image in the last."""
    other = facts("s390x").model_copy(update={"image_digest": "sha256:other", "host": "builder-2"})
    both = {"net/connect": "passed", "disk/connect": "passed", "other": "passed"}
    return [
        seed(store, cell(AMD, "passed", both), cell(S390X, "passed", both), project=project, version="1"),
        seed(store, cell(AMD, "passed", both), cell(S390X, "infra", both), project=project, version="1", days=1),
        seed(
            store,
            cell(AMD, "passed", both, before=[{"net/connect": "failed: late"}]),
            cell(S390X, "failed", both | {"net/connect": "failed: refused"}, guest=other),
            project=project,
            version="2",
            days=2,
        ),
    ]


def test_results_come_newest_run_first_and_by_the_order_of_cells(
    history: History, project: str, three_runs: list[str]
) -> None:
    found = history.results(TestQuery(project=project, name="connect", suite="net"))
    first, second, third = three_runs
    assert [(hit.run, hit.cell, hit.attempt, hit.status) for hit in found] == [
        (third, AMD, 2, "passed"),
        (third, S390X, 1, "failed"),
        (second, AMD, 1, "passed"),
        (first, AMD, 1, "passed"),
        (first, S390X, 1, "passed"),
    ]
    last = found[1]
    assert (last.host, last.image_digest, last.version, last.message) == ("builder-2", "sha256:other", "2", "refused")
    assert (last.hypervisor, last.emulated, last.image) == ("qemu", True, "debian-13/s390x")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, 10),
        ({"suite": "disk"}, 5),
        ({"suite": "none"}, 0),
        ({"classname": "none"}, 0),
        ({"cell": "*/s390x"}, 4),
        ({"cell": "debian-13"}, 10),
        ({"arch": "s390x"}, 4),
        ({"arch": "390x"}, 0),
        ({"arch": "%"}, 0),
        ({"version": "1"}, 6),
        ({"version": "2", "arch": "amd64"}, 2),
        ({"image_digest": "sha256:other"}, 2),
        ({"limit": 3}, 3),
        ({"before": 10**9}, 0),
    ],
    ids=str,
)
@pytest.mark.usefixtures("three_runs")
def test_results_are_those_that_are_asked_for(
    history: History, project: str, wanted: dict[str, Any], expected: int
) -> None:
    assert len(history.results(TestQuery(project=project, name="connect", **wanted))) == expected


@pytest.mark.usefixtures("three_runs")
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_pages_give_every_result_once_in_the_same_order(history: History, project: str, size: int) -> None:
    whole = history.results(TestQuery(project=project, name="connect"))
    found, last = [], None
    while page := history.results(TestQuery(project=project, name="connect", limit=size, before=last)):
        found += page
        last = page[-1].id
    assert tuple(found) == whole


def test_a_cell_that_is_not_finished_has_no_results_yet(store: Store, history: History, project: str) -> None:
    seed(store, cell(AMD, "passed", {"a": "passed"}), cell(S390X, "unfinished"), project=project, finished=False)
    assert [hit.cell for hit in history.results(TestQuery(project=project, name="a"))] == [AMD]


# --- tallies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("passed", "failed", 1),
        ("failed", "passed", 1),
        ("error", "passed", 1),
        ("failed", "error", 0),
        ("passed", "passed", 0),
        ("skipped", "failed", 0),
        ("failed", "skipped", 0),
    ],
)
def test_a_change_is_from_passed_to_failed_or_back(
    *, store: Store, history: History, project: str, before: str, after: str, changed: int
) -> None:
    for days, status in enumerate((before, after)):
        seed(store, cell(AMD, "passed", {"a": status}), project=project, days=days)
    assert trend(history, project, "a", last=1).changed == changed


def test_a_result_is_compared_with_the_last_run_in_which_its_cell_gave_one(
    store: Store, history: History, project: str
) -> None:
    seed(store, cell(AMD, "passed", {"a": "passed"}), project=project)
    seed(store, cell(AMD, "infra", {"a": "failed"}), project=project, days=1)
    seed(store, cell(S390X, "failed", {"a": "failed"}), project=project, days=2)
    seed(store, cell(AMD, "failed", {"a": "failed"}), project=project, days=3)
    assert trend(history, project, "a", last=1).changed == 1
    assert trend(history, project, "a").changed == 1


@pytest.mark.parametrize(
    ("first_tries", "last", "flaked"),
    [
        ([], "passed", 0),
        ([{"a": "failed"}], "passed", 1),
        ([{"a": "failed"}, {"a": "error"}], "passed", 1),
        ([{"a": "passed"}], "passed", 0),
        ([{"a": "failed"}], "failed", 0),
        ([], "passed: passed only after 1 failure", 1),
    ],
    ids=str,
)
def test_a_flake_passes_only_after_it_failed(
    *, store: Store, history: History, project: str, first_tries: list[dict[str, str]], last: str, flaked: int
) -> None:
    seed(store, cell(AMD, "passed", {"a": last}, before=first_tries), project=project)
    assert trend(history, project, "a").flaked == flaked


def test_another_test_of_the_same_name_is_another_one(store: Store, history: History, project: str) -> None:
    for days, (one, other) in enumerate([("passed", "failed"), ("passed", "passed")]):
        seed(store, cell(AMD, "failed", {"x/a": one, "y/a": other}), project=project, days=days)
    found = history.tests(project, last=10, name="a").tests
    assert [(one.suite, one.passed, one.failed, one.changed) for one in found] == [("x", 2, 0, 0), ("y", 1, 1, 1)]


def counted(report_: Document) -> dict[Key, Counter[Standing]]:
    """What a report says of each test, over its cells."""
    found: dict[Key, Counter[Standing]] = {}
    for one in report_.cells:
        for key, test in evidence.results(one).items():
            found.setdefault(key, Counter())[evidence.status(test)] += 1
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sets(st.sampled_from((AMD, RISCV, S390X)), min_size=1), min_size=1, max_size=4), st.data())
def test_tallies_say_what_the_reports_of_the_runs_say(
    store: Store, runs: Sequence[set[str]], data: st.DataObject
) -> None:
    project, history = f"project{next(_numbers)}", History(store.engine)
    expected: dict[Key, Counter[Standing]] = {}
    flaky: Counter[Key] = Counter()
    for days, ids in enumerate(runs):
        records: list[CellRecord] = [data.draw(cells(one)) for one in sorted(ids)]
        made = report(*records)
        for key, statuses in counted(made).items():
            expected.setdefault(key, Counter()).update(statuses)
        flaky.update(key for one in made.cells for key in evidence.flaky(one))
        seed(store, *records, project=project, days=days)
    found = {Key(one.suite, one.classname, one.name): one for one in history.tests(project, last=50, limit=1000).tests}
    assert found.keys() == expected.keys()
    for key, one in found.items():
        of = expected[key]
        assert (one.passed, one.failed, one.skipped) == (
            of[Standing.PASSED],
            of[Standing.FAILED],
            of[Standing.SKIPPED],
        )
        assert one.flaked == flaky[key]


# --- trends -----------------------------------------------------------------------------------------


def test_the_flakiest_test_comes_first_and_one_that_never_changed_not_at_all(
    store: Store, history: History, project: str
) -> None:
    for days in range(6):
        odd = "failed" if days % 2 else "passed"
        once = "failed" if days > 3 else "passed"
        tests = {"odd": odd, "broke": once, "good": "passed", "bad": "failed"}
        seed(store, cell(AMD, "failed", tests), project=project, days=days)
    found = history.tests(project, last=50, rank=Rank.FLAKY).tests
    assert [(one.name, one.changed, round(one.flakiness, 3)) for one in found] == [
        ("odd", 5, 0.833),
        ("broke", 1, 0.167),
    ]


def durations(*seconds: float) -> Iterator[CellRecord]:
    for number in seconds:
        made = cell(AMD, "passed", {"slow": "passed", "quick": "passed", "left out": "skipped"})
        (last,) = made.attempts
        tests = tuple(
            test.model_copy(update={"duration_s": number if test.name != "quick" else 0.5}) for test in last.tests
        )
        yield made.model_copy(update={"attempts": (last.model_copy(update={"tests": tests}),)})


def test_durations_are_told_for_each_run_and_as_a_trend(store: Store, history: History, project: str) -> None:
    for days, record in enumerate(durations(1, 1, 2, 2)):
        seed(store, record, project=project, days=days)
    seed(store, cell(S390X, "passed", {"another": "passed"}), project=project, days=9)
    found = history.tests(project, last=50, rank=Rank.SLOW)
    assert [one.name for one in found.tests] == ["slow", "quick", "another", "left out"]
    slow, quick, another, skipped = found.tests
    assert (slow.mean_s, slow.longest_s, slow.means_s, slow.slower) == (1.5, 2, (1, 1, 2, 2, None), 2)
    assert (quick.slower, another.slower) == (1, None)
    assert (skipped.mean_s, skipped.means_s, skipped.skipped, skipped.runs) == (0, (None,) * 5, 4, 4)
    assert len(found.runs) == 5


def test_only_the_last_finished_runs_count_for_tests(store: Store, history: History, project: str) -> None:
    old, new = (seed(store, cell(AMD, "passed", {"a": "passed"}), project=project, days=days) for days in (0, 1))
    seed(store, cell(AMD, "unfinished"), project=project, days=2, finished=False)
    assert [run.id for run in history.tests(project, last=1).runs] == [new]
    assert [run.id for run in history.tests(project, last=9).runs] == [old, new]
    assert trend(history, project, "a", last=1).runs == 1


def test_cells_are_told_for_each_run_and_where_a_run_has_none_nothing(
    store: Store, history: History, project: str
) -> None:
    seed(store, cell(AMD, "passed"), cell(S390X, "failed"), project=project)
    seed(store, cell(S390X, "passed", before=[{}]), project=project, days=1)
    seed(store, cell(RISCV, "config"), cell(AMD, "unfinished"), project=project, days=2, finished=False)
    found = history.cells(project, last=3)
    told = {
        one.cell: [(point.verdict, point.attempts) if point else None for point in one.points] for one in found.cells
    }
    assert told == {
        RISCV: [None, None, (Verdict.ERROR, 0)],
        AMD: [(Verdict.PASSED, 1), None, (None, 0)],
        S390X: [(Verdict.FAILED, 1), (Verdict.PASSED, 2), None],
    }
    first = found.cells[1].points[0]
    assert first
    assert first.duration_s
    assert [one.cell for one in history.cells(project, last=1, cell="*/amd64").cells] == [AMD]


def test_a_flaky_cell_is_not_told_as_one_that_passed(store: Store, history: History, project: str) -> None:
    """Neither in the history of a project, nor in the list of runs; a retry alone is no flake."""
    failed = Outcome(verdict=Verdict.FAILED, blame=Blame.TEST, summary="test: exit 3")
    flaky = cell(RISCV, "passed", before=[{}]).model_copy(update={"outcome": verdict.flaky([failed], 2)})
    seed(store, cell(AMD, "passed"), cell(S390X, "passed", before=[{}]), flaky, project=project)
    found = history.cells(project, last=1)
    told = {one.cell: [point and point.flaky for point in one.points] for one in found.cells}
    assert told == {AMD: [False], S390X: [False], RISCV: [True]}
    (summary,) = store.runs(RunQuery(project=project))
    assert (summary.verdicts, summary.flaky) == ({Verdict.PASSED: 3}, 1)
    shown = [line.split()[:3] for line in printed(cells_table(found)).splitlines()[1:]]
    assert shown == [[AMD, ".", "1/1"], [S390X, ".", "1/1"], [RISCV, "~", "0/1"]]
    assert "3 passed, 1 of these flaky" in printed(runs_table([summary]))


def printed(table: Table) -> str:
    screen = Console(file=io.StringIO(), width=160)
    screen.print(table)
    return str(screen.file.getvalue())  # type: ignore[attr-defined]


# --- projects and runs ------------------------------------------------------------------------------


def test_a_project_is_told_with_its_newest_run(store: Store, history: History, project: str) -> None:
    seed(store, cell(AMD, "passed"), project=project, version="1")
    seed(store, cell(AMD, "failed"), project=project, version="2", days=1)
    found = {one.project: one for one in history.projects()}[project]
    assert (found.runs, found.passed, found.newest, found.version, found.exit_code) == (2, 1, f"{project}-2", "2", 1)


def test_a_guest_for_a_person_is_no_project_s(store: Store, history: History, project: str) -> None:
    seed(store, cell(AMD, "skipped"), project=project, labels={RESERVATION: "yes"})
    assert project not in {one.project for one in history.projects()}
    with pytest.raises(NotFoundError):
        history.check(project)
    theirs = seed(store, cell(AMD, "passed"), project=project, days=1)
    assert [run.id for run in history.cells(project, last=5).runs] == [theirs]
    assert [run.id for run in history.tests(project, last=5).runs] == [theirs]
    assert {one.project: one.runs for one in history.projects()}[project] == 1


@pytest.mark.parametrize("ask", ["check", "cells", "tests", "results"])
def test_a_project_without_a_run_is_not_found(store: Store, history: History, project: str, ask: str) -> None:
    seed(store, cell(AMD, "passed"), project=project)
    wrong = f"{project}x"
    calls = {
        "check": lambda: history.check(wrong),
        "cells": lambda: history.cells(wrong, last=1),
        "tests": lambda: history.tests(wrong, last=1),
        "results": lambda: history.results(TestQuery(project=wrong, name="a")),
    }
    with pytest.raises(NotFoundError, match="no run has this name") as caught:
        calls[ask]()
    assert project in caught.value.hint


def test_the_run_that_speaks_for_a_cell_is_the_newest_one_before_that_has_data_of_it(
    store: Store, history: History, project: str
) -> None:
    first = seed(store, cell(AMD, "passed"), cell(S390X, "failed"), project=project)
    second = seed(store, cell(AMD, "panic"), cell(S390X, "infra"), project=project, days=1)
    third = seed(store, cell(AMD, "infra"), cell(S390X, "infra"), project=project, days=2)
    seed(store, cell(AMD, "passed"), cell(S390X, "passed"), project=project, days=3)
    assert history.last_with_data(project, [AMD, S390X, RISCV], before=third) == {AMD: second, S390X: first}
    assert history.last_with_data(project, [AMD], before=first) == {}


def test_the_last_release_is_finished_labelled_and_passed(store: Store, history: History, project: str) -> None:
    release = {"release": "yes"}
    assert history.last_release(project) is None
    first = seed(store, cell(AMD, "passed"), project=project, labels=release)
    second = seed(store, cell(AMD, "passed"), project=project, labels=release, days=1)
    seed(store, cell(AMD, "failed"), project=project, labels=release, days=2)
    seed(store, cell(AMD, "passed"), project=project, labels={"released": "no"}, days=3)
    last = seed(store, cell(AMD, "unfinished"), project=project, labels=release, days=4, finished=False)
    assert history.last_release(project) == history.last_release(project, before=last) == second
    assert history.last_release(project, before=second) == first
    assert history.last_release(project, before=first) is None


# --- how it is read ---------------------------------------------------------------------------------


def plans(engine: Engine, statements: Sequence[tuple[str, Any]]) -> list[str]:
    with engine.connect() as db:
        raw = db.connection.driver_connection
        assert raw
        return [row[3] for text, values in statements for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values)]


def test_nothing_reads_all_tests_of_all_runs(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    runs = seed_many(store, runs=3, cells=4, tests=60)
    history, said = History(store.engine), []

    @event.listens_for(store.engine, "before_cursor_execute")
    def listen(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            said.append((statement, values))

    assert len(history.results(TestQuery(project="demo", name="test_50", limit=5, cell="*/arch1"))) == 3
    assert history.tests("demo", last=3, rank=Rank.FLAKY).tests[0].name in {"test_0", "test_50"}
    assert len(history.cells("demo", last=3).cells) == 4
    assert history.last_with_data("demo", ["debian-11/arch0"], before=runs[-1]) == {"debian-11/arch0": runs[-2]}
    seed_many(store, runs=1, cells=2, tests=10)
    event.remove(store.engine, "before_cursor_execute", listen)
    found = plans(store.engine, said)
    large = [step for step in found if any(f" {name} " in f"{step} " for name in ("tests", "tallies", "cells"))]
    assert any("ix_tests_name (name=? AND run=?)" in step for step in large)
    assert [step for step in large if step.startswith("SCAN")] == []
    store.close()
