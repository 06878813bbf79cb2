from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from farm import verdict
from farm.errors import HostError, NotFoundError
from farm.lifecycle import AttemptState, CellState, RunState
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Blame,
    Cell,
    DebianSource,
    Ending,
    Event,
    Evidence,
    FolderSource,
    GitSource,
    GuestCreated,
    GuestFacts,
    Heartbeat,
    Held,
    LogChunk,
    Matrix,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseRecord,
    PhaseStarted,
    Placement,
    Plan,
    PypiSource,
    ResolvedSource,
    RunQuery,
    Source,
    State,
    Stream,
    Submission,
    TarballSource,
    TestResult,
    TestsFound,
    TestStatus,
    Usage,
    Verdict,
)
from farm.store import Store

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CELLS = ("debian-13/amd64/qemu", "debian-13/s390x/qemu/bug=on")
PASSED = Outcome(verdict=Verdict.PASSED, rule="passed", summary="3 tests, none failed", lines=("a", "b"))
FAILED = Outcome(verdict=Verdict.FAILED, blame=Blame.TEST, rule="script-failed")
FACTS = GuestFacts(
    host="h",
    hypervisor="qemu",
    hypervisor_version="10.0.2",
    emulated=True,
    machine="q35",
    cpu="max",
    image="debian-13/amd64",
    image_digest="0" * 64,
    vcpus=1,
    memory_mib=512,
)


def submission(
    *cells: str, name: str = "demo", source: Source | None = None, max_parallel: int | None = None, **matrix: object
) -> Submission:
    made = Matrix.model_validate(
        {
            "name": name,
            "axes": {"image": ["debian-13"], "arch": ["amd64", "s390x"], "bug": [True, 1.5, "x"]},
            "exclude": [{"arch": ["amd64", "s390x"], "bug": "x"}],
            "timeouts": {"test": "2m"},
            "test": "make check",
            "source": source or FolderSource(folder="."),
            **matrix,
        }
    )
    placements = tuple(
        Placement(
            cell=Cell(id=cell, values={"image": "debian-13", "arch": "amd64", "bug": True}, may_fail="s390x" in cell),
            hypervisor="qemu",
            hosts=() if "nowhere" in cell else ("h",),
            problem="no host fits" if "nowhere" in cell else "",
        )
        for cell in cells or CELLS
    )
    return Submission(
        plan=Plan(matrix=made, placements=placements, warnings=("careful",)),
        source=ResolvedSource(kind="folder", description=".", digest="d", archive="/x.tar", files=1, bytes=2),
        matrix_file="m.yaml",
        max_parallel=max_parallel,
    )


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def key(store: Store) -> AttemptKey:
    """A running attempt at the first cell of the first run."""
    run = store.create_run(submission(), now=NOW)
    key = AttemptKey(run=run.id, cell=CELLS[0], number=1)
    store.start_attempt(key, now=later(1))
    return key


def test_a_new_run_is_queued_with_its_cells_in_the_order_of_the_plan(store: Store) -> None:
    submitted = submission("z", "a", "m")
    run = store.create_run(submitted, now=NOW)
    assert (run.id, run.state, run.created, run.finished, run.cancelled) == ("demo-1", State.QUEUED, NOW, None, False)
    assert [cell.id for cell in run.cells] == ["z", "a", "m"]
    assert {cell.state for cell in run.cells} == {State.QUEUED}
    assert run.submission == submitted


@pytest.mark.parametrize(
    "source",
    [
        FolderSource(folder="a"),
        GitSource(git="https://example.org/x.git", ref="v1"),
        TarballSource(tarball="x.tar", sha256="0" * 64),
        DebianSource(debian="zlib", version="1:1.3"),
        PypiSource(pypi="six", version="1.17.0"),
    ],
)
def test_a_submission_comes_back_as_it_was(store: Store, database_url: str, tmp_path: Path, source: Source) -> None:
    submitted = submission(source=source, include=({"arch": "arm64", "bug": False},), env={"N": 1, "T": True})
    run_id = store.create_run(submitted, now=NOW).id
    with_an_empty_memory = Store.open(database_url, tmp_path)
    assert with_an_empty_memory.run(run_id).submission == submitted
    with_an_empty_memory.close()


def test_the_size_is_that_of_the_database(store: Store) -> None:
    before = store.size()
    store.create_run(submission(*(f"cell-{number}" for number in range(2000))), now=NOW)
    assert store.size() > before > 0


def test_runs_are_numbered_for_each_name_from_1(store: Store) -> None:
    names = ["demo", "demo", "other", "demo", "demo-1"]
    assert [store.create_run(submission(name=name), now=NOW).id for name in names] == [
        "demo-1",
        "demo-2",
        "other-1",
        "demo-3",
        "demo-1-1",
    ]


def test_the_latest_run_is_the_one_created_last(store: Store) -> None:
    assert store.latest() is None
    for number, name in enumerate(["demo", "demo", "a"]):
        store.create_run(submission(name=name), now=later(number))
    assert store.latest() == "a-1"


def test_a_run_without_cells_can_be_stored(store: Store) -> None:
    made = submission()
    empty = made.model_copy(update={"plan": made.plan.model_copy(update={"placements": ()})})
    assert store.create_run(empty, now=NOW).cells == ()


def test_a_run_that_is_not_there_names_the_nearest(store: Store) -> None:
    for number in range(3):
        store.create_run(submission(), now=later(number))
    with pytest.raises(NotFoundError, match="cannot find the run 'dmo-2'") as caught:
        store.run("dmo-2")
    assert "demo-2" in caught.value.hint


@pytest.mark.parametrize("run_id", ["", "../../etc", "demo-1/..", "demo-1'; --", "\x00"])
def test_whatever_is_no_run_is_not_found(store: Store, run_id: str) -> None:
    store.create_run(submission(), now=NOW)
    for question in (store.run, store.state, partial(store.request_cancel, now=NOW)):
        with pytest.raises(NotFoundError):
            question(run_id)


def test_summaries_count_verdicts_the_newest_run_first(store: Store) -> None:
    for number in range(3):
        store.create_run(submission(), now=later(number))
    store.finish_cell("demo-2", CELLS[0], PASSED, now=NOW)
    store.finish_cell("demo-2", CELLS[1], FAILED, now=NOW)
    store.finish_run("demo-2", now=later(9), cancelled=True)
    first, second = store.runs(RunQuery(limit=2))
    assert (first.id, first.state, first.cells, first.verdicts) == ("demo-3", State.QUEUED, 2, {})
    assert (second.id, second.finished, second.cancelled) == ("demo-2", later(9), True)
    assert second.verdicts == {Verdict.PASSED: 1, Verdict.FAILED: 1}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["demo-4", "demo-3", "demo-2", "demo-1"]),
        ({"owner": "ada"}, ["demo-3", "demo-1"]),
        ({"owner": "nobody"}, []),
        ({"state": State.FINISHED}, ["demo-3", "demo-2"]),
        ({"state": State.QUEUED}, ["demo-4", "demo-1"]),
        ({"exit_code": 0}, ["demo-2"]),
        ({"exit_code": 1}, ["demo-3"]),
        ({"owner": "ada", "state": State.FINISHED, "exit_code": 1}, ["demo-3"]),
        ({"owner": "bob", "exit_code": 1}, []),
        ({"before": "demo-3"}, ["demo-2", "demo-1"]),
        ({"before": "demo-3", "limit": 1}, ["demo-2"]),
        ({"before": "demo-1"}, []),
        ({"before": "demo-4", "owner": "ada"}, ["demo-3", "demo-1"]),
    ],
)
def test_runs_are_found_by_all_that_is_asked_for(store: Store, query: dict[str, object], found: list[str]) -> None:
    for number, owner in enumerate(("ada", "bob", "ada", "bob")):
        store.create_run(submission().model_copy(update={"owner": owner}), now=later(number))
    for run, outcome in (("demo-2", PASSED), ("demo-3", FAILED)):
        for cell in CELLS:
            store.finish_cell(run, cell, outcome, now=later(5))
        store.finish_run(run, now=later(6), cancelled=False)
    assert [run.id for run in store.runs(RunQuery.model_validate(query))] == found


def test_unfinished_runs_are_found_again_the_oldest_first(store: Store) -> None:
    for number in range(3):
        store.create_run(submission(), now=later(number))
    store.finish_run("demo-2", now=NOW, cancelled=False)
    assert store.unfinished() == ("demo-1", "demo-3")


def test_an_attempt_makes_its_cell_and_its_run_running(store: Store, key: AttemptKey) -> None:
    run = store.run(key.run)
    assert [run.state, *(cell.state for cell in run.cells)] == [State.RUNNING, State.RUNNING, State.QUEUED]
    attempt = run.cells[0].attempts[0]
    assert (attempt.key, attempt.state, attempt.created, attempt.seen) == (key, State.RUNNING, later(1), later(1))


def test_an_attempt_begins_once(store: Store, key: AttemptKey) -> None:
    with pytest.raises(HostError, match=f"cannot start {key}"):
        store.start_attempt(key, now=NOW)


@pytest.mark.parametrize(("run_id", "cell"), [("demo-9", CELLS[0]), ("demo-1", "no/such/cell"), ("demo-1", CELLS[1])])
def test_only_an_unfinished_cell_of_a_run_can_be_started(store: Store, key: AttemptKey, run_id: str, cell: str) -> None:
    store.finish_cell("demo-1", CELLS[1], PASSED, now=NOW)
    with pytest.raises(NotFoundError):
        store.start_attempt(AttemptKey(run=run_id, cell=cell, number=1), now=NOW)
    assert store.run("demo-1").cells[1].attempts == ()


def test_what_an_attempt_says_comes_back_in_its_record(store: Store, key: AttemptKey) -> None:
    results = tuple(
        TestResult(suite="s", name=f"t{number}", status=status, duration_s=0.5, message="m", detail="d\nd")
        for number, status in enumerate(TestStatus)
    )
    events: list[Event] = [
        PhaseStarted(at=later(2), phase=Phase.BOOT),
        GuestCreated(at=later(3), facts=FACTS),
        PhaseEnded(at=later(4), phase=Phase.BOOT, ending=Ending.OK, duration_s=2.0),
        PhaseStarted(at=later(5), phase=Phase.TEST),
        PhaseEnded(
            at=later(6), phase=Phase.TEST, ending=Ending.FAILED, duration_s=1.0, exit_status=3, detail="it broke"
        ),
        TestsFound(at=later(7), tests=results[:2]),
        TestsFound(at=later(7), tests=()),
        TestsFound(at=later(7), tests=results[2:]),
        Held(at=later(8), command="ssh x", until=later(99), evidence=Evidence()),
        PhaseStarted(at=later(9), phase=Phase.TEARDOWN),
    ]
    assert store.record(key, events)
    assert store.finish_attempt(key, FAILED, now=later(11), cpu_s=1.25)
    attempt = store.run(key.run).cells[0].attempts[0]
    assert attempt.facts == FACTS
    assert attempt.tests == results
    assert attempt.phases == (
        PhaseRecord(phase=Phase.BOOT, started=later(2), duration_s=2.0, ending=Ending.OK),
        PhaseRecord(
            phase=Phase.TEST, started=later(5), duration_s=1.0, ending=Ending.FAILED, exit_status=3, detail="it broke"
        ),
        PhaseRecord(phase=Phase.TEARDOWN, started=later(9)),
    )
    assert (attempt.outcome, attempt.finished, attempt.cpu_s) == (FAILED, later(11), 1.25)
    assert (attempt.state, attempt.seen) == (State.FINISHED, later(9))


def test_a_phase_of_which_only_the_end_was_heard_is_kept(store: Store, key: AttemptKey) -> None:
    store.record(key, [PhaseEnded(at=later(9), phase=Phase.BUILD, ending=Ending.LOST, duration_s=4.0)])
    phase = store.run(key.run).cells[0].attempts[0].phases[0]
    assert (phase.started, phase.ending) == (later(5), Ending.LOST)


def test_an_attempt_is_seen_when_it_was_heard_whatever_its_own_clock_says(store: Store, key: AttemptKey) -> None:
    store.record(key, [Heartbeat(at=later(-1000))], now=later(20))
    assert store.run(key.run).cells[0].attempts[0].seen == later(20)
    store.record(key, [Heartbeat(at=later(30))])
    assert store.run(key.run).cells[0].attempts[0].seen == later(30)


def test_what_a_guest_has_used_is_what_was_heard_of_it_last(store: Store, key: AttemptKey) -> None:
    def known() -> Usage | None:
        return store.run(key.run).cells[0].attempts[0].usage

    store.record(key, [Heartbeat(at=later(2))])
    assert known() is None
    store.record(key, [Heartbeat(at=later(3), usage=Usage(cpu_s=1.5))])
    store.record(key, [Heartbeat(at=later(4))])
    assert known() == Usage(cpu_s=1.5)
    whole = Usage(
        cpu_s=2.5,
        memory_peak_mib=200,
        disk_read_bytes=0,
        disk_written_bytes=2**40,
        network_received_bytes=5,
        network_sent_bytes=None,
    )
    store.record(key, [AttemptEnded(at=later(5), evidence=Evidence(), usage=whole)])
    assert known() == whole


def test_an_attempt_that_ends_without_a_word_on_its_guest_keeps_what_was_known(store: Store, key: AttemptKey) -> None:
    events: list[Event] = [
        Heartbeat(at=later(3), usage=Usage(cpu_s=1.5)),
        AttemptEnded(at=later(5), evidence=Evidence()),
    ]
    store.record(key, events)
    assert store.run(key.run).cells[0].attempts[0].usage == Usage(cpu_s=1.5)


def test_nothing_said_changes_nothing(store: Store, key: AttemptKey) -> None:
    assert store.record(key, [])
    assert store.run(key.run).cells[0].attempts[0].seen == later(1)


def test_a_late_event_of_an_ended_attempt_changes_nothing(store: Store, key: AttemptKey) -> None:
    store.record(key, [LogChunk(at=later(2), phase=Phase.TEST, stream=Stream.STDOUT, data=b"in time")])
    store.finish_attempt(key, verdict.lost_attempt("silent"), now=later(3))
    before = store.run(key.run)
    late: list[Event] = [
        LogChunk(at=later(4), phase=Phase.TEST, stream=Stream.STDOUT, data=b"late"),
        TestsFound(at=later(4), tests=(TestResult(suite="", name="x", status=TestStatus.PASSED),)),
        PhaseStarted(at=later(4), phase=Phase.COLLECT),
    ]
    assert not store.record(key, late)
    assert store.run(key.run) == before
    assert store.files.log(key, "test") == b"in time"


def test_an_attempt_that_never_began_has_nothing_to_say(store: Store, key: AttemptKey) -> None:
    other = AttemptKey(run=key.run, cell=key.cell, number=2)
    assert not store.record(other, [Heartbeat(at=NOW)])
    assert not store.files.of(other).exists()


def test_the_first_outcome_of_an_attempt_counts(store: Store, key: AttemptKey) -> None:
    assert store.finish_attempt(key, FAILED, now=later(3))
    assert not store.finish_attempt(key, PASSED, now=later(4))
    assert store.run(key.run).cells[0].attempts[0].outcome == FAILED


def test_the_first_outcome_of_a_cell_counts(store: Store) -> None:
    run = store.create_run(submission(), now=NOW)
    assert store.finish_cell(run.id, CELLS[0], FAILED, now=NOW)
    assert not store.finish_cell(run.id, CELLS[0], PASSED, now=NOW)
    assert [cell.outcome for cell in store.run(run.id).cells] == [FAILED, None]


def test_a_run_finishes_once(store: Store) -> None:
    run = store.create_run(submission(), now=NOW)
    assert store.finish_run(run.id, now=later(1), cancelled=True)
    assert not store.finish_run(run.id, now=later(2), cancelled=False)
    found = store.run(run.id)
    assert (found.state, found.finished, found.cancelled) == (State.FINISHED, later(1), True)


def test_a_batch_that_cannot_be_stored_leaves_no_rows(store: Store, key: AttemptKey) -> None:
    batch: list[Event] = [
        PhaseStarted(at=later(5), phase=Phase.TEST),
        TestsFound(at=later(5), tests=(TestResult(suite="", name="x" * 9, status=TestStatus.PASSED),)),
        LogChunk(at=later(5), phase=Phase.TEST, stream=Stream.STDOUT, data=b"x"),
    ]
    folder = store.files.of(key)
    folder.mkdir(parents=True)
    (folder / "logs").write_text("a file where a folder has to be")
    with pytest.raises(HostError, match="cannot record what"):
        store.record(key, batch)
    attempt = store.run(key.run).cells[0].attempts[0]
    assert (attempt.phases, attempt.tests, attempt.seen) == ((), (), later(1))


def test_events_are_kept_in_order_without_bytes_and_heartbeats(store: Store, key: AttemptKey) -> None:
    events: list[Event] = [
        PhaseStarted(at=later(2), phase=Phase.COLLECT),
        Heartbeat(at=later(2)),
        LogChunk(at=later(2), phase=Phase.COLLECT, stream=Stream.STDOUT, data=b"\xff"),
        TestsFound(at=later(3), tests=(TestResult(suite="", name="x", status=TestStatus.PASSED),)),
        AttemptEnded(at=later(4), evidence=Evidence(junit_files=2)),
    ]
    store.record(key, events)
    submitted, started, *lines = [(line.kind, line.payload) for line in store.events(0)]
    assert (submitted[0], started[0]) == ("run-submitted", "attempt-started")
    assert [kind for kind, _ in lines] == ["phase-started", "tests", "ended"]
    assert lines[1][1] == {"tests": 1, "failed": 0}
    assert lines[2][1]["evidence"]["junit_files"] == 2


def test_the_state_is_what_deciding_needs(store: Store) -> None:
    made = submission("a", "b/s390x", "nowhere", fail_fast=True, max_parallel=2, retries=3)
    run = store.create_run(made, now=NOW)
    first, second = (AttemptKey(run=run.id, cell="a", number=number) for number in (1, 2))
    lost = verdict.lost_attempt("silent")
    store.start_attempt(first, now=later(1))
    store.finish_attempt(first, lost, now=later(2))
    store.start_attempt(second, now=later(3))
    store.cancel_asked(second)
    store.finish_cell(run.id, "b/s390x", FAILED, now=NOW)
    store.request_cancel(run.id, now=NOW)
    assert store.state(run.id) == RunState(
        cells=(
            CellState(
                "a",
                State.RUNNING,
                (
                    AttemptState(1, State.FINISHED, later(1), lost),
                    AttemptState(2, State.RUNNING, later(3), cancel_asked=True),
                ),
            ),
            CellState("b/s390x", State.FINISHED, (), FAILED, may_fail=True),
            CellState("nowhere", problem="no host fits"),
        ),
        state=State.RUNNING,
        fail_fast=True,
        max_parallel=2,
        retries_infra=3,
        cancel_requested=True,
        created=NOW,
        queue_s=made.plan.matrix.timeouts.queue,
    )


@pytest.mark.parametrize(
    ("of_matrix", "of_user", "expected"), [(None, None, None), (3, None, 3), (None, 2, 2), (3, 2, 2), (2, 3, 2)]
)
def test_the_lower_limit_on_parallel_attempts_holds(
    store: Store, of_matrix: int | None, of_user: int | None, expected: int | None
) -> None:
    made = submission(max_parallel=of_user).plan.matrix.model_copy(update={"max_parallel": of_matrix})
    whole = submission(max_parallel=of_user)
    run = store.create_run(whole.model_copy(update={"plan": whole.plan.model_copy(update={"matrix": made})}), now=NOW)
    assert store.state(run.id).max_parallel == expected


def test_times_come_back_in_utc_whatever_zone_they_went_in(store: Store) -> None:
    from_elsewhere = NOW.astimezone(datetime.strptime("+0530", "%z").tzinfo)
    created = store.create_run(submission(), now=from_elsewhere).created
    assert created == NOW
    assert created.utcoffset() == timedelta(0)


def test_100_000_tests_of_one_attempt_come_back(store: Store, key: AttemptKey) -> None:
    results = tuple(TestResult(suite="s", name=f"test-{number}", status=TestStatus.PASSED) for number in range(100_000))
    assert store.record(key, [TestsFound(at=NOW, tests=results)])
    found = store.run(key.run).cells[0].attempts[0].tests
    assert found == results


def test_10_000_cells_can_be_stored(store: Store) -> None:
    cells = [f"debian-13/amd64/qemu/n={number}" for number in range(10_000)]
    run = store.create_run(submission(*cells), now=NOW)
    assert [cell.id for cell in store.state(run.id).cells] == cells
