"""`farm compare`, `farm patterns` and `farm statement`: what runs say of a program's compatibility."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from farm import report
from farm.cli.arguments import RunId
from farm.cli.farms import Farm, at_a_farm
from farm.cli.options import duration
from farm.cli.screen import out
from farm.report.compare_formats import COMPARE_FORMATS
from farm.report.patterns_text import to_text
from farm.report.statement_formats import STATEMENT_FORMATS

_WORSE = 1


def _one_of(formats: Mapping[str, Any]) -> Callable[[str], str]:
    """A check that an option names a format."""

    def check(name: str) -> str:
        if name not in formats:
            raise typer.BadParameter(f"no such format; there are: {', '.join(formats)}")
        return name

    return check


@at_a_farm
def compare(
    farm: Farm,
    base: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with: the base.")],
    head: Annotated[str, typer.Argument(metavar="RUN", help="The run that is looked at: the head.")],
    form: Annotated[
        str, typer.Option("--format", metavar="NAME", help="text, json or markdown.", callback=_one_of(COMPARE_FORMATS))
    ] = "text",
) -> None:
    """Say what became of every cell and test from one run to another; exit status 1 where something became worse."""
    found = farm.archive.compare(base, head)
    sys.stdout.write(COMPARE_FORMATS[form](found))
    if found.worse:
        raise typer.Exit(_WORSE)


@at_a_farm
def patterns(farm: Farm, run_id: RunId = "latest") -> None:
    """Say where tests fail and where they pass: the smallest combination of axis values that tells."""
    sys.stdout.write(to_text(farm.archive.patterns(run_id)))


@at_a_farm
def statement(
    farm: Farm,
    *,
    run_id: RunId = "latest",
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="RUN", help="The run that this one has to keep up with.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="NAME", help="text, json, csv, markdown or html.", callback=_one_of(STATEMENT_FORMATS)
        ),
    ] = "text",
    max_age: Annotated[str | None, typer.Option(metavar="TIME", help="Evidence older than this is stale: 30d.")] = None,
    file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where it goes.")] = None,
) -> None:
    """Say of every platform of a run whether it is supported, and why."""
    age_s = duration(max_age) if max_age else None
    made = farm.archive.statement(run_id, baseline=baseline, max_age_s=age_s)
    text = STATEMENT_FORMATS[form].render(made)
    if file is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        return
    report.put(file, text)
    out.print(f"{made.headline} Written to {file}.", markup=False, soft_wrap=True)
