"""`farm logs`: what cells wrote."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import typer

from farm.cli.arguments import RunId
from farm.cli.farms import Farm, at_a_farm
from farm.cli.screen import out
from farm.errors import NotFoundError
from farm.model import AttemptKey
from farm.select import choose
from farm.text import terminal

_CONSOLE = "console"
_LOOK_S = 0.5


@at_a_farm
def logs(
    farm: Farm,
    *,
    run_id: RunId,
    cell: Annotated[str, typer.Argument(metavar="CELL", help="A cell's id, or a glob that means one cell.")],
    phase: Annotated[str, typer.Argument(metavar="[PHASE]", help="A phase, or 'console'; without it, all.")] = "",
    attempt: Annotated[int, typer.Option(min=0, help="The attempt's number; 0 is the last.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the attempt has ended.")] = False,
) -> None:
    """Print what a cell wrote."""
    found = farm.look(run_id)
    chosen = choose([one.id for one in found.cells], cell, found.run.id)
    attempts = next(one.attempts for one in found.cells if one.id == chosen)
    number = attempt or attempts
    if not 1 <= number <= attempts:
        raise typer.BadParameter(f"{chosen} has {attempts} attempts")
    wanted = _Wanted(farm, found.run.id, chosen, number, phase)
    if follow:
        _follow(wanted)
    else:
        _print(wanted)


@dataclass(frozen=True)
class _Wanted:
    """The logs of an attempt that are asked for: one, or all of them."""

    farm: Farm
    run: str
    cell: str
    number: int
    name: str

    def sizes(self) -> dict[str, int]:
        """By name, as far as they are there."""
        return {name: size for name, size in self._all().items() if self.name in {"", name}}

    def check(self) -> None:
        """Raise NotFoundError where the log that is asked for is not there."""
        there = self._all()
        if self.name and self.name not in there:
            key = AttemptKey(run=self.run, cell=self.cell, number=self.number)
            hint = f"there are: {', '.join(there) or 'none'}"
            raise NotFoundError(f"cannot find a log {self.name!r} of {key}: there is none", hint=hint)

    def _all(self) -> Mapping[str, int]:
        return self.farm.logs(self.run, self.cell, self.number)

    def read(self, name: str, start: int = 0) -> bytes:
        return self.farm.log(self.run, self.cell, self.number, name, start)

    def has_ended(self) -> bool:
        return self.farm.has_ended(self.run, self.cell, self.number)


def _print(wanted: _Wanted) -> None:
    wanted.check()
    for name in wanted.sizes():
        if not wanted.name:
            out.print(f"[bold]== {name}[/]")
        sys.stdout.write(terminal(wanted.read(name)).rstrip("\n") + "\n")


def _follow(wanted: _Wanted) -> None:
    """All but the console, which is written to at the same time as the phases, unless it is what is asked for."""
    tails: dict[str, _Tail] = {}
    shown = ""
    while True:
        over = wanted.has_ended()  # asked first: what is there then is all that there will be
        for name, size in wanted.sizes().items():
            tail = tails.setdefault(name, _Tail())
            if size <= tail.read or name == _CONSOLE != wanted.name:
                continue
            if not wanted.name and name != shown:
                out.print(f"[bold]== {name}[/]")
            shown = name
            sys.stdout.writelines(tail.lines(wanted.read(name, tail.read)))
            sys.stdout.flush()
        if over:
            break
        time.sleep(_LOOK_S)
    sys.stdout.writelines(line for tail in tails.values() for line in tail.rest())
    wanted.check()


@dataclass
class _Tail:
    """The end of a log that grows; whole lines are shown, since a control sequence may come in two pieces."""

    read: int = 0
    begun: bytes = b""

    def lines(self, data: bytes) -> Iterator[str]:
        self.read += len(data)
        *whole, self.begun = (self.begun + data).split(b"\n")
        for line in whole:
            yield terminal(line) + "\n"

    def rest(self) -> Iterator[str]:
        if self.begun:
            yield terminal(self.begun) + "\n"
