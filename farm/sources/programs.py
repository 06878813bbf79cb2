"""Running the programs that fetch sources: no terminal, no questions, errors with their last lines."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from farm.errors import SourceError
from farm.sources.cached import blocks_of, copy

_TIMEOUT_S = 900.0
_LAST_LINES = 5
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "DEBIAN_FRONTEND": "noninteractive"}
_NOT_INHERITED = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
)
"""They name another repository, where the farm is started from a git hook: git(1)."""


def run(
    argv: Sequence[str], *, to: str, hint: str = "", cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """What a program writes to its standard output.

    `to` is what it is run for, a verb and a thing: "fetch the branch". Raises SourceError with the last
    lines of its standard error if it returns another status than 0, is not installed, or takes too long.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=_environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            start_new_session=True,  # without a terminal nothing can ask it for a password
            check=True,
        )
    except FileNotFoundError as error:
        raise _not_installed(argv, to) from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"cannot {to}: {argv[0]} is not done after {_TIMEOUT_S:g} s") from error
    except subprocess.CalledProcessError as error:
        cause = _last_lines(error.stderr) or f"exit status {error.returncode}"
        raise SourceError(f"cannot {to}: {cause}", hint=hint) from error
    return done.stdout.decode("utf-8", "replace")


def run_into(
    file: IO[bytes],
    argv: Sequence[str],
    *,
    to: str,
    limit: int,
    cwd: Path | None = None,
) -> None:
    """Write a program's standard output to a file, at most `limit` bytes. Raises SourceError as `run` does."""
    with tempfile.TemporaryFile() as errors:
        try:
            program = subprocess.Popen(
                argv,
                cwd=cwd,
                env=_environment(None),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise _not_installed(argv, to) from error
        with program:
            try:
                copy(blocks_of(cast("IO[bytes]", program.stdout)), file, limit=limit, to=to)
            except BaseException:
                program.kill()
                raise
        if program.returncode:
            errors.seek(0)
            raise SourceError(f"cannot {to}: {_last_lines(errors.read()) or f'exit status {program.returncode}'}")


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return {**inherited, **_ENVIRONMENT, **(more or {})}


def _not_installed(argv: Sequence[str], to: str) -> SourceError:
    return SourceError(f"cannot {to}: {argv[0]} is not installed", hint=f"install {argv[0]}, then try again")


def _last_lines(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    return "; ".join(lines[-_LAST_LINES:])
