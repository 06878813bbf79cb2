"""The command line: which commands there are. Each noun has a module of its own."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.markup import escape

from farm.cli.compat import compare, patterns, statement
from farm.cli.doctor import doctor
from farm.cli.explain import explain
from farm.cli.history import baseline_app, history, waiver_app
from farm.cli.hosts import host_app, hosts, reap
from farm.cli.images import images_app
from farm.cli.logs import logs
from farm.cli.node import host_probe, host_start
from farm.cli.reserve import extend, release, reservations, reserve
from farm.cli.run import plan, run
from farm.cli.runs import report, runs
from farm.cli.screen import err, out
from farm.cli.server import serve
from farm.cli.submit import cancel, rerun, submit
from farm.cli.tokens import token_app
from farm.cli.watch import watch
from farm.errors import FarmError
from farm.text import clean

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(version("validation-farm"))
        raise typer.Exit


@app.callback()
def program(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end.")
    ] = False,
) -> None:
    """Build and test a program in a fresh machine for every cell of a matrix."""


for command in (
    plan,
    run,
    serve,
    submit,
    watch,
    cancel,
    explain,
    rerun,
    reserve,
    reservations,
    extend,
    release,
    report,
    logs,
    runs,
    compare,
    patterns,
    statement,
    history,
    hosts,
    doctor,
    reap,
):
    app.command()(command)

app.add_typer(waiver_app, name="waiver")
app.add_typer(baseline_app, name="baseline")
app.add_typer(images_app, name="images")
host_app.command("start")(host_start)
host_app.command("probe")(host_probe)
app.add_typer(host_app, name="host")
app.add_typer(token_app, name="token")


def main() -> None:
    """Run a command; a FarmError becomes a sentence and exit status 2."""
    try:
        app()
    except FarmError as error:
        err.print(f"[bold red]error:[/] {escape(clean(error.message, limit=8000))}", soft_wrap=True)
        if error.hint:
            err.print(f"  [dim]{escape(clean(error.hint, limit=2000))}[/]", soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
