"""What others ask the farm for, over REST or by a trigger."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from farm.model.base import Model, parse_duration
from farm.model.fields import Name, Variable
from farm.model.source import DebianSource, GitSource, PypiSource, Sha256, TarballSource
from farm.model.sshkey import SshKey

Labels = Annotated[
    dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")], Annotated[str, Field(max_length=200)]],
    Field(max_length=32),
]
Version = Annotated[str, Field(max_length=200)]
Globs = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], Field(max_length=100)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=7 * 24 * 3600)]
Secrets = Annotated[
    dict[Annotated[Variable, Field(max_length=80)], Annotated[str, Field(min_length=4, max_length=64_000)]],
    Field(max_length=64),
]


class UploadedSource(Model):
    """A source that was uploaded before, by its digest."""

    upload: Sha256


RemoteSource = UploadedSource | GitSource | TarballSource | DebianSource | PypiSource
"""Sources that a request may name: none of them is a file of the machine that the farm runs on."""


class RunRequest(Model):
    """A run that is asked for."""

    matrix: Annotated[str, Field(max_length=1024 * 1024)] | None = None
    """The text of a matrix file."""
    matrix_file: Annotated[str, Field(max_length=500)] = ""
    """What messages, and the commands of reports, call that file."""
    matrix_name: Name | None = None
    """Instead of its text: the name of a file in the server's folder of matrices, without `.yaml`."""
    source: RemoteSource | None = None
    """What is tested; by default what the matrix says."""
    only: Globs = ()
    """Only these cells."""
    version: Version = ""
    """What is tested, as people call it."""
    labels: Labels = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    max_parallel: Annotated[int, Field(ge=1)] | None = None
    hold_on_failure: Seconds = 0.0
    """How long a failed guest is kept: seconds, or `30m`."""
    ssh_key: SshKey | None = None
    """Whose owner gets into a failed guest that is kept; without it, only who has the farm's own key on its host."""
    secrets: Secrets = Field(default_factory=dict, repr=False)
    """Variables of the scripts: write-only, and masked in logs."""


class RerunRequest(Model):
    """Cells of a run that are to run again, as a run of their own."""

    cells: Globs = ("failed",)
    """`all`, `failed` (failed, error and cancelled), or globs."""
    secrets: Secrets = Field(default_factory=dict, repr=False)
    """They have to be given again: a run's are forgotten at its end."""
