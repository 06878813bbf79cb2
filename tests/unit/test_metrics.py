"""The table of metrics, what is counted, and what is asked of the store for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from farm.meter import Baseline, Meter
from farm.metrics import BY_NAME, METRICS, Histogram, Kind, seconds
from farm.model import (
    AttemptEnded,
    AttemptKey,
    Ending,
    EventRecord,
    Evidence,
    GuestCreated,
    Outcome,
    Phase,
    PhaseEnded,
    Verdict,
)
from farm.pulse import Pulse
from farm.store import Store
from farm.store.counts import HostUse, read_baseline, read_counts
from tests.unit.test_store import FACTS, FAILED, NOW, PASSED, later, submission

ROOT = Path(__file__).parents[2]
GRAFANA = json.loads((ROOT / "dashboards/grafana/farm.json").read_text())


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


def attempt(
    store: Store, key: AttemptKey, outcome: Outcome | None, *, host: str = "h", ready_s: float = 1.0
) -> AttemptKey:
    """An attempt with a guest; without an outcome it goes on."""
    store.start_attempt(key, now=NOW)
    store.record(key, [GuestCreated(at=NOW, facts=FACTS.model_copy(update={"host": host}))], now=NOW)
    for phase in (Phase.PROVISION, Phase.BOOT, Phase.CONNECT, Phase.TEST):
        ended = PhaseEnded(at=NOW, phase=phase, ending=Ending.OK, duration_s=ready_s)
        store.record(key, [ended], now=NOW)
    if outcome:
        store.record(key, [AttemptEnded(at=NOW, evidence=Evidence())], now=NOW)
        store.finish_attempt(key, outcome, now=later(9))
    return key


def some_history(store: Store) -> str:
    """One run with a cell that passed at its second attempt, one that failed, and one that goes on."""
    run = store.create_run(submission("a", "b", "c", "d"), now=NOW).id
    lost = Outcome(verdict=Verdict.ERROR, rule="attempt-lost", retry=True)
    attempt(store, AttemptKey(run=run, cell="a", number=1), lost)
    attempt(store, AttemptKey(run=run, cell="a", number=2), PASSED, host="g")
    attempt(store, AttemptKey(run=run, cell="b", number=1), FAILED)
    attempt(store, AttemptKey(run=run, cell="c", number=1), None)
    return run


def counted(meter: Meter) -> tuple[Any, ...]:
    return dict(meter.started), dict(meter.finished), dict(meter.runs)


# --- the table --------------------------------------------------------------------------------------


def test_names_are_different_and_as_prometheus_wants_them() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"farm_[a-z_]+", metric.name), metric
        assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket")), metric
        assert metric.help.endswith("."), metric
        assert (metric.kind is Kind.HISTOGRAM) == bool(metric.buckets), metric
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric
        if metric.kind is Kind.HISTOGRAM:
            assert metric.name.endswith("_seconds"), metric


def test_labels_have_few_values() -> None:
    """None of a run, a cell, a path or a person: each value is a time series for ever."""
    allowed = {
        "state",
        "exit_code",
        "priority",
        "again",
        "verdict",
        "blame",
        "rule",
        "host",
        "arch",
        "hypervisor",
        "mark",
    }
    allowed |= {"start", "phase", "ending", "folder", "method", "route", "status", "version", "python"}
    assert {label for metric in METRICS for label in metric.labels} <= allowed


def test_buckets_go_in_steps_from_one_limit_to_the_other() -> None:
    assert seconds(0.01, 1) == (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


def test_a_histogram_counts_what_is_not_above_a_limit() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    assert histogram.buckets == (("1.0", 2), ("2.0", 3), ("+Inf", 4))
    assert histogram.sum == 10.0


def test_a_pulse_tells_its_age_and_how_long_rounds_took() -> None:
    times = iter([0.0, 10.0, 12.0, 15.0])
    pulse = Pulse(lambda: next(times))
    with pulse.beat():
        pass
    assert (pulse.durations.sum, pulse.age_s) == (2.0, 3.0)


# --- counting ---------------------------------------------------------------------------------------


def test_what_is_counted_is_the_same_event_by_event_as_from_the_store(store: Store) -> None:
    run = some_history(store)
    store.finish_run(run, now=later(20), cancelled=False)
    live, after = Meter(), Meter()
    live.begin(Baseline())
    live.take(store.events(0))
    after.begin(read_baseline(store.engine))
    assert counted(live) == counted(after)
    assert live.finished == {
        ("error", "", "attempt-lost", "h"): 1,
        ("passed", "", "passed", "g"): 1,
        ("failed", "test", "script-failed", "h"): 1,
    }
    assert live.started == {False: 3, True: 1}
    assert sum(live.runs.values()) == 1


def test_an_attempt_that_goes_on_over_a_restart_is_counted_with_its_host(store: Store) -> None:
    run = some_history(store)
    past = read_baseline(store.engine)
    meter = Meter()
    meter.begin(past)
    store.finish_attempt(AttemptKey(run=run, cell="c", number=1), FAILED, now=later(30))
    meter.take(store.events(past.last))
    assert meter.finished["failed", "test", "script-failed", "h"] == 2


def test_a_guest_is_ready_after_provision_boot_and_connect(store: Store) -> None:
    some_history(store)
    meter = Meter()
    meter.take(store.events(0))
    ((labels, histogram),) = meter.guests.items()
    assert labels == ("amd64", "qemu", "cold")
    assert (histogram.sum, histogram.buckets[-1]) == (12.0, ("+Inf", 4))
    assert {phase for phase, _ in meter.phases} == {"provision", "boot", "connect", "test"}


def test_nothing_is_remembered_of_attempts_that_have_ended(store: Store) -> None:
    run = some_history(store)
    meter = Meter()
    meter.take(store.events(0))
    assert set(meter._live) == {(run, "c", 1)}


def test_a_phase_that_failed_makes_no_guest_ready() -> None:
    meter = Meter()
    payload = {"phase": "connect", "ending": "timeout", "duration_s": 30.0}
    meter.take([EventRecord(id=1, run="r", cell="c", number=1, at=NOW, kind="phase-ended", payload=payload)])
    assert (meter.guests, list(meter.phases)) == ({}, [("connect", "timeout")])


# --- the store --------------------------------------------------------------------------------------


def test_counts_tell_how_things_are(store: Store) -> None:
    run = some_history(store)
    store.create_run(submission("x").model_copy(update={"priority": 90}), now=later(5))
    store.finish_cell(run, "a", PASSED, now=later(6))
    counts = read_counts(store.engine)
    assert counts.runs == {"running": 1, "queued": 1}
    assert counts.cells == {"finished": 1, "running": 2, "queued": 2}
    assert counts.waiting == {50: 1, 90: 1}
    assert counts.oldest == {50: NOW, 90: NOW + timedelta(seconds=5)}
    assert counts.hosts == {"h": HostUse(guests=1, vcpus=1, memory_mib=512)}
    assert (counts.held, counts.deliveries) == (0, {})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # how it says what it reads is its own
def test_a_scrape_passes_by_what_is_finished(store: Store) -> None:
    """However many attempts there are: none of its questions reads a large table from end to end."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    event.listen(store.engine, "before_cursor_execute", note)
    read_counts(store.engine)
    event.remove(store.engine, "before_cursor_execute", note)
    assert len(statements) >= 5
    with store.engine.connect() as connection:
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            steps = [str(step[3]) for step in plan]
            large = [step for step in steps if re.match(r"SCAN (attempts|cells|events|phases|tests)", step)]
            assert large == [], (statement, steps)
            if "FROM runs" in statement and "JOIN" not in statement:
                assert any("ix_runs_state" in step for step in steps), steps


# --- Grafana ----------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [panel for panel in GRAFANA["panels"] if panel["type"] != "row"]


def test_the_dashboard_has_the_form_that_grafana_reads() -> None:
    assert GRAFANA["schemaVersion"] >= 36
    assert (GRAFANA["uid"], GRAFANA["title"]) == ("validation-farm", "Validation farm")
    ids = [panel["id"] for panel in GRAFANA["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["type"] in {"row", "stat", "timeseries"} and panel["title"] for panel in GRAFANA["panels"])


def test_every_panel_asks_the_chosen_data_source() -> None:
    names = {variable["name"]: variable for variable in GRAFANA["templating"]["list"]}
    assert names["datasource"]["type"] == "datasource"
    for panel in panels():
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)) > 0
        used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"])))
        assert used <= {*names, "__rate_interval"}


def test_no_two_panels_overlap() -> None:
    places = [panel["gridPos"] for panel in GRAFANA["panels"]]
    taken = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(taken) == len(set(taken))
    assert all(p["x"] + p["w"] <= 24 for p in places)


@pytest.mark.parametrize("subject", ["queue", "vcpus", "guest_ready", "blame", "orphans", "host"])
def test_the_dashboard_shows_what_operators_ask_for(subject: str) -> None:
    assert any(subject in target["expr"] for panel in panels() for target in panel["targets"])
