"""`farm host start` and `farm host probe`: a hypervisor, this machine's or another's, as a host of a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from farm import node, tables
from farm.cli.here import probe
from farm.cli.screen import out, print_warnings
from farm.config import Settings, load_settings
from farm.errors import ConfigError, HostError
from farm.inventory import HostEntry, entry_of, labels_from
from farm.model import Host
from farm.serverconfig import load_config

Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="farm.toml, which may list the host.", envvar="FARM_CONFIG")
]
Uri = Annotated[
    str,
    typer.Option(
        metavar="URI", help="The hypervisor: qemu:///system, xen+ssh://root@xen1/system.", envvar="FARM_HOST_URI"
    ),
]


def host_start(
    *,
    address: Annotated[
        str | None,
        typer.Option("--address", "--ray-address", metavar="HOST:PORT", help="The cluster's head; unset: this is it."),
    ] = None,
    uri: Uri = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="What the host is called; one of farm.toml is started as it says there.")
    ] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="What is to be known of it. Repeatable.")
    ] = None,
    config: Config = None,
    port: Annotated[int, typer.Option(help="The port of a head.")] = 6379,
    bind: Annotated[str, typer.Option(help="This node's address.")] = "127.0.0.1",
) -> None:
    """Probe a hypervisor and join a Ray cluster with it as a host (or start one); ends with Ctrl-C."""
    from runners.session import node_session  # noqa: PLC0415

    entry = _entry(config, name, uri, label or [])
    settings = _settled(entry)
    if address is not None:
        node.check_head(address)
    host = entry.limited(_probed(settings))
    out.print(tables.hosts_table((host,)))
    if not any(not offer.problem and not offer.scripted for offer in host.offers):
        raise HostError(f"cannot start the host {host.name}: it can run nothing", hint="`farm doctor` says why not")
    if address is None:
        node.make_token()
    with node_session(settings.runtime) as environ:
        out.print(f"{host.name} is a host of {address or f'{bind}:{port}'} until it is told to end (Ctrl-C)")
        node.run_node(node.ray_command(host, address=address, port=port, bind=bind), os.environ | environ)


def host_probe(
    uri: Uri = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="The host of farm.toml with this name.")] = "",
    config: Config = None,
) -> None:
    """Try everything on a hypervisor by running something in it, and remember what works."""
    settings = _settled(_entry(config, name, uri, []))
    with out.status("trying the hypervisors …"):
        host = probe().probe_host(settings)
    if host.probed:
        probe().remember(settings, host)
    out.print(tables.hosts_table((host,)))
    if all(offer.problem for offer in host.offers if not offer.scripted):
        raise typer.Exit(2)


def _entry(config: Path | None, name: str, uri: str, labels: list[str]) -> HostEntry:
    """What is said of the host: in farm.toml, where it is listed there, and by options. Raises ConfigError."""
    told = labels_from(labels)
    listed = load_config(config).hosts
    if name and not uri and (listed or config):
        entry = entry_of(listed, name)
    else:
        settings = load_settings(dict(os.environ) | ({"FARM_HOST_URI": uri} if uri else {}))
        entry = HostEntry.model_construct(name=name or settings.host_name, uri=settings.uri)
    return _checked(entry.model_copy(update={"labels": entry.labels | told}))


def _checked(entry: HostEntry) -> HostEntry:
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        return HostEntry.model_validate(entry.model_dump())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        word = first["input"]
        raise ConfigError(
            f"cannot start the host {entry.name!r}: {word!r} cannot be a name or a label",
            hint="letters, digits, '.', '_' and '-', at most 63 of them",
        ) from error


def _settled(entry: HostEntry) -> Settings:
    """The settings of this process and of all that it starts are the host's from now on."""
    os.environ.update(entry.environment())
    return load_settings()


def _probed(settings: Settings) -> Host:
    from runners.hosts.trial import calibrated  # noqa: PLC0415

    with out.status("trying the hypervisors …"):
        host, warnings = calibrated(probe().local_host(settings), settings)
    print_warnings(warnings)
    return host
