"""The matrix file: axes × phases. The JSON Schema in `matrices/` is generated from these types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from farm.model.base import MiB, Model, Scalar, Seconds
from farm.model.source import FolderSource, Source

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]
"""Of a matrix or an axis: a letter, then letters, digits, `_`, `.`, `-`."""

Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

AxisValues = Annotated[tuple[Scalar, ...], Field(min_length=1)]

Match = dict[Name, Scalar | tuple[Scalar, ...]]
"""Axis values to match or to add; a list stands for each of its values."""

Script = Annotated[str, Field(max_length=256 * 1024)]
"""Run by `/bin/sh -e` in the folder of the source, in the guest."""


def _shorthand(key: str, *types: type) -> BeforeValidator:
    """Accept a bare value for a model whose main field is `key`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, types) else value)


class GuestSpec(Model):
    """The machine a cell wants."""

    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory_mib: Annotated[MiB, Field(ge=64, le=1024 * 1024)] = Field(512, alias="memory")
    disk_mib: Annotated[MiB, Field(ge=64, le=4 * 1024 * 1024)] = Field(2048, alias="disk")
    """The size of its root disk, the system included."""
    network: Literal["isolated", "open"] = "isolated"
    """`isolated`: SSH in, nothing out. `open`: out through the host, whose own services it can reach."""
    packages: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.:-]+$")], ...] = ()
    """Debian packages that the image has to hold."""


class Collect(Model):
    """What comes back from the guest: globs relative to the folder of the source (`**` allowed)."""

    junit: tuple[str, ...] = ()
    """JUnit XML or TAP files. Naming any is a promise: none found is an error."""
    artifacts: tuple[str, ...] = ()
    """Kept with the attempt. A glob that matches nothing is a warning."""


class Timeouts(Model):
    """The longest each phase may take."""

    provision: Annotated[Seconds, Field(gt=0)] = 900.0
    boot: Annotated[Seconds, Field(gt=0)] = 180.0
    connect: Annotated[Seconds, Field(gt=0)] = 60.0
    upload: Annotated[Seconds, Field(gt=0)] = 120.0
    prepare: Annotated[Seconds, Field(gt=0)] = 600.0
    build: Annotated[Seconds, Field(gt=0)] = 1800.0
    test: Annotated[Seconds, Field(gt=0)] = 1800.0
    collect: Annotated[Seconds, Field(gt=0)] = 120.0
    teardown: Annotated[Seconds, Field(gt=0)] = 30.0


class Retries(Model):
    """How often a cell is tried again after an attempt of which the test code was not the cause."""

    infra: Annotated[int, Field(ge=0, le=10)] = 1


class Matrix(Model):
    """A matrix file."""

    name: Name
    source: Annotated[Source, _shorthand("folder", str)] = FolderSource(folder=".")
    axes: Annotated[dict[Name, AxisValues], Field(min_length=1)]
    exclude: tuple[Match, ...] = ()
    """A combination that has all the values of one of these is left out."""
    include: tuple[Match, ...] = ()
    """Added to every original combination whose values it would not overwrite; else a new cell."""
    guest: GuestSpec = GuestSpec()
    env: dict[Variable, Scalar] = Field(default_factory=dict)
    prepare: Script = ""
    build: Script = ""
    test: Script
    collect: Collect = Collect()
    timeouts: Timeouts = Timeouts()
    retries: Annotated[Retries, _shorthand("infra", int)] = Retries()
    fail_fast: bool = Field(False, alias="fail-fast")
    max_parallel: Annotated[int, Field(ge=1)] | None = Field(None, alias="max-parallel")
    continue_on_error: bool | tuple[Match, ...] = Field(False, alias="continue-on-error")
    """Cells (all, or those that match) that may fail without failing the run."""

    @model_validator(mode="after")
    def _no_axis_hides_env(self) -> Matrix:
        names = {axis_variable(axis): axis for axis in self.axes if axis not in STANDARD_AXES}
        for variable in self.env:
            if variable in names:
                raise ValueError(f"env {variable!r} hides the axis {names[variable]!r}; rename one of them")
        return self


STANDARD_AXES = ("image", "arch", "hypervisor")
"""The axes the farm itself reads; every other one is the user's own."""


def axis_variable(axis: str) -> str:
    """The environment variable that scripts read an axis from: `bug` -> `BUG`, `arch` -> `FARM_ARCH`."""
    name = axis.upper().replace("-", "_").replace(".", "_")
    return f"FARM_{name}" if axis in STANDARD_AXES else name
