"""The command line, and the place where everything is put together."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from farm import tables, verdict
from farm.cli.aliases import Resolver, aliases_in
from farm.cli.images import images_app
from farm.cli.options import duration
from farm.cli.screen import err, out
from farm.config import Settings, load_settings
from farm.display import Display
from farm.errors import FarmError
from farm.estimate import capacity, forecast
from farm.model import Plan, RunRecord, Submission
from farm.planner import pin
from farm.service import Service
from farm.text import clean, terminal

if TYPE_CHECKING:  # half a second, which commands without it need not wait
    from farm.executor import RayExecutor

app = typer.Typer(
    help="Build and test a program in a fresh machine for every cell of a matrix.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
host_app = typer.Typer(help="This machine as a host of a cluster.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(images_app, name="images")
app.add_typer(host_app, name="host")

MatrixFile = Annotated[Path, typer.Argument(metavar="MATRIX", help="The matrix file.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="GLOB", help="Only these cells: 'debian-13/*/qemu'. Repeatable.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id; 'latest' is the newest.")]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="Join this Ray cluster.", envvar="FARM_RAY")
]


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


@app.command()
def plan(matrix: MatrixFile, only: Only = None) -> None:
    """Print the cells of a matrix and where each would run. Starts nothing."""
    settings = load_settings()
    service = Service(settings)
    read, cells = service.read(matrix)
    host = _probe().known_host(settings)
    planned = service.plan(read, cells, (host,), only=only or ())
    out.print(tables.plan_table(planned))
    slots = min(capacity((host,), read.guest), read.max_parallel or sys.maxsize)
    out.print(tables.forecast_sentence(forecast(planned.placements, slots), slots), style="dim")
    _print_warnings(planned)
    for alias, name in aliases_in(planned).items():
        out.print(f"{alias} is {name} as far as this farm knows; `farm run` asks the archive.", style="dim")
    if not host.probed:
        out.print("The hypervisors have not been tried yet; `farm doctor` does.", style="dim")
    if any(placement.problem for placement in planned.placements):
        raise typer.Exit(2)


@app.command()
def run(  # noqa: PLR0917 - typer's way
    matrix: MatrixFile,
    only: Only = None,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")] = Path("farm-report"),
    max_parallel: Annotated[int | None, typer.Option(min=1, help="At most this many cells at a time.")] = None,
    hold_on_failure: Annotated[
        str, typer.Option(metavar="TIME", help="Keep a failed guest this long (30m) and print how to get in.")
    ] = "0",
    ray_address: RayAddress = None,
) -> None:
    """Build and test the source of a matrix in every cell; end with a report."""
    settings = load_settings()
    service = Service(settings)
    hold_s = duration(hold_on_failure)
    read, cells = service.read(matrix)
    source = service.resolve(read, matrix)
    with _executor(settings, ray_address) as executor:
        planned = service.plan(read, cells, executor.hosts(), only=only or ())
        _print_warnings(planned)
        submission = Submission(
            plan=_settled(settings, planned),
            source=source,
            matrix_file=str(matrix),
            max_parallel=max_parallel,
            hold_on_failure_s=hold_s,
        )
        record = service.submit(submission)
        out.print(tables.run_headline(record), soft_wrap=True)
        record = _execute(service, executor, record)
    service.write_report(record, folder)
    _print_result(record, folder)
    raise typer.Exit(verdict.exit_code(record))


@app.command()
def report(
    run_id: RunId = "latest",
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")] = Path("farm-report"),
) -> None:
    """Write the report of a run again."""
    service = Service(load_settings())
    record = service.run(run_id)
    service.write_report(record, folder)
    _print_result(record, folder)


@app.command()
def logs(
    run_id: RunId,
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or a glob that means one cell.")],
    phase: Annotated[str, typer.Argument(metavar="[PHASE]", help="A phase, or 'console'; without it, all.")] = "",
    attempt: Annotated[int, typer.Option(min=0, help="The attempt's number; 0 is the last.")] = 0,
) -> None:
    """Print what a cell wrote."""
    service = Service(load_settings())
    record = service.cell(service.run(run_id), cell)
    attempts = [one for one in record.attempts if one.key.number == (attempt or len(record.attempts))]
    if not attempts:
        raise typer.BadParameter(f"{record.id} has {len(record.attempts)} attempts")
    key = attempts[0].key
    for name in (phase,) if phase else service.logs(key):
        if not phase:
            out.print(f"[bold]== {name}[/]")
        sys.stdout.write(terminal(service.log(key, name)).rstrip("\n") + "\n")


@app.command()
def runs(limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20) -> None:
    """List the newest runs."""
    out.print(tables.runs_table(Service(load_settings()).runs(limit)))


@app.command()
def hosts(ray_address: RayAddress = None) -> None:
    """List the hosts and what each can run."""
    settings = load_settings()
    if ray_address is None:
        out.print(tables.hosts_table((_probe().known_host(settings),)))
        return
    with _executor(settings, ray_address) as executor:
        out.print(tables.hosts_table(executor.hosts()))


@app.command()
def doctor() -> None:
    """Try every hypervisor of this machine by running something in it, and say what works."""
    settings = load_settings()
    out.print(f"cache    {settings.cache}\nstate    {settings.state}\nruntime  {settings.runtime}")
    with out.status("trying the hypervisors …"):
        host = _probe().probe_host(settings)
        if host.probed:
            _probe().remember(settings, host)
    out.print(tables.hosts_table((host,)))
    if all(offer.problem for offer in host.offers if not offer.scripted):
        raise typer.Exit(2)


@app.command()
def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be destroyed.")] = False,
) -> None:
    """Destroy what killed processes have left behind."""
    from runners import reaper  # noqa: PLC0415

    runtime = load_settings().runtime
    found = reaper.orphans(runtime) if dry_run else reaper.sweep(runtime)
    for orphan in found:
        out.print(f"{orphan.entry.kind} {orphan.entry.value}  (owner {orphan.ledger.stem} is dead)", soft_wrap=True)
    out.print(f"{len(found)} left behind{', nothing touched' if dry_run else ', destroyed'}")


@host_app.command("start")
def host_start(
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="The cluster's head; without it, this is.")
    ] = None,
    port: Annotated[int, typer.Option(help="The port of a head.")] = 6379,
    bind: Annotated[str, typer.Option(help="This node's address.")] = "127.0.0.1",
) -> None:
    """Probe this machine and join a Ray cluster as a host (or start one); ends with Ctrl-C."""
    from farm.node import start_node  # noqa: PLC0415

    settings = load_settings()
    with out.status("trying the hypervisors …"):
        host = _probe().local_host(settings)
    out.print(tables.hosts_table((host,)))
    start_node(host, address=ray_address, port=port, bind=bind)


@contextmanager
def _executor(settings: Settings, address: str | None) -> Iterator[RayExecutor]:
    """A started executor, on a cluster or on a Ray of its own; afterwards nothing of it is left."""
    from farm.executor import RayExecutor  # noqa: PLC0415
    from runners.session import local_session  # noqa: PLC0415

    if address is not None:
        with _started(RayExecutor(address=address)) as executor:
            yield executor
        return
    with local_session(settings.runtime) as session:
        with out.status("trying the hypervisors …"):
            host = _probe().local_host(settings)
        with _started(RayExecutor(session=session, host=host)) as executor:
            yield executor


@contextmanager
def _started(executor: RayExecutor) -> Iterator[RayExecutor]:
    executor.start()
    try:
        yield executor
    finally:
        executor.close()


def _execute(service: Service, executor: RayExecutor, record: RunRecord) -> RunRecord:
    display = Display(record.submission.plan, out)

    async def go() -> RunRecord:
        return await service.execute(record.id, executor, display, on_start=_cancel_on_interrupt)

    with display.live():
        return asyncio.run(go())


def _cancel_on_interrupt(cancel: Callable[[], None]) -> None:
    def gently() -> None:
        err.print("cancelling: the guests are being destroyed (again to leave at once)")
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, gently)


def _settled(settings: Settings, planned: Plan) -> Plan:
    """The plan with its aliases settled; where the archive could not be asked about one, that is a warning."""
    resolver = Resolver(settings, build_s=planned.matrix.timeouts.provision)
    settled = pin(planned, resolver)
    return settled.model_copy(update={"warnings": (*settled.warnings, *resolver.doubts.values())})


def _print_warnings(planned: Plan) -> None:
    for warning in planned.warnings:
        err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


def _print_result(record: RunRecord, folder: Path) -> None:
    out.print()
    out.print(tables.result_table(record))
    out.print(tables.result_sentence(record))
    out.print(f"report   {folder / 'index.html'}", soft_wrap=True)
    if command := tables.rerun_command(record):
        out.print(f"again    {command}", soft_wrap=True)


@functools.cache
def _probe() -> Any:
    # libvirt is loaded only by commands that need it.
    from runners import probe  # noqa: PLC0415

    return probe
