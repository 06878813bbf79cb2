"""The matrix file: axes × phases. The JSON Schema in `matrices/` is generated from these types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, Tag, model_validator

from farm.model.axes import axis_variable
from farm.model.base import Model
from farm.model.fields import (
    LISTED,
    LOCATION,
    NOT_BLANK,
    PACKAGE,
    RESERVED,
    SHAPE,
    AxisName,
    AxisValues,
    ByFirstKey,
    Disk,
    Duration,
    GuestPath,
    LayerName,
    Match,
    Memory,
    Mistake,
    Name,
    Rate,
    Script,
    Share,
    Switch,
    Value,
    Variable,
    Whole,
    no_file_is_a_folder,
    shorthand,
    standard_are_words,
    wrong,
)
from farm.model.requires import Requires
from farm.model.source import FolderSource, Source


class _Part(Model):
    """A part of the file: what stands under a key is its description, in the JSON Schema too."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class GuestSpec(_Part):
    """The machine a cell wants."""

    vcpus: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Its processors."""
    memory_mib: Memory = Field(512, alias="memory")
    """Its memory: MiB, or for example `512M`, `2G`."""
    disk_mib: Disk = Field(2048, alias="disk")
    """The size of its root disk, the system included: MiB, or for example `2G`."""
    cpu_percent: Share | None = Field(None, alias="cpu")
    """How much of one CPU of the host all of its processors use together, at most: `50%`, `150%`."""
    disk_bytes_per_s: Rate | None = Field(None, alias="disk-bandwidth")
    """How much it reads from its root disk and writes to it in a second, together, at most: bytes, or `20M`."""
    network: Literal["isolated", "open", "bridge"] = "isolated"
    """`isolated`: SSH in, nothing out. `open`: out through the host. `bridge`: on a bridge of the host's own, like
    any other machine there."""
    network_bytes_per_s: Rate | None = Field(None, alias="network-bandwidth")
    """How much it sends in a second, and how much it is sent, at most: bytes, or `10M`."""
    packages: tuple[Annotated[str, Field(pattern=PACKAGE)], ...] = ()
    """Debian packages that the image has to hold."""
    min_ready: Annotated[Whole, Field(ge=0, le=16)] = Field(0, alias="min-ready")
    """How many clones of it each worker keeps ready for the next cells; used ones are never reused."""


class CloudImage(_Part):
    """A disk that others have made, with cloud-init in it."""

    cloud: Annotated[str, Field(pattern=LOCATION)]
    """A path, relative to the matrix file, or an https:, http: or file: URL."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the file as it is fetched."""


class Layer(_Part):
    """Something on top of an image: packages and files first, then the script."""

    packages: tuple[Annotated[str, Field(pattern=PACKAGE)], ...] = ()
    """Debian packages."""
    files: Annotated[dict[GuestPath, str], AfterValidator(no_file_is_a_folder)] = Field(default_factory=dict)
    """Absolute path in the guest -> content."""
    script: Script = ""
    """Run once as root, by `/bin/sh -e` in a guest of the image; what it leaves on the disk is kept."""


class Build(_Part):
    """How the program under test is built, where a script alone does not say it."""

    on: Literal["guest", "cross"] = "guest"
    """`guest`: in the guest that tests it. `cross`: by cross compilers, in a guest that the host runs faster."""
    script: Annotated[Script, Field(pattern=NOT_BLANK)]
    """Builds it."""
    packages: tuple[Annotated[str, Field(pattern=PACKAGE)], ...] = ()
    """Debian packages for building; `NAME:target` is of the architecture that is built for."""


class Collect(_Part):
    """What comes back from the guest: globs relative to the folder of the source (`**` allowed)."""

    junit: tuple[str, ...] = ()
    """JUnit XML or TAP files. Naming any is a promise: none found is an error."""
    artifacts: tuple[str, ...] = ()
    """Kept with the attempt. A glob that matches nothing is a warning."""


class Timeouts(_Part):
    """The longest each phase may take natively: seconds, or for example `90s`, `10m`, `2h`."""

    queue: Duration = 604800.0
    """A cell waits for its turn, and for a host."""
    provision: Duration = 900.0
    """Image, disk and machine are made."""
    boot: Duration = 60.0
    """From power on until the guest's system is up."""
    connect: Duration = 20.0
    """Until a first command has run in the guest."""
    upload: Duration = 60.0
    """The source goes into the guest."""
    prepare: Duration = 600.0
    """The script `prepare`."""
    build: Duration = 1800.0
    """The script `build`."""
    test: Duration = 1800.0
    """The script `test`."""
    collect: Duration = 60.0
    """Results and artifacts come back."""
    teardown: Duration = 30.0
    """The guest is destroyed."""
    scale: Switch = True
    """An emulated guest gets more of it, as many times as it was measured to be slower than its host."""


class Retries(_Part):
    """How often a cell is tried again, by what spoilt the attempt."""

    infra: Annotated[Whole, Field(ge=0, le=10)] = 1
    """After a host, a hypervisor or a network failed."""
    test: Annotated[Whole, Field(ge=0, le=10)] = 0
    """After the program or its test failed. A cell that passes then is flaky, and shown as that."""


class Matrix(_Part):
    """A matrix file."""

    name: Name
    """Names the runs: `demo` -> `demo-3`."""
    source: Annotated[Source, ByFirstKey(), shorthand("folder", str, Annotated[Source, ByFirstKey()] | str)] = (
        FolderSource(folder=".")
    )
    """Where the program under test comes from; a bare text is a folder."""
    axes: Annotated[dict[AxisName, AxisValues], Field(min_length=1), AfterValidator(standard_are_words)]
    """Every combination of their values is a cell."""
    exclude: tuple[Match, ...] = ()
    """A combination that has all the values of one of these is left out."""
    include: tuple[Match, ...] = ()
    """Added to every original combination whose values it would not overwrite; else a new cell."""
    images: dict[Name, CloudImage] = Field(default_factory=dict)
    """Images that Debian's archive is not the source of, by the names that the axis `image` has for them."""
    layers: dict[LayerName, Layer] = Field(default_factory=dict)
    """What the axis `with` can put on top of an image, by the names it has there."""
    guest: GuestSpec = GuestSpec()
    """The machine that every cell gets."""
    requires: Requires | None = None
    """What a host has to be for a cell to run there, in tmt's words for hardware."""
    env: Annotated[
        dict[Variable, Value],
        Field(json_schema_extra={"propertyNames": {"not": {"pattern": f"^({'|'.join(RESERVED)})$"}}}),
    ] = Field(default_factory=dict)
    """Environment variables of all the scripts."""
    prepare: Script = ""
    """Run before `build`, but after a cross build, in the guest that tests; its failure is the test's."""
    build: Annotated[Annotated[Script, Tag("script")] | Annotated[Build, Tag("mapping")], SHAPE] = ""
    """Builds the program under test; a bare script does it in the guest."""
    test: Annotated[Script, Field(pattern=NOT_BLANK)]
    """Tests it."""
    collect: Collect = Collect()
    """What comes back from the guest."""
    timeouts: Timeouts = Timeouts()
    """The longest each phase may take."""
    retries: Annotated[Retries, shorthand("infra", int, Retries | Annotated[int, Field(ge=0, le=10)])] = Retries()
    """How often a cell is tried again; a bare number is `infra`."""
    fail_fast: Switch = Field(False, alias="fail-fast")
    """Cancel what is left of the run after the first cell that fails."""
    max_parallel: Annotated[Whole, Field(ge=1)] | None = Field(None, alias="max-parallel")
    """How many cells run at the same time, at most."""
    continue_on_error: Annotated[Annotated[Switch, Tag("one")] | Annotated[tuple[Match, ...], Tag("list")], LISTED] = (
        Field(False, alias="continue-on-error")
    )
    """Cells (all, or those that match) that may fail without failing the run."""

    @property
    def building(self) -> Build | None:
        """How the program is built, whichever way the file says it; None: nothing is built."""
        if isinstance(self.build, Build):
            return self.build
        return Build(script=self.build) if self.build.strip() else None

    @property
    def crosses(self) -> bool:
        """Whether it is built with a cross compiler, in a guest of another architecture."""
        return self.building is not None and self.building.on == "cross"

    @model_validator(mode="after")
    def _one_owner_of_each_variable(self) -> Matrix:
        mistakes = tuple(_clashes(self))
        if mistakes:
            raise wrong(*mistakes)
        return self


def _clashes(matrix: Matrix) -> Iterator[Mistake]:
    owners: dict[str, str] = {}
    places: list[tuple[str, tuple[str | int, ...]]] = [(axis, ("axes", axis)) for axis in matrix.axes]
    places += [(axis, ("include", i, axis)) for i, item in enumerate(matrix.include) for axis in item]
    for axis, at in places:
        owner = owners.setdefault(axis_variable(axis), axis)
        if owner != axis:
            what = f"{axis!r} and {owner!r} would both set the variable {axis_variable(axis)}; rename one of them"
            yield Mistake(what, at, key=True)
    for variable in filter(owners.get, matrix.env):
        what = f"env {variable!r} hides the axis {owners[variable]!r}; rename one of them"
        yield Mistake(what, ("env", variable), key=True)
