"""`farm history`, `farm baseline` and `farm waiver`: what many runs say together, and what they are held against."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape

from farm.cli import history_tables as tables
from farm.cli.farms import Farm, at_a_farm
from farm.cli.options import duration
from farm.cli.screen import out
from farm.errors import ConfigError
from farm.model.history import Rank, TestQuery
from farm.model.waiver import EVERY_TEST, WaiverRequest

waiver_app = typer.Typer(help="Failures that are accepted.", no_args_is_help=True, rich_markup_mode=None)
baseline_app = typer.Typer(help="Runs that others are compared with.", no_args_is_help=True, rich_markup_mode=None)

_MOST_TESTS = 10
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The name of the matrix.")]


@at_a_farm
def history(
    farm: Farm,
    *,
    project: Project,
    test: Annotated[str, typer.Argument(metavar="[TEST]", help="A test's name; without it, all.")] = "",
    last: Annotated[int, typer.Option(min=1, max=200, help="Over so many runs, the newest.")] = 30,
    cell: Annotated[str | None, typer.Option(metavar="GLOB", help="Only these cells.")] = None,
    arch: Annotated[str | None, typer.Option(metavar="ARCH", help="Of a test: only on this architecture.")] = None,
    suite: Annotated[str | None, typer.Option(metavar="NAME", help="Of a test: only of this suite.")] = None,
    version: Annotated[str | None, typer.Option(metavar="TEXT", help="Of a test: only of this version.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Of a test: at most so many results.")] = 50,
) -> None:
    """Say what the last runs of a project came to, and which tests are flaky or slow; or all results of one test."""
    if not test:
        _project(farm, project, last, cell)
        return
    query = TestQuery(project=project, name=test, suite=suite, cell=cell, arch=arch, version=version, limit=limit)
    hits = farm.archive.results(query)
    out.print(tables.hits_table(hits))
    for trend in farm.archive.tests(project, last=last, rank=Rank.NAME, name=test, limit=_MOST_TESTS).tests:
        if suite in {None, trend.suite}:
            out.print(tables.test_sentence(trend), markup=False, soft_wrap=True)


def _project(farm: Farm, project: str, last: int, cell: str | None) -> None:
    cells = farm.archive.cells(project, last=last, cell=cell)
    out.print(f"{escape(project)}  {len(cells.runs)} runs: {cells.runs[0].id} … {cells.runs[-1].id}", soft_wrap=True)
    out.print(tables.cells_table(cells))
    out.print(tables.LEGEND, style="dim")
    flaky, slow = (
        farm.archive.tests(project, last=last, rank=rank, name=None, limit=_MOST_TESTS)
        for rank in (Rank.FLAKY, Rank.SLOW)
    )
    for trends, table in ((flaky, tables.flaky_table(flaky)), (slow, tables.slow_table(slow))):
        if trends.tests:
            out.print()
            out.print(table)


@baseline_app.command("set")
@at_a_farm
def baseline_set(
    farm: Farm,
    project: Project,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The baseline's name.")],
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run of the project.")],
) -> None:
    """Give a run a name, which may have been another one's before."""
    made = farm.archive.set_baseline(project, name, run)
    out.print(f"{project}@baseline:{made.name} is {made.run}", markup=False, soft_wrap=True)


@baseline_app.command("list")
@at_a_farm
def baseline_list(farm: Farm, project: Project) -> None:
    """List the baselines of a project."""
    out.print(tables.baselines_table(farm.archive.baselines(project)))


@baseline_app.command("remove")
@at_a_farm
def baseline_remove(
    farm: Farm, project: Project, name: Annotated[str, typer.Argument(metavar="NAME", help="The baseline's name.")]
) -> None:
    """Have a name free again; the run stays."""
    farm.archive.remove_baseline(project, name)


@waiver_app.command("add")
@at_a_farm
def waiver_add(
    farm: Farm,
    *,
    project: Project,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it is accepted.")],
    cells: Annotated[str, typer.Option(metavar="GLOB", help="In these cells, as --only takes it.")] = "**",
    tests: Annotated[
        str, typer.Option(metavar="GLOB", help="These tests: a name, SUITE/NAME; '*' is the cell itself, too.")
    ] = EVERY_TEST,
    link: Annotated[str, typer.Option(metavar="URL", help="To the bug, say.")] = "",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="From when on it waives nothing: 30d, or 2027-01-31.")
    ] = None,
) -> None:
    """Accept failures: they stay failures, and are shown with the reason."""
    until = _until(expires, datetime.now(UTC)) if expires else None
    given = {"cells": cells, "tests": tests, "reason": reason, "link": link, "expires": until}
    made = farm.archive.add_waiver(project, _request(given))
    out.print(f"waiver {made.id} of {project}", markup=False)


@waiver_app.command("list")
@at_a_farm
def waiver_list(farm: Farm, project: Project) -> None:
    """List the waivers of a project, also those whose time is over."""
    out.print(tables.waivers_table(farm.archive.waivers(project), datetime.now(UTC)))


@waiver_app.command("remove")
@at_a_farm
def waiver_remove(
    farm: Farm, project: Project, number: Annotated[int, typer.Argument(metavar="ID", help="The waiver's number.")]
) -> None:
    """Accept what a waiver names no longer."""
    farm.archive.remove_waiver(project, number)


def _request(given: Mapping[str, Any]) -> WaiverRequest:
    try:
        return WaiverRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"cannot add the waiver: --{place}: {first['msg']}", hint="see `farm waiver add --help`"
        ) from error


def _until(text: str, now: datetime) -> datetime:
    """`30d` from now, or a day or a time; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return now + timedelta(seconds=duration(text))
    return at if at.tzinfo else at.replace(tzinfo=UTC)
