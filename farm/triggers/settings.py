"""The sections of farm.toml about triggers and about who is told; secrets are named, not written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from farm.errors import ConfigError
from farm.model import Model
from farm.model.fields import Name as MatrixName
from farm.model.request import Globs, Labels

ProviderName = Literal["github", "gitlab", "gitea", "forgejo"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Glob = Annotated[str, Field(min_length=1, max_length=200)]
Event = Literal["run-submitted", "run-finished"]

HOSTS: Mapping[str, str] = {"github": "github.com", "gitlab": "gitlab.com"}
"""Where a provider's own service is; the others are wherever somebody has put them."""
APIS: Mapping[str, str] = {"github": "https://api.github.com", "gitlab": "https://gitlab.com/api/v4"}


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("write an http or https URL without a user name")
    return text.rstrip("/")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("write an absolute path")
    return path


def _places_repository(text: str) -> str:
    if "{" in text.replace("{repository}", ""):
        raise ValueError("the only placeholder is {repository}")
    return text


Url = Annotated[str, Field(max_length=2000), AfterValidator(_url)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Trigger(Model):
    """`[[trigger]]`: pushes of which repositories start which matrix."""

    name: Name
    """Also the last part of the webhook's URL: `/api/v1/hooks/NAME`."""
    provider: ProviderName
    repository: Glob
    """`acme/hello`, `acme/*`; case does not matter."""
    refs: Annotated[tuple[Glob, ...], Field(min_length=1)] = ("refs/heads/*", "refs/tags/*")
    secret_env: Variable | None = None
    secret_file: AbsolutePath | None = None
    matrix_name: MatrixName | None = None
    """A matrix in the server's folder of matrices."""
    matrix: AbsolutePath | None = None
    """Instead: a matrix file on the server."""
    clone_url: Annotated[str, Field(max_length=2000), AfterValidator(_places_repository)] = ""
    """Where the source is fetched, with `{repository}` in it; empty: from where the forge says, on `clone_hosts`."""
    clone_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.\[\]:-]+$")], ...] = ()
    """The hosts, with their ports where they are unusual, from which a forge may have the farm fetch."""
    only: Globs = ()
    labels: Labels = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=0, le=100)] = 50

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        _exactly_one(self, "secret_env", "secret_file")
        _exactly_one(self, "matrix_name", "matrix")
        if not self.clone_url and not self.allowed_hosts:
            raise ValueError(f"{self.provider} is on no host of its own: write `clone_hosts` or `clone_url`")
        return self

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The hosts that `clone_url` of a payload may name."""
        return self.clone_hosts or ((HOSTS[self.provider],) if self.provider in HOSTS else ())

    @property
    def owner(self) -> str:
        """Whose its runs are. No token has such a name: there is a space in it."""
        return f"trigger {self.name}"

    def wants(self, repository: str, ref: str) -> bool:
        """Whether a push is for this trigger."""
        right = fnmatchcase(repository.casefold(), self.repository.casefold())
        return right and any(fnmatchcase(ref, glob) for glob in self.refs)

    def secret(self) -> str:
        """What its webhooks are signed with. Raises ConfigError."""
        return _secret(self.secret_env, self.secret_file, f"trigger {self.name}")


class Notify(Model):
    """`[[notify]]`: who is told of runs by a signed webhook."""

    name: Name
    url: Url
    secret_env: Variable | None = None
    secret_file: AbsolutePath | None = None
    events: Annotated[tuple[Event, ...], Field(min_length=1)] = ("run-finished",)
    projects: Annotated[tuple[Glob, ...], Field(min_length=1)] = ("*",)
    """Globs of the names of matrices."""

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        _exactly_one(self, "secret_env", "secret_file")
        return self

    @property
    def target(self) -> str:
        """What deliveries to it are kept under."""
        return f"notify {self.name}"

    def wants(self, event: str, project: str) -> bool:
        """Whether it is told."""
        return event in self.events and any(fnmatchcase(project, glob) for glob in self.projects)

    def secret(self) -> str:
        """What its webhooks are signed with. Raises ConfigError."""
        return _secret(self.secret_env, self.secret_file, self.target)


class Status(Model):
    """`[[status]]`: the forge whose commits get a status."""

    name: Name
    provider: ProviderName
    api_url: Url | None = None
    token_env: Variable | None = None
    token_file: AbsolutePath | None = None
    repository: Glob = "*"
    triggers: Annotated[tuple[Glob, ...], Field(min_length=1)] = ("*",)
    """Globs of triggers whose pushes it is for: of importance where there are two forges of a kind."""
    context: Annotated[str, Field(min_length=1, max_length=200)] = "farm/{project}"
    """What the status is called, with `{project}` in it."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        _exactly_one(self, "token_env", "token_file")
        if not self.api_url and self.provider not in APIS:
            raise ValueError(f"{self.provider} is on no host of its own: write `api_url`")
        return self

    @property
    def api(self) -> str:
        """The base of its API."""
        return self.api_url or APIS[self.provider]

    @property
    def target(self) -> str:
        """What deliveries to it are kept under."""
        return f"status {self.name}"

    def wants(self, trigger: Trigger, repository: str) -> bool:
        """Whether the commits of a repository, pushed through a trigger, get one."""
        right = fnmatchcase(repository.casefold(), self.repository.casefold())
        named = any(fnmatchcase(trigger.name, glob) for glob in self.triggers)
        return trigger.provider == self.provider and right and named

    def secret(self) -> str:
        """The token that the forge knows the farm by. Raises ConfigError."""
        return _secret(self.token_env, self.token_file, self.target)


class Delivery(Model):
    """`[delivery]`: how stubbornly others are told."""

    tries: Annotated[int, Field(ge=1, le=100)] = 12
    first_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds until the second try; each later one waits twice as long."""
    longest_s: Annotated[float, Field(gt=0)] = 3600.0
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 15.0
    """For one try."""


def _exactly_one(section: Model, first: str, second: str) -> None:
    if (getattr(section, first) is None) == (getattr(section, second) is None):
        raise ValueError(f"write either `{first}` or `{second}`")


def _secret(variable: str | None, file: Path | None, what: str) -> str:
    try:
        text = os.environ[variable] if variable else file.read_text(encoding="utf-8") if file else ""
    except KeyError as error:
        raise ConfigError(f"cannot use {what}: the environment variable {variable} is not set") from error
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"cannot use {what}: {file} cannot be read: {cause}") from error
    if not text.strip():
        raise ConfigError(f"cannot use {what}: {variable or file} is empty")
    return text.strip()
