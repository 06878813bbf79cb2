"""The tables and sentences that the command line prints. Pure: reports in, rich's renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from farm.display import FLAKY_STYLE, STYLES, guest_words
from farm.estimate import Forecast
from farm.model import (
    Host,
    HostLook,
    Mark,
    Offer,
    Placement,
    Plan,
    RunSummary,
    State,
    Verdict,
)
from farm.report.parts import CellPart, Document, RunPart
from farm.report.words import FLAKY, duration
from farm.slowness import slowness_text
from farm.text import clean, clean_line

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


def run_headline(run: RunPart) -> str:
    """What starts."""
    source = run.source
    if not source.digest:
        return f"[bold]{run.id}[/]  {_cells(run.cells.all)}, nothing is tested"
    return (
        f"[bold]{run.id}[/]  {run.cells.all} cells of {escape(source.description)}"
        f"  [dim](sha256 {source.digest[:12]}, {source.files} files)[/]"
    )


def result_table(cells: Iterable[CellPart]) -> Table:
    """A line for each cell: verdict, guest, tests, time, and what it rests on."""
    table = _table("cell", "verdict", "guest", "tests", "time", "why")
    for cell in sorted(cells, key=lambda cell: cell.id):
        table.add_row(cell.id, *_result_columns(cell))
    return table


def result_sentence(run: RunPart) -> str:
    """`5 passed, 1 failed of 6 cells in 62 s`."""
    found = {verdict: getattr(run.cells, verdict.value) for verdict in Verdict}
    counts = [f"[{STYLES[verdict]}]{count} {verdict}[/]" for verdict, count in found.items() if count]
    if run.cells.flaky:
        counts.insert(1, f"[{FLAKY_STYLE}]{run.cells.flaky} of these flaky[/]")
    took = "" if run.duration_s is None else f" in {run.duration_s:.0f} s"
    return f"{run.id}: {', '.join(counts) or 'nothing ran'} of {run.cells.all} cells{took}"


def rerun_command(report: Document) -> str:
    """The command that runs the first failed cell again; empty where none failed."""
    return next((cell.rerun for cell in report.troubles), "")


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """A line for each run."""
    table = _table("run", "started", "state", "cells", "verdicts")
    for run in runs:
        counts = [f"{count} {verdict}" for verdict, count in run.verdicts.items() if count]
        if run.flaky:
            counts.append(f"[{FLAKY_STYLE}]{run.flaky} of these flaky[/]")
        state = "cancelled" if run.cancelled else run.state.value
        table.add_row(run.id, f"{run.created:%Y-%m-%d %H:%M:%S} UTC", state, str(run.cells), ", ".join(counts))
    return table


def fleet_table(looks: Iterable[HostLook]) -> Table:
    """A line for each host: whether it gets work and why not, what runs there, what it has."""
    table = _table("host", "state", "guests now", "for guests", "free", "runs", "labels")
    for look in looks:
        host = look.host
        table.add_row(
            look.name,
            _host_state(look),
            str(len(look.guests)),
            f"{host.vcpus} vCPUs, {host.memory_mib} MiB" if host else "",
            f"{host.room.memory_mib} MiB, disk {host.room.disk_mib} MiB" if host and host.room else "",
            ", ".join(sorted({o.hypervisor for o in host.offers if not (o.problem or o.scripted)})) if host else "",
            " ".join(f"{key}={value}" for key, value in host.labels.items()) if host else "",
        )
    return table


def _host_state(look: HostLook) -> Text:
    if look.drained:
        said = f"{_mark(look)}: {clean(look.reason, limit=200)}"
        return Text(said + ("" if look.host else "; not there"), style="yellow")
    if look.host and look.host.shortage:
        return Text(f"takes nothing new: {clean(look.host.shortage, limit=300)}", style="red")
    return Text("takes work", style="green")


def _mark(look: HostLook) -> Mark:
    return look.mark or Mark.DRAINED  # servers that name none know no other


def hosts_table(hosts: Iterable[Host], shut: Iterable[HostLook] = ()) -> Table:
    """A line for each thing that a host can run, or cannot and why; `shut` are those that get nothing new."""
    table = _table("host", "guests", "hypervisor", "arch", "how", "state")
    there = {host.name: host for host in hosts}
    for look in shut:
        said = f"{_mark(look)}{'' if look.name in there else ' and not there'}: {clean_line(look.reason, limit=500)}"
        table.add_row(look.name, "", "", "", "", Text(said, style="yellow"))
    for host in there.values():
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


def _result_columns(cell: CellPart) -> Iterable[str | Text]:
    outcome, last = cell.outcome, cell.last
    verdict = cell.verdict
    flaky = bool(outcome and outcome.flaky)
    style = FLAKY_STYLE if flaky else STYLES[verdict] if verdict else ""
    yield Text(FLAKY if flaky else verdict or State.RUNNING.value, style=style)
    yield guest_words(last.guest) if last and last.guest else ""
    yield f"{cell.tests.passed}/{cell.tests.all}" if cell.tests.all else ""
    yield f"{sum(phase.duration_s or 0 for phase in last.phases):.0f} s" if last else ""
    passed = verdict is Verdict.PASSED and not flaky
    blame = f"[{outcome.blame}] " if outcome and outcome.blame else ""
    yield "" if passed or not outcome else Text(blame + clean(outcome.summary, limit=300))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in _WHOLE)
    return table
