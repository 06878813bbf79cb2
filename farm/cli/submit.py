"""`farm submit`, `farm cancel` and `farm rerun`: runs that are carried out by whoever serves the farm."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.markup import escape

from farm import tables
from farm.cli.arguments import (
    AnyFolder,
    CancelOnInterrupt,
    Hold,
    Junit,
    MatrixFile,
    MaxParallel,
    Only,
    RunId,
    Secrets,
    Summary,
    Wait,
)
from farm.cli.deliver import Delivery
from farm.cli.farms import Farm, Wanted, at_a_farm
from farm.cli.options import ssh_key
from farm.cli.screen import out, print_warnings
from farm.cli.watch import print_commands, warn_if_unserved, watch_to_the_end
from farm.errors import ConfigError
from farm.model import RerunRequest, RunRequest, State
from farm.report.overview import Overview
from farm.select import matches

_T = TypeVar("_T", RunRequest, RerunRequest)

Version = Annotated[str, typer.Option(metavar="TEXT", help="What is tested, as people call it: a release, a tag.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="To find the run by. Repeatable.")
]
Priority = Annotated[int, typer.Option(min=0, max=100, help="Runs of a higher one come first.")]
Key = Annotated[str | None, typer.Option(metavar="KEY", help="The same key again gives the same run, not another one.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Your public SSH key: with it you get into kept guests.")
]
Cells = Annotated[
    list[str] | None,
    typer.Option("--cells", metavar="GLOB", help="'failed' (if not given), 'all', or these cells. Repeatable."),
]


@at_a_farm
def submit(
    farm: Farm,
    *,
    matrix: MatrixFile,
    only: Only = None,
    version: Version = "",
    label: Labels = None,
    priority: Priority = 50,
    max_parallel: MaxParallel = None,
    hold_on_failure: Hold = "0",
    key: KeyFile = None,
    secret: Secrets = None,
    idempotency_key: Key = None,
    wait: Wait = False,
    folder: AnyFolder = None,
    junit: Junit = None,
    summary: Summary = None,
    cancel_on_interrupt: CancelOnInterrupt = False,
) -> None:
    """Hand a run to `farm serve`, on this machine or on a server; with --wait, watch it to its end."""
    request = wanted_run(
        only=tuple(only or ()),
        version=version,
        labels=dict(map(_pair, label or ())),
        priority=priority,
        max_parallel=max_parallel,
        hold_on_failure=hold_on_failure,
        ssh_key=ssh_key(key) if key else None,
        secrets=_secrets(secret or ()),
    )
    run = farm.submit(Wanted(matrix, request, idempotency_key))
    print_start(run)
    _wait(farm, run, Delivery(folder, junit, summary) if wait else None, cancels=cancel_on_interrupt)


@at_a_farm
def cancel(
    farm: Farm,
    run_id: RunId,
    cell: Annotated[str, typer.Argument(help="Only this cell, or those that this glob names.")] = "",
) -> None:
    """End a run, or cells of it: their guests are destroyed, what has not begun is not begun."""
    if cell:
        _cancel_cells(farm, run_id, cell)
        return
    run = farm.cancel(run_id)
    if run.run.state is State.FINISHED:
        out.print(f"{run.run.id} had ended: {escape(run.run.headline)}", soft_wrap=True)
        return
    out.print(f"{run.run.id} is being cancelled", soft_wrap=True)
    warn_if_unserved(farm, run)


def _cancel_cells(farm: Farm, run_id: str, pattern: str) -> None:
    run = farm.cancel_cells(run_id, pattern)
    named = [one for one in run.cells if one.id == pattern] or [one for one in run.cells if matches(one.id, pattern)]
    going = [one for one in named if one.state is not State.FINISHED]
    ended = f"; {len(named) - len(going)} had ended" if len(going) < len(named) else ""
    cells = going[0].id if len(going) == 1 else f"{len(going)} cells"
    out.print(f"{cells} of {run.run.id} {'is' if len(going) == 1 else 'are'} being cancelled{ended}", soft_wrap=True)
    warn_if_unserved(farm, run)


@at_a_farm
def rerun(
    farm: Farm,
    *,
    run_id: RunId = "latest",
    cells: Cells = None,
    secret: Secrets = None,
    wait: Wait = False,
    folder: AnyFolder = None,
    junit: Junit = None,
    summary: Summary = None,
    cancel_on_interrupt: CancelOnInterrupt = False,
) -> None:
    """Run cells of a run again, as a run of their own, of the same source and matrix."""
    request = _checked(RerunRequest, cells=tuple(cells or ("failed",)), secrets=_secrets(secret or ()))
    run = farm.rerun(run_id, request)
    out.print(tables.run_headline(run.run), soft_wrap=True)
    _wait(farm, run, Delivery(folder, junit, summary) if wait else None, cancels=cancel_on_interrupt)


def wanted_run(**values: Any) -> RunRequest:
    """A request for a run, without its matrix and its source. Raises ConfigError for an option that is wrong."""
    return _checked(RunRequest, **values)


def print_start(run: Overview) -> None:
    """What was submitted, and what is to be said about it."""
    print_warnings(run.warnings)
    out.print(tables.run_headline(run.run), soft_wrap=True)


def _wait(farm: Farm, run: Overview, delivery: Delivery | None, *, cancels: bool) -> None:
    if delivery:
        watch_to_the_end(farm, run, delivery, cancels=cancels)
    print_commands(run.run.id)
    warn_if_unserved(farm, run)


def _checked(kind: type[_T], **values: Any) -> _T:
    try:
        return kind(**values)
    except ValidationError as error:  # without what was given: it may be a secret
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]).replace("_", "-").removesuffix("s")
        raise ConfigError(f"cannot use the option --{name}: {first['msg']}", hint="see `--help`") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot read the label {text!r}: there is no `=` in it", hint="write KEY=VALUE")
    return key, value


def _secrets(names: Iterable[str]) -> dict[str, str]:
    """The variables of this program's environment that the scripts are to have."""
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigError(f"cannot pass on the secret {missing[0]}: there is no such environment variable")
    return {name: os.environ[name] for name in names}
