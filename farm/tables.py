"""The tables and sentences that the command line prints. Pure: records in, rich's renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from farm.display import STYLES, guest_words
from farm.estimate import Forecast
from farm.model import (
    CellRecord,
    Host,
    Offer,
    Placement,
    Plan,
    RunRecord,
    RunSummary,
    State,
    TestStatus,
    Verdict,
)
from farm.report.document import rerun_command as rerun
from farm.report.words import duration
from farm.slowness import slowness_text
from farm.text import clean

_WHOLE = ("cell", "run", "verdict", "hypervisor")
"""Columns whose words are for copying, or too short to be broken."""


def plan_table(plan: Plan) -> Table:
    """Cells in the order in which they start, then what was excluded."""
    table = _table("cell", "hypervisor", "host", "expected")
    for placement in plan.placements:
        table.add_row(placement.cell.id, *_placement_columns(placement), duration(placement.expected_s))
    for excluded in plan.excluded:
        table.add_row(Text(excluded.id, style="dim"), Text("excluded", style="dim"), Text(excluded.reason, style="dim"))
    return table


def forecast_sentence(expected: Forecast, slots: int) -> str:
    """`expected: 3 min 05 s with 2 cells at a time (5 min 20 s of work), and 1 cell of which nothing is known`."""
    known = (
        f"{duration(expected.wall_s)} with {_cells(slots)} at a time ({duration(expected.work_s)} of work)"
        if expected.known
        else ""
    )
    unknown = f"{_cells(expected.unknown)} of which nothing is known" if expected.unknown else ""
    return f"expected: {', and '.join(filter(None, (known, unknown))) or 'nothing to run'}"


def run_headline(run: RunRecord) -> str:
    """What starts."""
    source = run.submission.source
    return (
        f"[bold]{run.id}[/]  {len(run.cells)} cells of {escape(source.description)}"
        f"  [dim](sha256 {source.digest[:12]}, {source.files} files)[/]"
    )


def result_table(run: RunRecord) -> Table:
    """A line for each cell: verdict, guest, tests, time, and what it rests on."""
    table = _table("cell", "verdict", "guest", "tests", "time", "why")
    for cell in sorted(run.cells, key=lambda cell: cell.id):
        table.add_row(cell.id, *_result_columns(cell))
    return table


def result_sentence(run: RunRecord) -> str:
    """`5 passed, 1 failed of 6 cells in 62 s`."""
    counts = [f"[{STYLES[verdict]}]{run.count(verdict)} {verdict}[/]" for verdict in Verdict if run.count(verdict)]
    took = f" in {(run.finished - run.created).total_seconds():.0f} s" if run.finished else ""
    return f"{run.id}: {', '.join(counts) or 'nothing ran'} of {len(run.cells)} cells{took}"


def rerun_command(run: RunRecord) -> str:
    """The command that runs the first failed cell again; empty where none failed."""
    failed = (cell for cell in run.cells if cell.outcome and cell.outcome.verdict in (Verdict.FAILED, Verdict.ERROR))
    return next((rerun(run.submission.matrix_file, cell.id) for cell in failed), "")


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """A line for each run."""
    table = _table("run", "started", "state", "cells", "verdicts")
    for run in runs:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in run.verdicts.items() if count)
        state = "cancelled" if run.cancelled else run.state.value
        table.add_row(run.id, f"{run.created:%Y-%m-%d %H:%M:%S} UTC", state, str(run.cells), counts)
    return table


def hosts_table(hosts: Iterable[Host]) -> Table:
    """A line for each thing that a host can run, or cannot and why."""
    table = _table("host", "guests", "hypervisor", "arch", "how", "state")
    for host in hosts:
        room = f"{host.vcpus} vCPUs, {host.memory_mib} MiB"
        for offer in (offer for offer in host.offers if not offer.scripted):
            works = "works" if host.probed else "there, not tried"
            state = Text(offer.problem or works, style="yellow" if offer.problem else "green" if host.probed else "")
            version = f"{offer.hypervisor} {offer.version}".strip()
            table.add_row(host.name, room, version, offer.arch, _how(offer), state)
        if host.cpu_limit_problem:
            table.caption = f"{host.name} cannot limit the CPU of guests: {host.cpu_limit_problem}"
    return table


def _how(offer: Offer) -> str:
    how = "emulated" if offer.emulated else "native"
    return f"{how}, {slowness_text(offer.slowness)}" if offer.emulated and offer.slowness else how


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _placement_columns(placement: Placement) -> tuple[str | Text, str | Text]:
    if placement.problem:
        return Text("none", style="bold red"), Text(placement.problem, style="red")
    how = f"{placement.hypervisor} (emulated)" if placement.emulated else placement.hypervisor
    if builder := placement.builder:
        how += f", built on {builder.arch} by {builder.hypervisor}"
    return how, ", ".join(placement.hosts)


def _result_columns(cell: CellRecord) -> Iterable[str | Text]:
    outcome, last = cell.outcome, cell.last
    verdict = outcome.verdict if outcome else None
    yield Text(verdict or State.RUNNING.value, style=STYLES[verdict] if verdict else "")
    facts = last.facts if last else None
    yield guest_words(facts) if facts else ""
    tests = last.tests if last else ()
    yield f"{sum(test.status is TestStatus.PASSED for test in tests)}/{len(tests)}" if tests else ""
    yield f"{sum(phase.duration_s or 0 for phase in last.phases):.0f} s" if last else ""
    passed = verdict is Verdict.PASSED
    blame = f"[{outcome.blame}] " if outcome and outcome.blame else ""
    yield "" if passed or not outcome else Text(blame + clean(outcome.summary, limit=300))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table
