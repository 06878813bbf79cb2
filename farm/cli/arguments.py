"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MatrixFile = Annotated[Path, typer.Argument(metavar="MATRIX", help="The matrix file.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="GLOB", help="Only these cells: 'debian-13/*/qemu'. Repeatable.")
]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its id, 'latest', 'PROJECT@VERSION', 'PROJECT@last-release'.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="Join this Ray cluster.", envvar="FARM_RAY")
]
MaxParallel = Annotated[int | None, typer.Option(min=1, help="At most this many cells at a time.")]
Hold = Annotated[
    str,
    typer.Option(
        "--hold-on-failure", metavar="TIME", help="Keep a failed guest this long (30m) and print how to get in."
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", metavar="NAME", help="A variable of the scripts, with the value it has here; masked in logs."
    ),
]

Folder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")]
REPORT = Path("farm-report")
AnyFolder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where the report goes; unset: nowhere.")]
Junit = Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="The JUnit report goes here, too.")]
Summary = Annotated[
    Path | None,
    typer.Option(
        "--summary",
        metavar="FILE",
        help="The Markdown summary is added to this file.",
        envvar="GITHUB_STEP_SUMMARY",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Watch the run to its end, and exit as `farm run` does.")]
CancelOnInterrupt = Annotated[
    bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C cancels the run, instead of leaving it alone.")
]
