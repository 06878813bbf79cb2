"""`farm hosts` and `farm host list`, `drain`, `resume`: the hosts of a farm; `farm reap`: what is left on this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from farm import tables
from farm.cli.arguments import RayAddress
from farm.cli.farms import Farm, Server, TokenFile, farm_at
from farm.cli.here import executor_of
from farm.cli.screen import out
from farm.cli.trials import compare_hosts
from farm.config import EMBEDDED, load_settings

host_app = typer.Typer(help="Hosts: machines with hypervisors.", no_args_is_help=True, rich_markup_mode=None)

HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host: `farm host list`.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; whoever looks at the hosts reads it.")]


def hosts(
    *,
    compare: Annotated[
        bool, typer.Option("--compare", help="Have guests on each hypervisor, and set their figures beside each other.")
    ] = False,
    uri: Annotated[
        list[str] | None, typer.Option("--uri", metavar="URI", help="Of --compare: also this hypervisor. Repeatable.")
    ] = None,
    image: Annotated[str, typer.Option(metavar="IMAGE/ARCH", help="Of --compare: the guests' image.")] = "",
    guests: Annotated[int, typer.Option(min=1, max=50, help="Of --compare: how many of each hypervisor.")] = 5,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of --compare: write the table here, too.")
    ] = None,
    ray_address: RayAddress = None,
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """List the hosts and what each can run."""
    if compare:
        compare_hosts(uri or [load_settings().uri], image, guests, markdown)
        return
    with _farm_of(ray_address, server, token_file) as farm:
        looks = farm.hosts()
        out.print(tables.hosts_table((look.host for look in looks if look.host), (one for one in looks if one.drained)))


@host_app.command("list")
def host_list(ray_address: RayAddress = None, server: Server = "", token_file: TokenFile = None) -> None:
    """List the hosts: whether each gets work and why not, what runs there, and what it has left."""
    with _farm_of(ray_address, server, token_file) as farm:
        out.print(tables.fleet_table(farm.hosts()))


@host_app.command("drain")
def host_drain(
    host: HostName,
    reason: Reason = "drained",
    ray_address: RayAddress = None,
    server: Server = "",
    token_file: TokenFile = None,
) -> None:
    """Give a host nothing new; what runs there goes on to its end."""
    with _farm_of(ray_address, server, token_file) as farm:
        look = farm.drain(host, reason)
    still = f"{len(look.guests)} guests go on to their end" if look.guests else "no guest is there"
    out.print(f"{escape(look.name)} gets nothing new; {still}", soft_wrap=True)


@host_app.command("resume")
def host_resume(
    host: HostName, ray_address: RayAddress = None, server: Server = "", token_file: TokenFile = None
) -> None:
    """Give a drained host work again."""
    with _farm_of(ray_address, server, token_file) as farm:
        out.print(f"{escape(farm.resume(host).name)} gets work again", soft_wrap=True)


def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be destroyed.")] = False,
) -> None:
    """Destroy what killed processes have left behind."""
    from runners import reaper  # noqa: PLC0415
    from runners.hosts.folders import farm_id  # noqa: PLC0415
    from runners.libvirt import remains  # noqa: PLC0415

    settings = load_settings()
    kept: list[str] = []
    found = (
        reaper.orphans(settings.runtime)
        if dry_run
        else reaper.sweep(settings.runtime, lambda orphan, error: kept.append(f"{orphan.entry.value}: {error.message}"))
    )
    for orphan in found:
        out.print(f"{orphan.entry.kind} {orphan.entry.value}  (owner {orphan.ledger.stem} is dead)", soft_wrap=True)
    look = remains.left_on if dry_run else remains.sweep
    guests = look(settings.uri, farm_id(settings.state)) if settings.uri != EMBEDDED else ()
    for guest in guests:
        out.print(f"guest {guest.name} on {guest.uri}  (nobody owns it)", soft_wrap=True)
    out.print(f"{len(found) + len(guests)} left behind{', nothing touched' if dry_run else ', destroyed'}")
    for text in kept:
        out.print(f"still there: {text}", soft_wrap=True)


@contextmanager
def _farm_of(ray_address: str | None, server: str, token_file: Path | None) -> Iterator[Farm]:
    """A server's farm, or this machine's: with the hosts of a cluster, or with itself as the only one."""
    if server or ray_address is None:
        with farm_at(server, token_file) as farm:
            yield farm
        return
    from farm.cli.local import LocalFarm  # noqa: PLC0415 - and the store, which those of a server need not

    settings = load_settings()
    with executor_of(settings, ray_address) as executor:
        yield LocalFarm(settings, executor)
