"""`farm reserve` and what belongs to it: clean guests for people, and failed ones that are kept for them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from farm.cli.arguments import RayAddress
from farm.cli.farms import Farm, Server, TokenFile, at_a_farm, farm_at
from farm.cli.options import duration, mebibytes, ssh_key
from farm.cli.screen import err, out, print_warnings
from farm.config import Settings, load_settings
from farm.errors import ConfigError, HostError
from farm.matrix import load
from farm.model import NO_LAYER, HoldState, Reservation, ReservationRequest
from farm.model.attempt import LONGEST_HOLD_S
from farm.text import clean_line

_LOOK_S = 1.0

Wanted = Annotated[
    str, typer.Argument(metavar="IMAGE/ARCH", help="'debian-13/riscv64', or with a hypervisor after it.")
]
For = Annotated[str, typer.Option("--for", metavar="TIME", help="How long, from when it is there: 90m, 2h.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="Your public SSH key; without it, the first of ~/.ssh/id_*.pub."),
]
Matrix = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Take the machine, the images and the layers of this matrix.")
]
Layers = Annotated[str, typer.Option("--with", metavar="NAME", help="These layers of the matrix: 'a', 'a+b'.")]
Packages = Annotated[
    list[str] | None, typer.Option("--package", metavar="PKG", help="A Debian package to add. Repeatable.")
]
Memory = Annotated[str | None, typer.Option(metavar="SIZE", help="Its memory: 512M, 2G.")]
Vcpus = Annotated[int | None, typer.Option(min=1, help="Its processors.")]
Disk = Annotated[str | None, typer.Option(metavar="SIZE", help="Its root disk: 2G.")]
Network = Annotated[str | None, typer.Option(metavar="WORD", help="'open': it gets out through the host.")]
Priority = Annotated[int, typer.Option(min=0, max=100, help="What has a higher one comes first.")]
Longer = Annotated[str, typer.Option("--for", metavar="TIME", help="How much longer: 1h.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="'reserve-3', or RUN/CELL of a guest that failed.")]


def reserve(
    *,
    wanted: Wanted,
    time_: For = "2h",
    key: KeyFile = None,
    matrix: Matrix = None,
    layers: Layers = NO_LAYER,
    package: Packages = None,
    memory: Memory = None,
    vcpus: Vcpus = None,
    disk: Disk = None,
    network: Network = None,
    priority: Priority = 50,
    ray_address: RayAddress = None,
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Get a clean guest for a while, and get in with your own SSH key.

    `farm serve` carries it out, on a server or on this machine; where there is none, this command does, and Ctrl-C
    ends it.
    """
    sizes = {
        "memory": mebibytes(memory) if memory else None,
        "disk": mebibytes(disk) if disk else None,
        "vcpus": vcpus,
        "network": network,
    }
    more = {"for": duration(time_), "ssh_key": ssh_key(key), "with": layers, "priority": priority}
    request = _request(wanted, matrix, tuple(package or ()), sizes, more)
    with farm_at(server, token_file) as farm:
        if farm.unserved():
            _here(load_settings(), request, ray_address)
        else:
            _print_ready(_wait(farm, farm.reserve(request)))


@at_a_farm
def reservations(farm: Farm) -> None:
    """List the guests that people have, or wait for, failed ones that are kept among them."""
    found = farm.reservations()
    table = Table("id", "state", "guest", "host", "until", "owner", box=None, pad_edge=False, header_style="dim")
    for one in found:
        until = f"{one.until:%Y-%m-%d %H:%M:%S} UTC" if one.until else ""
        table.add_row(*map(escape, (one.id, one.state, one.cell, one.host, until, one.owner)))
    out.print(table)
    for one in found:
        if one.command:
            out.print(f"{escape(one.id)}  {escape(clean_line(one.command, limit=4000))}", soft_wrap=True)


@at_a_farm
def extend(farm: Farm, id_: Id, time_: Longer) -> None:
    """Keep a guest for longer."""
    found = farm.reservation(id_)
    made = farm.extend(id_, found.until + timedelta(seconds=duration(time_))) if found.until else found
    if made.until is None:
        raise ConfigError(f"cannot extend {id_}: its guest is not there", hint="see `farm reservations`")
    out.print(f"{escape(made.id)} ends at {made.until:%Y-%m-%d %H:%M:%S} UTC", soft_wrap=True)


@at_a_farm
def release(farm: Farm, id_: Id) -> None:
    """End a guest that you do not need any longer."""
    made = farm.release(id_)
    said = f"had ended: {made.summary}" if made.state is HoldState.ENDED else "is being destroyed"
    out.print(f"{escape(made.id)} {escape(clean_line(said, limit=500))}", soft_wrap=True)


def _request(
    wanted: str, matrix: Path | None, packages: tuple[str, ...], sizes: dict[str, Any], more: dict[str, Any]
) -> ReservationRequest:
    """What is asked for. Raises ConfigError, and MatrixError for the file."""
    image, *rest = wanted.split("/")
    if len(rest) not in {1, 2}:
        raise ConfigError(f"cannot reserve {wanted!r}: it is no IMAGE/ARCH", hint="for example debian-13/riscv64")
    read = load(matrix).matrix if matrix else None
    guest: dict[str, Any] = read.guest.model_dump(by_alias=True) if read else {}
    guest |= {name: value for name, value in sizes.items() if value is not None}
    guest["packages"] = (*guest.get("packages", ()), *packages)
    named = {"image": image, "arch": rest[0]} | ({"hypervisor": rest[1]} if len(rest) > 1 else {})
    parts = {"layers": read.layers, "images": {n: i.model_dump() for n, i in read.images.items()}} if read else {}
    try:
        return ReservationRequest.model_validate({**named, **more, **parts, "guest": guest})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(f"cannot reserve {wanted}: {what}") from error


def _wait(farm: Farm, made: Reservation) -> Reservation:
    """The reservation when its guest is there. Raises HostError where it does not come."""
    out.print(f"{escape(made.id)}  {escape(made.cell)}", soft_wrap=True)
    try:
        with err.status("waiting for the guest …"):
            while (made := farm.reservation(made.id)).state is HoldState.WAITING:
                time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        err.print(f"it is still wanted; give it up with: farm release {escape(made.id)}", soft_wrap=True)
        raise typer.Exit(130) from None
    if made.state is not HoldState.READY:
        raise HostError(f"cannot have the guest: {made.summary}", hint=f"see `farm logs {made.run} {made.cell}`")
    return made


def _print_ready(made: Reservation) -> None:
    until = f" until {made.until:%Y-%m-%d %H:%M:%S} UTC" if made.until else ""
    out.print(f"on host  {escape(made.host)}{until}", soft_wrap=True)
    out.print(f"enter    {escape(clean_line(made.command, limit=4000))}", soft_wrap=True)
    out.print(f"extend   farm extend {escape(made.id)} --for 1h", soft_wrap=True)
    out.print(f"end      farm release {escape(made.id)}", soft_wrap=True)


def _here(settings: Settings, request: ReservationRequest, ray_address: str | None) -> None:
    """Carry the reservation out in this process, to its end."""
    from farm.cli.here import executor_of, settled  # noqa: PLC0415 - all this is for here only
    from farm.cli.run import execute  # noqa: PLC0415
    from farm.reservations import Reservations, planned, submission_of  # noqa: PLC0415
    from farm.service import Service  # noqa: PLC0415

    service = Service(settings)
    with executor_of(settings, ray_address) as executor:
        plan = settled(settings, planned(request, executor.hosts()))
        print_warnings(plan.warnings)
        record = service.submit(submission_of(request, plan, limit_s=LONGEST_HOLD_S))
        out.print(f"{record.id}  {escape(record.cells[0].id)}  (Ctrl-C ends it)", soft_wrap=True)
        execute(service, executor, record)
    ended = Reservations(service.store).find(record.id, now=datetime.now(UTC))
    out.print(f"{ended.id} has ended: {escape(ended.summary)}", soft_wrap=True)
    if ended.since is None:
        raise typer.Exit(2)
