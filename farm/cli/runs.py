"""`farm runs` and `farm report`: what became of runs."""

from __future__ import annotations

from typing import Annotated

import typer

from farm import tables
from farm.cli.arguments import REPORT, Folder, RunId
from farm.cli.deliver import Delivery
from farm.cli.farms import Farm, at_a_farm
from farm.cli.screen import out


@at_a_farm
def report(farm: Farm, run_id: RunId = "latest", folder: Folder = REPORT) -> None:
    """Write the report of a run again."""
    Delivery(folder).deliver(farm, farm.look(run_id).run.id)


@at_a_farm
def runs(farm: Farm, limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20) -> None:
    """List the newest runs."""
    out.print(tables.runs_table(farm.runs(limit)))
