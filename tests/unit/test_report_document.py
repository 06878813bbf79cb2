import json
from datetime import timedelta, timezone
from pathlib import Path

import jsonschema
import pytest

from farm.model import CellRecord, GuestSpec, Phase, Placement, RunRecord, Start, State, Verdict
from farm.report.document import document, render, rerun_command, schema
from farm.report.parts import AttemptPart, Document
from tests.unit.records import SECONDS, START, cell_record, demo_run, facts

DOCS = Path(__file__).parents[2] / "docs"


def unfinished(arch: str) -> CellRecord:
    record = cell_record(arch, "off")
    return record.model_copy(update={"state": State.QUEUED, "outcome": None, "attempts": ()})


def test_the_schema_in_the_docs_is_current() -> None:
    committed = (DOCS / "report.schema.json").read_text(encoding="utf-8")
    assert committed == schema(), "python -m farm.report > docs/report.schema.json"


def test_every_part_of_the_schema_is_in_the_docs() -> None:
    text = (DOCS / "report.md").read_text(encoding="utf-8")
    definitions = json.loads(schema())
    fields = {name for part in [definitions, *definitions["$defs"].values()] for name in part.get("properties", ())}
    assert {name for name in fields if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    "run", [demo_run(), demo_run((unfinished("s390x"),)), demo_run(())], ids=["done", "queued", "empty"]
)
def test_a_report_keeps_to_its_schema(run: RunRecord) -> None:
    jsonschema.validate(json.loads(render(document(run))), json.loads(schema()))


def test_a_report_can_be_read_back() -> None:
    report = document(demo_run())
    assert Document.model_validate_json(render(report)) == report


def test_the_document_says_what_came_out() -> None:
    report = document(demo_run())
    assert report.run.exit_code == 1
    assert report.run.exit_meaning == "a cell failed"
    assert report.run.duration_s == 58
    assert (report.run.cells.all, report.run.cells.passed, report.run.cells.failed, report.run.cells.error) == (
        6,
        4,
        1,
        1,
    )
    assert (report.run.tests.all, report.run.tests.failed, report.run.tests.skipped) == (200, 2, 5)
    assert [(cell.id, cell.phase) for cell in report.troubles] == [
        ("debian-13/riscv64/bug=off", "build"),
        ("debian-13/s390x/bug=on", "test"),
    ]
    assert [attempt.number for attempt in report.troubles[0].attempts] == [1, 2]


def test_axis_values_keep_their_types() -> None:
    record = cell_record("amd64", "on")
    values = {
        "image": "debian-13",
        "arch": "amd64",
        "bug": "on",
        "fast": True,
        "level": 3,
        "ratio": 1.5,
        "text": "true",
    }
    cell = record.placement.cell.model_copy(update={"values": values})
    report = document(demo_run((record.model_copy(update={"placement": Placement(cell=cell)}),)))
    assert json.loads(render(report))["cells"][0]["values"] == values


def test_times_are_utc() -> None:
    east = START.astimezone(timezone(timedelta(hours=5)))
    assert json.loads(render(document(demo_run(created=east))))["run"]["created"] == "2025-03-14T09:26:53Z"


def test_before_a_guest_exists_the_plan_says_where_it_will_run() -> None:
    (cell,) = document(demo_run((unfinished("s390x"),), state=State.RUNNING)).cells
    assert (cell.hypervisor, cell.emulated, cell.host, cell.outcome) == ("qemu", True, "", None)


GOOD = cell_record("amd64", "on")
BAD = cell_record("s390x", "on")


def with_verdict(verdict: Verdict) -> CellRecord:
    assert GOOD.outcome
    return GOOD.model_copy(update={"outcome": GOOD.outcome.model_copy(update={"verdict": verdict})})


HEADLINES = {
    "all": (demo_run((GOOD, GOOD)), "All 2 cells passed."),
    "one": (demo_run((GOOD,)), "The only cell passed."),
    "one of one failed": (demo_run((BAD,)), "0 of 1 cell passed, 1 failed."),
    "mixed": (demo_run(), "4 of 6 cells passed, 1 failed, 1 ended in an error."),
    "skipped": (demo_run((GOOD, with_verdict(Verdict.SKIPPED))), "1 of 2 cells passed, 1 skipped."),
    "cancelled": (
        demo_run((GOOD, with_verdict(Verdict.CANCELLED)), cancelled=True),
        "Cancelled: 1 of 2 cells passed, 1 cancelled.",
    ),
    "running": (
        demo_run((GOOD, unfinished("s390x")), state=State.RUNNING),
        "Not finished yet: 1 of 2 cells passed, 1 without a result.",
    ),
    "nothing": (demo_run(()), "0 of 0 cells passed."),
}


@pytest.mark.parametrize(("run", "headline"), HEADLINES.values(), ids=HEADLINES)
def test_the_headline_says_it_in_a_sentence(run: RunRecord, headline: str) -> None:
    assert document(run).run.headline == headline


def test_an_unfinished_run_has_no_exit_code() -> None:
    assert document(demo_run(state=State.RUNNING)).run.exit_code is None


COMMANDS = {
    ("m.yaml", "debian-13/s390x/bug=on"): "farm run m.yaml --only debian-13/s390x/bug=on",
    ("my matrix.yaml", "a/b=c d"): "farm run 'my matrix.yaml' --only 'a/b=c d'",
    ("m.yaml", "a/'; rm -rf ~"): "farm run m.yaml --only 'a/'\"'\"'; rm -rf ~'",
    ("m.yaml", "a/[1]*"): "farm run m.yaml --only 'a/[[]1][*]'",
}


@pytest.mark.parametrize(("asked", "command"), COMMANDS.items())
def test_the_rerun_command_survives_the_shell_and_means_one_cell(asked: tuple[str, str], command: str) -> None:
    assert rerun_command(*asked) == command


def attempt_of(run: RunRecord) -> AttemptPart:
    return document(run).cells[0].attempts[0]


def test_an_attempt_says_what_its_guest_used_and_how_it_started() -> None:
    attempt = attempt_of(demo_run((BAD,)))
    assert attempt.usage
    assert (attempt.usage.cpu_s, attempt.usage.disk_written_bytes, attempt.usage.network_sent_bytes) == (
        17.25,
        5_242_880,
        None,
    )
    assert attempt.guest
    assert (attempt.guest.start, attempt.guest.start_note, attempt.guest.layers) == (
        Start.RESTORED,
        "shared",
        ("wire-headers",),
    )
    assert attempt.guest.slowness
    assert (attempt.guest.slowness.disk, attempt.guest.slowness.factor) == (3.2, 19.0)


def test_what_was_asked_for_is_told() -> None:
    guest = GuestSpec.model_validate({"cpu": "150%", "disk-bandwidth": "20M", "disk": "4G"})
    limits = attempt_of(demo_run((BAD,), guest=guest)).limits
    assert (limits.cpu_percent, limits.disk_bytes_per_s, limits.disk_mib) == (150, 20 * 1024 * 1024, 4096)
    assert attempt_of(demo_run((BAD,))).limits.cpu_percent is None


def estimates(cell: CellRecord, guest: GuestSpec | None = None) -> dict[Phase, float]:
    phases = attempt_of(demo_run((cell,), guest=guest)).phases
    return {phase.phase: phase.native_estimate_s for phase in phases if phase.native_estimate_s is not None}


def with_facts(cell: CellRecord, **changes: object) -> CellRecord:
    last = cell.last
    assert last
    assert last.facts
    changed = last.model_copy(update={"facts": last.facts.model_copy(update=changes)})
    return cell.model_copy(update={"attempts": (changed,)})


def test_a_script_s_time_is_estimated_as_it_would_be_natively() -> None:
    assert estimates(cell_record("s390x", "off")) == {
        phase: pytest.approx(SECONDS[phase] / 19.0) for phase in (Phase.PREPARE, Phase.BUILD, Phase.TEST)
    }


def test_nothing_is_estimated_where_it_would_be_no_more_than_a_guess() -> None:
    assert estimates(cell_record("amd64", "off")) == {}  # never measured
    assert estimates(cell_record("s390x", "off"), GuestSpec.model_validate({"cpu": "50%"})) == {}
    assert estimates(cell_record("s390x", "off"), GuestSpec.model_validate({"disk-bandwidth": "1M"})) == {}
    built_elsewhere = with_facts(cell_record("s390x", "off"), builder=facts("amd64"))
    assert set(estimates(built_elsewhere)) == {Phase.PREPARE, Phase.TEST}
    never_ended = cell_record("s390x", "off").attempts[0]
    running = never_ended.model_copy(
        update={"phases": tuple(p.model_copy(update={"duration_s": None}) for p in never_ended.phases)}
    )
    assert estimates(cell_record("s390x", "off").model_copy(update={"attempts": (running,)})) == {}
