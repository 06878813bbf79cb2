"""Where the farm keeps its things. Every path is a setting; the defaults follow the XDG directories."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field

from farm.errors import ConfigError
from farm.model import Model, parse_size

EMBEDDED = "qemu:///embed"
"""libvirt's QEMU driver inside this process."""


class Settings(Model):
    """The farm's own settings, read from the environment once, at the start of a program."""

    cache: Path
    """FARM_CACHE: images, fetched sources; may be deleted at any time when nothing runs."""
    state: Path
    """FARM_STATE: the database, logs and artifacts of runs."""
    runtime: Path
    """FARM_RUNTIME: the ledger and the roots of live guests. Short: socket paths have 107 bytes."""
    database: str = Field(default_factory=lambda told: f"sqlite:///{told['state'] / 'farm.db'}")
    """FARM_DATABASE: where runs are kept, as SQLAlchemy writes it: `postgresql://farm@db.example.org/runs`; by default
    in a file of FARM_STATE."""
    mirror: str = ""
    """FARM_MIRROR: the Debian mirror for images; empty: the one of the machine's own apt sources."""

    cache_limit: int = 40 * 1024
    """FARM_CACHE_LIMIT: MiB that images and snapshots may take together; what was not used for longest goes. 0: any."""

    log: Literal["debug", "info", "warning", "error"] = "info"
    """FARM_LOG: how much `farm serve` says: what is at least as important as this."""

    matrices: Path | None = None
    """FARM_MATRICES: the matrices that `farm serve` offers by their names; unset: none."""

    uri: str = EMBEDDED
    """FARM_HOST_URI: the hypervisor on which guests are made, as libvirt names it; workers have it from their node."""

    host_name: str = "host"
    """FARM_HOST_NAME: what this host is called in its cluster; unset: as the hypervisor's machine is."""
    host_bridge: str = ""
    """FARM_HOST_BRIDGE: the hypervisor's machine's own bridge, for guests whose network is `bridge`; empty: none is."""
    keep_memory: int = 512
    """FARM_KEEP_MEMORY: with fewer MiB of free memory than this, the host takes nothing new."""
    keep_disk: int = 2048
    """FARM_KEEP_DISK: with fewer MiB of free disk than this, the host takes nothing new."""

    session: str = ""
    """FARM_SESSION: set by a local run for its workers, so that it can wait for what they leave."""
    cgroups: bool = False
    """FARM_CGROUPS: set for the workers of guests whose CPU is limited: libvirt may then make control groups, which
    every guest pays for with some 20 ms."""


_LONGEST_RUNTIME = 30


def load_settings(environ: dict[str, str] | None = None) -> Settings:
    """The settings of this process. Raises ConfigError."""
    env = dict(os.environ) if environ is None else environ
    runtime = Path(env.get("FARM_RUNTIME") or Path(tempfile.gettempdir()) / f"farm-{os.getuid()}").absolute()
    if len(str(runtime)) > _LONGEST_RUNTIME:
        raise ConfigError(
            f"cannot use {runtime} for live guests: longer than {_LONGEST_RUNTIME} characters,"
            " and the sockets in it would not fit into an address",
            hint="set FARM_RUNTIME to a shorter path",
        )
    return Settings(
        cache=Path(env.get("FARM_CACHE") or platformdirs.user_cache_path("farm")).absolute(),
        state=Path(env.get("FARM_STATE") or platformdirs.user_state_path("farm")).absolute(),
        runtime=runtime,
        mirror=env.get("FARM_MIRROR", ""),
        cache_limit=_size(env, "FARM_CACHE_LIMIT", Settings.model_fields["cache_limit"].default),
        log=_level(env),
        matrices=Path(env["FARM_MATRICES"]).absolute() if env.get("FARM_MATRICES") else None,
        uri=env.get("FARM_HOST_URI") or EMBEDDED,
        host_name=_name(env),
        host_bridge=env.get("FARM_HOST_BRIDGE", ""),
        keep_memory=_size(env, "FARM_KEEP_MEMORY", Settings.model_fields["keep_memory"].default),
        keep_disk=_size(env, "FARM_KEEP_DISK", Settings.model_fields["keep_disk"].default),
        session=env.get("FARM_SESSION", ""),
        cgroups=bool(env.get("FARM_CGROUPS")),
        **({"database": env["FARM_DATABASE"]} if env.get("FARM_DATABASE") else {}),
    )


def _name(env: Mapping[str, str]) -> str:
    """A host's name has to be good as a label of Ray's, too."""
    told = env.get("FARM_HOST_NAME", "")
    machine = os.uname().nodename
    with suppress(ValueError):  # what is wrong with a URI is told by `runners.hosts.uri`
        machine = urlsplit(env.get("FARM_HOST_URI", "")).hostname or machine
    name = re.sub(r"[^A-Za-z0-9._-]", "-", told or machine)[:63].strip("._-")
    if told and told != name:
        raise ConfigError(
            f"cannot use the setting FARM_HOST_NAME: {told!r} is no name for a host",
            hint=f"letters, digits, '.', '_' and '-', at most 63 of them: {name or 'host-1'}",
        )
    return name or "host"


def _level(env: Mapping[str, str]) -> Literal["debug", "info", "warning", "error"]:
    match env.get("FARM_LOG", "").strip().lower() or "info":
        case "debug" | "info" | "warning" | "error" as level:
            return level
        case other:
            raise ConfigError(f"cannot use the setting FARM_LOG: {other!r} is none of debug, info, warning, error")


def load_token(file: Path | None, environ: dict[str, str] | None = None) -> str:
    """What a server knows this program by: from a file, else FARM_TOKEN; empty: nothing. Raises ConfigError."""
    env = dict(os.environ) if environ is None else environ
    try:
        token = (env.get("FARM_TOKEN", "") if file is None else file.read_text(encoding="ascii")).strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it holds more than a token"
        raise ConfigError(f"cannot read the token in {file}: {cause}") from error
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("cannot use the token: it is a single word", hint="see docs/ci.md")
    return token


def _size(env: dict[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    try:
        return int(str(parse_size(text))) if text else default
    except ValueError as error:
        raise ConfigError(f"cannot use the setting {name}: {error}", hint="for example FARM_CACHE_LIMIT=40G") from error
