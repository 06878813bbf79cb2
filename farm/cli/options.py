"""Values of options that are more than a word."""

from __future__ import annotations

import typer

from farm.model import parse_duration, parse_size


def duration(text: str) -> float:
    """`90s`, `10m`, `30d` -> seconds."""
    try:
        return float(str(parse_duration(text)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def mebibytes(text: str) -> int:
    """`512M`, `20G` -> MiB."""
    try:
        return int(str(parse_size(text)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
