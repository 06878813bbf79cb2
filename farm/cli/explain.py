"""`farm explain`: where a cell stands, and why."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from rich.table import Table
from rich.text import Text

from farm.cli.arguments import RunId
from farm.cli.farms import Farm, at_a_farm
from farm.cli.screen import out
from farm.explain import Explanation, HostLine
from farm.report.words import duration, moment
from farm.tried import AttemptLine


@at_a_farm
def explain(
    farm: Farm,
    run_id: RunId,
    cell: str = typer.Argument(help="The cell, or a glob that names one."),
) -> None:
    """Say why a cell is not running yet, when it will start, or what its verdict rests on."""
    found = farm.explain(run_id, cell)
    for line in _lines(found):
        out.print(line, soft_wrap=True)
    if found.hosts:
        out.print(_hosts(found.hosts))
    if found.attempts:
        out.print(_attempts(found.attempts))


def _lines(found: Explanation) -> Iterator[Text]:
    yield Text(f"{found.cell} of {found.run}", style="bold")
    yield Text(found.headline)
    told = found.headline
    for reason in found.reasons:
        if reason not in told:
            yield Text(f"  · {reason}")
    if found.place is not None:
        yield Text(f"  place in the queue: {found.place}")
    if found.starts_in_s is not None and found.expected:
        yield Text(f"  expected to start in {duration(found.starts_in_s)}, at {moment(found.expected)}")
    elif found.place is not None:
        yield Text("  when it starts cannot be told: too little is known of how long cells take")
    for line in found.outcome.lines if found.outcome else ():
        yield Text(f"    {line}", style="dim")


def _hosts(hosts: tuple[HostLine, ...]) -> Table:
    table = _table("host", "", "why")
    for host in hosts:
        may = Text("may run it", style="green") if host.may else Text("takes it not", style="yellow")
        table.add_row(host.name, may, host.why)
    return table


def _attempts(attempts: tuple[AttemptLine, ...]) -> Table:
    table = _table("attempt", "host", "came to", "why", "then")
    for one in attempts:
        blame = f" ({one.blame})" if one.blame else ""
        came_to = f"{one.verdict.value}{blame}" if one.verdict else ""
        table.add_row(str(one.number), one.host, came_to, Text(one.summary), Text(one.next))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
