"""A run that somebody else carries out, watched to its end: `farm watch`, and what `--wait` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from farm.cli.arguments import AnyFolder, CancelOnInterrupt, Junit, RunId, Summary
from farm.cli.deliver import Delivery
from farm.cli.farms import Farm, at_a_farm
from farm.cli.screen import err, out, print_warnings
from farm.cli.signals import raise_on_termination
from farm.model import State
from farm.replay import Replay
from farm.report.overview import Overview

INTERRUPTED = 130


@at_a_farm
def watch(
    farm: Farm,
    *,
    run_id: RunId = "latest",
    folder: AnyFolder = None,
    junit: Junit = None,
    summary: Summary = None,
    cancel_on_interrupt: CancelOnInterrupt = False,
) -> None:
    """Watch a run to its end, and exit as `farm run` does."""
    watch_to_the_end(farm, farm.look(run_id), Delivery(folder, junit, summary), cancels=cancel_on_interrupt)


def watch_to_the_end(farm: Farm, run: Overview, delivery: Delivery, *, cancels: bool) -> None:
    """Show how a run goes, deliver its report, and exit with its status; Ctrl-C leaves it alone, or `cancels` it."""
    raise_on_termination()
    warn_if_unserved(farm, run)
    with _left_alone(run.run.id):
        _show(farm, run, cancels=cancels)
        report = delivery.deliver(farm, run.run.id)
    raise typer.Exit(report.run.exit_code or 0)


def print_commands(run: str) -> None:
    """How to watch a run, and how to end it."""
    out.print(f"watch    farm watch {run}\ncancel   farm cancel {run}", soft_wrap=True)


def warn_if_unserved(farm: Farm, run: Overview) -> None:
    """Say so where nobody carries out what was submitted."""
    if run.run.state is State.QUEUED and (why := farm.unserved()):
        print_warnings([why])


def _show(farm: Farm, run: Overview, *, cancels: bool) -> None:
    shown = _Shown(farm, run.run.id, Replay((cell.id for cell in run.cells), run.run.created, out))
    with shown.replay.display.live():
        try:
            shown.go_on()
        except KeyboardInterrupt:
            if not cancels:
                raise
            err.print("cancelling: the guests are being destroyed (again to leave at once)")
            farm.cancel(run.run.id)
            shown.go_on()


@dataclass(frozen=True)
class _Shown:
    farm: Farm
    run: str
    replay: Replay

    def go_on(self) -> None:
        """Show what happens after what was shown before."""
        for event in self.farm.events(self.run, self.replay.last):
            self.replay.heard(event)


@contextmanager
def _left_alone(run: str) -> Iterator[None]:
    """Ctrl-C in here ends the program, and says that it does not end the run."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"not watching any more; {run} goes on")
        print_commands(run)
        raise typer.Exit(INTERRUPTED) from None
