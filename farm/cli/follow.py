"""Work of the runners, with its log shown as it comes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, TypeVar

from rich.text import Text

from farm.cli.screen import err
from farm.text import terminal


class _Said(Protocol):
    @property
    def data(self) -> bytes:
        """A piece of a log."""


T = TypeVar("T")


def follow(work: Generator[_Said, None, T]) -> T:
    """Do some work to its end; what it says goes to standard error, line by line."""
    line = b""
    try:
        while True:
            *lines, line = (line + next(work).data).split(b"\n")
            for whole in lines:
                _show(whole)
    except StopIteration as end:
        if line:
            _show(line)
        result: T = end.value
        return result
    finally:
        work.close()


def _show(line: bytes) -> None:
    err.print(Text(terminal(line).rstrip("\n"), style="dim"), soft_wrap=True)
