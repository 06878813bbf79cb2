"""The farm that a command speaks to: on this machine, or on a server. Chosen once, by --server or FARM_SERVER."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_type_hints

import typer

from farm.config import load_settings, load_token
from farm.estimate import Forecast
from farm.explain import Explanation
from farm.model import (
    EventRecord,
    HostLook,
    Plan,
    RerunRequest,
    Reservation,
    ReservationRequest,
    RunRequest,
    RunSummary,
)
from farm.report.overview import Overview

if TYPE_CHECKING:  # and the store, which commands of a server need not
    from farm.cli.archives import Archive
    from farm.cli.remote import RemoteFarm

Server = Annotated[
    str,
    typer.Option("--server", metavar="URL", help="The farm on this server, not this machine's.", envvar="FARM_SERVER"),
]
TokenFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The token for the server is in here, not in FARM_TOKEN.")
]


@dataclass(frozen=True)
class Planned:
    """What a run would do, and how long that takes."""

    plan: Plan
    slots: int
    """How many cells at a time."""
    forecast: Forecast
    probed: bool
    """False: the hypervisors have not been tried yet."""


@dataclass(frozen=True)
class Wanted:
    """A run that is wanted, of a matrix file and its source on this machine."""

    file: Path
    request: RunRequest
    """The rest; its matrix and its source are filled in from the file."""
    key: str | None = None
    """The same key twice is the same run."""


class Farm(Protocol):
    """What the commands ask. Every method raises FarmError."""

    @property
    def archive(self) -> Archive:
        """What is asked of many runs."""

    def plan(self, file: Path, only: tuple[str, ...]) -> Planned:
        """What a run of a matrix file would do; starts nothing."""

    def hosts(self) -> tuple[HostLook, ...]:
        """The hosts: what each can run, what runs there, and whether it gets anything new."""

    def drain(self, host: str, reason: str) -> HostLook:
        """Give a host nothing new; what runs there goes on to its end."""

    def resume(self, host: str) -> HostLook:
        """Give a host work again."""

    def submit(self, wanted: Wanted) -> Overview:
        """Have a run carried out by whoever serves the farm."""

    def cancel(self, run: str) -> Overview:
        """Have a run end; nothing happens where it has ended."""

    def rerun(self, run: str, request: RerunRequest) -> Overview:
        """Run cells again, as a run of their own."""

    def runs(self, limit: int) -> tuple[RunSummary, ...]:
        """The newest runs."""

    def look(self, run: str) -> Overview:
        """A run at a glance; `latest` is the newest."""

    def files(self, run: str, formats: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Its report in some of `farm.report.FORMATS`, by their names."""

    def events(self, run: str, after: int = 0) -> Iterator[EventRecord]:
        """What has happened in a run since an event, and what happens, to its end; 0: since it was submitted."""

    def logs(self, run: str, cell: str, number: int) -> Mapping[str, int]:
        """An attempt's logs in the order of the phases: name -> bytes by now."""

    def log(self, run: str, cell: str, number: int, name: str, start: int = 0) -> bytes:
        """A log as it is now, from a byte on."""

    def has_ended(self, run: str, cell: str, number: int) -> bool:
        """Whether nothing is added to an attempt's logs any more."""

    def explain(self, run: str, cell: str) -> Explanation:
        """Where a cell stands, and why; a glob may name it."""

    def cancel_cells(self, run: str, pattern: str) -> Overview:
        """Have the cells end that an id or a glob names."""

    def reserve(self, request: ReservationRequest) -> Reservation:
        """Reserve a guest with whoever serves the farm."""

    def reservations(self) -> tuple[Reservation, ...]:
        """The guests for people that there are, or will be, as far as one may see them."""

    def reservation(self, id_: str) -> Reservation:
        """One of them, also one that has ended."""

    def extend(self, id_: str, until: datetime) -> Reservation:
        """Give one another end."""

    def release(self, id_: str) -> Reservation:
        """End one; nothing happens where it has ended."""

    def unserved(self) -> str:
        """Why nothing that is submitted would be carried out now; empty: it would."""


@contextmanager
def farm_at(server: str, token_file: Path | None) -> Iterator[Farm]:
    """The farm of a server; of this machine where none is named. Raises ConfigError."""
    if server:
        with server_farm(server, token_file) as farm:
            yield farm
    else:
        from farm.cli.local import LocalFarm  # noqa: PLC0415 - and the store, which those of a server need not

        yield LocalFarm(load_settings())


@contextmanager
def server_farm(server: str, token_file: Path | None) -> Iterator[RemoteFarm]:
    """The farm of a server. Raises ConfigError."""
    from farm.cli.remote import remote_farm  # noqa: PLC0415 - httpx, which commands of this machine need not

    with remote_farm(load_settings(), server, load_token(token_file)) as farm:
        yield farm


def at_a_farm(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first argument is a Farm, as one with the options that say which."""

    @functools.wraps(command)
    def at(*, server: str, token_file: Path | None, **arguments: Any) -> None:
        with farm_at(server, token_file) as farm:
            command(farm, **arguments)

    hints = get_type_hints(command, include_extras=True)
    first, *own = inspect.signature(command).parameters.values()
    del hints[first.name]
    options = [
        *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[one.name]) for one in own),
        inspect.Parameter("server", inspect.Parameter.KEYWORD_ONLY, default="", annotation=Server),
        inspect.Parameter("token_file", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=TokenFile),
    ]
    # What typer reads, instead of what the wrapped function has.
    at.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    at.__annotations__ = hints | {"server": Server, "token_file": TokenFile}
    del at.__wrapped__
    return at
