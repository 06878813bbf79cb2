"""`farm plan` and `farm run`: from a matrix to a report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from farm import tables, verdict
from farm.cli.aliases import aliases_in
from farm.cli.arguments import (
    REPORT,
    Folder,
    Hold,
    Junit,
    MatrixFile,
    MaxParallel,
    Only,
    RayAddress,
    Summary,
)
from farm.cli.deliver import Delivery
from farm.cli.farms import Farm, Server, TokenFile, Wanted, at_a_farm, farm_at
from farm.cli.here import executor_of, settled
from farm.cli.options import duration
from farm.cli.screen import err, out, print_warnings
from farm.cli.signals import leave_on_termination
from farm.cli.submit import print_start, wanted_run
from farm.cli.watch import watch_to_the_end
from farm.config import load_settings
from farm.display import Display
from farm.model import RunRecord, Submission, version_of
from farm.report.document import count_tests, run_part
from farm.service import Service

if TYPE_CHECKING:
    from farm.executor import RayExecutor


@at_a_farm
def plan(farm: Farm, matrix: MatrixFile, only: Only = None) -> None:
    """Print the cells of a matrix and where each would run. Starts nothing."""
    found = farm.plan(matrix, tuple(only or ()))
    out.print(tables.plan_table(found.plan))
    out.print(tables.forecast_sentence(found.forecast, found.slots), style="dim")
    print_warnings(found.plan.warnings)
    for alias, name in aliases_in(found.plan).items():
        out.print(f"{alias} is {name} as far as this farm knows; `farm run` asks the archive.", style="dim")
    if not found.probed:
        out.print("The hypervisors have not been tried yet; `farm doctor` does.", style="dim")
    if any(placement.problem for placement in found.plan.placements):
        raise typer.Exit(2)


def run(
    *,
    matrix: MatrixFile,
    only: Only = None,
    folder: Folder = REPORT,
    max_parallel: MaxParallel = None,
    hold_on_failure: Hold = "0",
    junit: Junit = None,
    summary: Summary = None,
    ray_address: RayAddress = None,
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Build and test the source of a matrix in every cell; end with a report."""
    delivery, hold_s = Delivery(folder, junit, summary), duration(hold_on_failure)
    if server:
        asked = wanted_run(only=tuple(only or ()), max_parallel=max_parallel, hold_on_failure=hold_s)
        with farm_at(server, token_file) as farm:
            started = farm.submit(Wanted(matrix, asked))
            print_start(started)
            watch_to_the_end(farm, started, delivery, cancels=True)
    settings = load_settings()
    service = Service(settings)
    read, cells = service.read(matrix)
    source = service.resolve(read, matrix)
    with executor_of(settings, ray_address) as executor:
        planned = service.plan(read, cells, executor.hosts(), only=only or ())
        print_warnings(planned.warnings)
        submission = Submission(
            plan=settled(settings, planned),
            source=source,
            matrix_file=str(matrix),
            max_parallel=max_parallel,
            hold_on_failure_s=hold_s,
            version=version_of(planned.matrix.source),
        )
        record = service.submit(submission)
        out.print(tables.run_headline(run_part(record, count_tests({}))), soft_wrap=True)
        record = execute(service, executor, record)
    with farm_at("", None) as farm:
        delivery.deliver(farm, record.id)
    raise typer.Exit(verdict.exit_code(record))


def execute(service: Service, executor: RayExecutor, record: RunRecord) -> RunRecord:
    """Take a run to its end, with what happens shown; Ctrl-C cancels it."""
    display = Display((cell.id for cell in record.cells), out)

    async def go() -> RunRecord:
        return await service.execute(record.id, executor, display, on_start=_cancel_on_interrupt)

    with display.live():
        return asyncio.run(go())


def _cancel_on_interrupt(cancel: Callable[[], None]) -> None:
    def gently() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        leave_on_termination()
        err.print("cancelling: the guests are being destroyed (again to leave at once)")
        cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, gently)
