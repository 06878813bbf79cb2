"""Where the farm keeps its things. Every path is a setting; the defaults follow the XDG directories."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from farm.errors import ConfigError
from farm.model import Model, parse_size


class Settings(Model):
    """The farm's own settings, read from the environment once, at the start of a program."""

    cache: Path
    """FARM_CACHE: images, fetched sources; may be deleted at any time when nothing runs."""
    state: Path
    """FARM_STATE: the database, logs and artifacts of runs."""
    runtime: Path
    """FARM_RUNTIME: the ledger and the roots of live guests. Short: socket paths have 107 bytes."""
    mirror: str = ""
    """FARM_MIRROR: the Debian mirror for images; empty: the one of the machine's own apt sources."""

    cache_limit: int = 40 * 1024
    """FARM_CACHE_LIMIT: MiB that images and snapshots may take together; what was not used for longest goes. 0: any."""

    session: str = ""
    """FARM_SESSION: set by a local run for its workers, so that it can wait for what they leave."""
    cgroups: bool = False
    """FARM_CGROUPS: set for the workers of guests whose CPU is limited: libvirt may then make control groups, which
    every guest pays for with some 20 ms."""

    @property
    def database(self) -> str:
        """SQLAlchemy's URL of the store."""
        return f"sqlite:///{self.state / 'farm.db'}"


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
        session=env.get("FARM_SESSION", ""),
        cgroups=bool(env.get("FARM_CGROUPS")),
    )


def _size(env: dict[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    try:
        return int(str(parse_size(text))) if text else default
    except ValueError as error:
        raise ConfigError(f"cannot use the setting {name}: {error}", hint="for example FARM_CACHE_LIMIT=40G") from error
