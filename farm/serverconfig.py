"""farm.toml: the settings of `farm serve`, and the hosts.

What is wrong in it is told with the key; secrets are named, not written.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from farm.errors import ConfigError
from farm.inventory import HostEntry
from farm.matrix.near import did_you_mean
from farm.model import Model, Scope
from farm.model.attempt import LONGEST_HOLD_S
from farm.model.base import parse_duration
from farm.model.request import Seconds
from farm.schedule import Limits
from farm.triggers.settings import Delivery, Notify, Status, Trigger

_Section = TypeVar("_Section", Trigger, Notify, Status, HostEntry)


Age = Annotated[float, BeforeValidator(parse_duration), Field(ge=3600)]
"""Seconds, or `90d`; at least an hour."""


class Keep(Model):
    """`[keep]`: how long is kept what nobody needs any more."""

    pushes: Age = 90 * 86_400.0
    """Webhooks of forges; for so long one that comes again is recognized."""
    deliveries: Age = 30 * 86_400.0
    """What others were told, or could not be told."""
    sources: Age = 180 * 86_400.0
    """Sources that no unfinished run needs, from their last use on; without its source a run cannot be repeated."""


class ServerConfig(Model):
    """The settings of a server."""

    host: str = "127.0.0.1"
    """The address that it listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0: any that is free."""
    public_url: str = ""
    """What others reach it by, for links in notifications: `https://farm.example.org`."""
    anonymous: Scope | None = None
    """What somebody without a token may do; unset: nothing."""
    rate: Annotated[float, Field(gt=0)] = 50.0
    """Requests a second of one token, on average."""
    burst: Annotated[int, Field(ge=1)] = 200
    """Requests of one token at once."""
    upload_mib: Annotated[int, Field(ge=1)] = 1024
    """The largest source that can be uploaded."""
    metrics_public: bool = False
    """Whether `/metrics` can be scraped without a token."""
    source_hosts: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ("*",)
    """Globs of the hosts that `git` and `tarball` of a request may name."""
    hold_limit: Annotated[Seconds, Field(gt=0)] = LONGEST_HOLD_S
    """The longest that a guest is kept for a person: seconds, or `3d`; at most, and by default, `7d`."""
    guests_per_user: Annotated[int, Field(ge=0)] | None = None
    """How many guests a user may have at once, over all runs; unset: as many as there is room for."""
    guests_of: dict[str, Annotated[int, Field(ge=0)]] = {}  # noqa: RUF012 - pydantic copies it
    """`[guests_of]`: the same for users by name (that of the token), in place of `guests_per_user`."""
    trigger: tuple[Trigger, ...] = ()
    """`[[trigger]]`: which pushes become runs."""
    notify: tuple[Notify, ...] = ()
    """`[[notify]]`: who is told of runs."""
    status: tuple[Status, ...] = ()
    """`[[status]]`: which forges get commit statuses."""
    keep: Keep = Keep()
    """`[keep]`: how long is kept what nobody needs any more."""
    delivery: Delivery = Delivery()
    """`[delivery]`: how stubbornly others are told."""
    hosts: tuple[HostEntry, ...] = ()
    """`[[hosts]]`: the hosts that `farm host start` makes nodes of."""

    @property
    def limits(self) -> Limits:
        """How many guests of each user may be under way."""
        return Limits(self.guests_per_user, self.guests_of)

    @field_validator("trigger", "notify", "status", "hosts")
    @classmethod
    def _different_names(cls, sections: tuple[_Section, ...]) -> tuple[_Section, ...]:
        names = [section.name for section in sections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"there are two of the name {twice[0]!r}")
        return sections


def load_config(path: Path | None) -> ServerConfig:
    """The settings in a file, or the defaults without one. Raises ConfigError."""
    if path is None:
        return ServerConfig()
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings {path}: {error}", hint="see docs/server.md") from error
    try:
        return ServerConfig.model_validate(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {_words(one)}" for one in error.errors()[:5])
        raise ConfigError(f"cannot use the settings {path}: {wrong}", hint="see docs/server.md") from error


def _words(mistake: ErrorDetails) -> str:
    """What is wrong with a key, without pydantic's own words for one that there is not."""
    if mistake["type"] != "extra_forbidden":
        return mistake["msg"]
    return f"unknown key{did_you_mean(str(mistake['loc'][-1]), ServerConfig.model_fields)}"
