"""Values of options that are more than a word."""

from __future__ import annotations

from pathlib import Path

import typer

from farm.errors import ConfigError
from farm.model import parse_duration, parse_size
from farm.model.sshkey import public_key

_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


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


def ssh_key(file: Path | None) -> str:
    """The public SSH key in a file; without one, the user's own. Raises ConfigError."""
    folder = Path.home() / ".ssh"
    found = file or next((path for name in _KEYS if (path := folder / name).exists()), None)
    if found is None:
        raise ConfigError(f"cannot find your public SSH key: there is none in {folder}", hint="name it with --key FILE")
    try:
        return public_key(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"cannot use the SSH key {found}: {cause}", hint="name a public one with --key FILE"
        ) from error
