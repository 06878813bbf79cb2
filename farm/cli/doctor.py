"""`farm doctor`: what is wrong with a host, one line for each thing, with what to do about it."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.markup import escape

from farm import tables
from farm.cli.here import probe
from farm.cli.screen import out
from farm.config import load_settings
from farm.text import clean


def doctor(
    host: Annotated[
        str,
        typer.Option("--host", metavar="URI", help="Check all that this hypervisor's machine needs to be a host."),
    ] = "",
) -> None:
    """Try every hypervisor of a machine by running something in it, and say what works."""
    if host:
        _check(host)
        return
    settings = load_settings()
    out.print(f"cache    {settings.cache}\nstate    {settings.state}\nruntime  {settings.runtime}")
    with out.status("trying the hypervisors …"):
        found = probe().probe_host(settings)
        if found.probed:
            probe().remember(settings, found)
    out.print(tables.hosts_table((found,)))
    if all(offer.problem for offer in found.offers if not offer.scripted):
        raise typer.Exit(2)


def _check(uri: str) -> None:
    """A line for each check, as soon as it is done; exit status 2 where nothing could run there."""
    from runners.hosts.checkup import Checkup  # noqa: PLC0415

    os.environ["FARM_HOST_URI"] = uri
    runs = False
    for found in Checkup(load_settings()).findings():
        mark = "[green]ok[/]   " if found.good else "[red]wrong[/]"
        out.print(f"{mark} {found.what:9} {escape(clean(found.said, limit=600))}", soft_wrap=True)
        if found.todo:
            out.print(f"      {'':9} [dim]{escape(found.todo)}[/]", soft_wrap=True)
        runs |= found.runs
    if not runs:
        raise typer.Exit(2)
