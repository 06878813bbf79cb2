"""The matrix file: axes × phases. The JSON Schema in `matrices/` is generated from these types.

What is wrong beyond a type is raised as one of two custom errors, which `farm.matrix.words` puts into
words and positions: `expected` (another kind of value) and `mistakes` (a tuple of `Mistake`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from farm.model.base import Model, Scalar, parse_duration, parse_rate, parse_share, parse_size, scalar_text
from farm.model.image import path_problem
from farm.model.source import FolderSource, Source

STANDARD_AXES = ("image", "arch", "hypervisor", "with")
"""The axes the farm itself reads; every other one is the user's own."""

NO_LAYER = "none"
"""The value of the axis `with` for an image with nothing on top; so is a cell without that axis."""

LAYER_SEPARATOR = "+"
"""Between the names of layers in a value of the axis `with`."""

LONGEST_PATH = 1024
"""Characters of a path in a guest; the kernel takes four times as many bytes."""

LONGEST_VALUE = 128
"""Characters of an axis value: `name=value` becomes the name of a folder, which has 255 bytes at most."""


def axis_variable(axis: str) -> str:
    """The environment variable that scripts read an axis from: `bug` -> `BUG`, `arch` -> `FARM_ARCH`."""
    name = axis.upper().replace("-", "_").replace(".", "_")
    return f"FARM_{name}" if axis in STANDARD_AXES else name


def value_key(value: Scalar) -> str:
    """What two axis values have in common that are the same value.

    GitHub's expressions ignore case when they compare strings, and hold 3 and 3.0 for the same number;
    its documentation of the matrix says no more. Here values are the same where their texts are.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return scalar_text(value).casefold()


def layer_names(value: str) -> tuple[str, ...]:
    """The layers that a value of the axis `with` names, in their order: `postgresql+gcc-12`; none for `none`."""
    return () if value == NO_LAYER else tuple(value.split(LAYER_SEPARATOR))


def listed(value: Scalar | tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """A value of a match as the list that it stands for."""
    return value if isinstance(value, tuple) else (value,)


class Mistake(NamedTuple):
    """Something wrong, at a path below the value that was validated; `key`: in the key, not its value."""

    what: str
    at: tuple[str | int, ...] = ()
    key: bool = False


def _wrong(*mistakes: Mistake) -> PydanticCustomError:
    text = "; ".join(mistake.what for mistake in mistakes)
    return PydanticCustomError("mistakes", "{text}", {"text": text, "mistakes": mistakes})


def _expected(what: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "expected {what}", {"what": what})


NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
PACKAGE = r"^[a-z0-9][a-z0-9+.:-]+$"
NOT_BLANK = r"\S"
GUEST_PATH = r"^/[^\x00-\x1f\x7f]*[^/\x00-\x1f\x7f]$"
DURATION = r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)?\s*$"
SIZE = r"^\s*\d+\s*([MmGgTt]([Ii]?[Bb])?)?\s*$"
RATE = r"^\s*\d+\s*[KkMmGg]([Ii]?[Bb])?(/[Ss])?\s*$"
LOCATION = r"^\S(.*\S)?$"
SHARE = r"^\s*\d+\s*%\s*$"

RESERVED = {
    r"PATH|HOME|SHELL|USER|PWD|IFS|TMPDIR": "the guest's own shell lives by it",
    r"LD_.*": "the guest's dynamic linker obeys it",
    r"FARM_.*": "the farm itself sets such names",
}
"""Environment variables that neither an axis nor `env` may set, and why."""


def _reservation(variable: str) -> str:
    return next((why for pattern, why in RESERVED.items() if re.fullmatch(pattern, variable)), "")


def _free_variable(variable: str) -> str:
    if why := _reservation(variable):
        raise _wrong(Mistake(f"{variable!r} is reserved: {why}"))
    return variable


def _free_axis(axis: str) -> str:
    variable = axis_variable(axis)
    why = "" if axis in STANDARD_AXES else _reservation(variable)
    if why:
        raise _wrong(Mistake(f"axis {axis!r} would set the variable {variable}, which is reserved: {why}"))
    return axis


def _free_layer(name: str) -> str:
    if name == NO_LAYER:
        raise _wrong(Mistake(f"no layer can be called {NO_LAYER!r}: as a value of `with` it stands for no layer"))
    return name


def _writable_path(path: str) -> str:
    if why := path_problem(path):
        raise _wrong(Mistake(f"{path!r} cannot be a layer's file: {why}"))
    return path


def _no_file_is_a_folder(files: dict[str, str]) -> dict[str, str]:
    bad = [
        Mistake(f"{str(folder)!r} would be a file and the folder of {path!r}", (str(folder),), key=True)
        for path in files
        for folder in PurePosixPath(path).parents
        if str(folder) in files
    ]
    if bad:
        raise _wrong(*bad)
    return files


def _scalar(value: object) -> object:
    if isinstance(value, str | bool | int | float):
        return value
    raise _expected("text, a number, true or false")


def _short(value: Scalar) -> Scalar:
    if len(scalar_text(value)) > LONGEST_VALUE:
        raise _wrong(Mistake(f"an axis value has at most {LONGEST_VALUE} characters"))
    return value


def _distinct(values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    keys = [value_key(value) for value in values]
    twice = [
        Mistake(f"the value {scalar_text(value)!r} is there twice", (index,))
        for index, value in enumerate(values)
        if keys[index] in keys[:index]
    ]
    if twice:
        raise _wrong(*twice)
    return values


_M = TypeVar("_M", bound=Mapping[str, Any])


def _standard_are_words(axes: _M) -> _M:
    bad = [
        Mistake(f"{axis} has to be a word, not {scalar_text(value)!r}", (axis, index))
        for axis in STANDARD_AXES
        for index, value in enumerate(listed(axes.get(axis, ())))
        if not isinstance(value, str) or not value.strip()
    ]
    if bad:
        raise _wrong(*bad)
    return axes


def _duration(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _expected("a duration such as 90s, 10m or 2h")
    return parse_duration(value)


def _size(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _expected("a size such as 512M or 2G")
    return parse_size(value)


def _rate(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _expected("bytes a second such as 512K or 20M")
    return parse_rate(value)


def _share(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _expected("a share of a CPU such as 50% or 150%")
    return parse_share(value)


def _shorthand(key: str, kind: type, schema: object) -> BeforeValidator:
    """Accept a bare value for a model whose main field is `key`."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, kind) else value, json_schema_input_type=schema
    )


class _ByFirstKey:
    """Tells the members of a union apart by the first key of each, so that only one of them complains."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.tagged_union_schema(
            {kind.__name__: handler.generate_schema(kind) for kind in get_args(source)},
            _source_class,
            custom_error_type="source_kind",
            custom_error_message="expected one kind of source",
        )


SOURCES: dict[str, type[Model]] = {next(iter(kind.model_fields)): kind for kind in get_args(Source)}
"""The kinds of source by their first key."""


def _source_class(value: object) -> str | None:
    if isinstance(value, Model):
        return type(value).__name__
    found = [kind.__name__ for key, kind in SOURCES.items() if isinstance(value, dict) and key in value]
    return found[0] if len(found) == 1 else None


_LISTED = Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "one")

_SHAPE = Discriminator(lambda value: "mapping" if isinstance(value, dict | Model) else "script")

Name = Annotated[str, Field(pattern=NAME)]
"""Of a matrix or an axis: a letter, then letters, digits, `_`, `.`, `-`."""

AxisName = Annotated[Name, AfterValidator(_free_axis)]

Variable = Annotated[str, Field(pattern=VARIABLE), AfterValidator(_free_variable)]

Value = Annotated[Scalar, BeforeValidator(_scalar, json_schema_input_type=Scalar)]

AxisValue = Annotated[Value, AfterValidator(_short)]

AxisValues = Annotated[
    tuple[AxisValue, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_distinct)
]

Match = Annotated[
    dict[
        AxisName,
        Annotated[
            Annotated[AxisValue, Tag("one")] | Annotated[tuple[AxisValue, ...], Field(min_length=1), Tag("list")],
            _LISTED,
        ],
    ],
    Field(min_length=1),
    AfterValidator(_standard_are_words),
]
"""Axis values to match or to add; a list stands for each of its values."""

Script = Annotated[str, Field(max_length=256 * 1024)]
"""Run by `/bin/sh -e` in the folder of the source, in the guest."""

LayerName = Annotated[Name, AfterValidator(_free_layer)]

GuestPath = Annotated[str, Field(pattern=GUEST_PATH, max_length=LONGEST_PATH), AfterValidator(_writable_path)]
"""Of a file in the guest."""

Whole = Annotated[int, Field(strict=True)]

Switch = Annotated[bool, Field(strict=True)]

Duration = Annotated[
    float,
    Field(gt=0, allow_inf_nan=False),
    BeforeValidator(
        _duration, json_schema_input_type=Annotated[float, Field(gt=0)] | Annotated[str, Field(pattern=DURATION)]
    ),
]
"""Seconds, or `90s`, `10m`, `2h`."""

_SizeText = Annotated[str, Field(pattern=SIZE)]


class _Part(Model):
    """A part of the file: what stands under a key is its description, in the JSON Schema too."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class GuestSpec(_Part):
    """The machine a cell wants."""

    vcpus: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Its processors."""
    memory_mib: Annotated[
        Whole,
        Field(ge=64, le=1024 * 1024),
        BeforeValidator(_size, json_schema_input_type=Annotated[int, Field(ge=64, le=1024 * 1024)] | _SizeText),
    ] = Field(512, alias="memory")
    """Its memory: MiB, or for example `512M`, `2G`."""
    disk_mib: Annotated[
        Whole,
        Field(ge=64, le=4 * 1024 * 1024),
        BeforeValidator(_size, json_schema_input_type=Annotated[int, Field(ge=64, le=4 * 1024 * 1024)] | _SizeText),
    ] = Field(2048, alias="disk")
    """The size of its root disk, the system included: MiB, or for example `2G`."""
    cpu_percent: (
        Annotated[
            Whole,
            Field(ge=5, le=6400),
            BeforeValidator(
                _share,
                json_schema_input_type=Annotated[int, Field(ge=5, le=6400)] | Annotated[str, Field(pattern=SHARE)],
            ),
        ]
        | None
    ) = Field(None, alias="cpu")
    """How much of one CPU of the host all of its processors use together, at most: `50%`, `150%`."""
    disk_bytes_per_s: (
        Annotated[
            Whole,
            Field(ge=64 * 1024, le=1024**4),
            BeforeValidator(
                _rate,
                json_schema_input_type=Annotated[int, Field(ge=64 * 1024, le=1024**4)]
                | Annotated[str, Field(pattern=RATE)],
            ),
        ]
        | None
    ) = Field(None, alias="disk-bandwidth")
    """How much it reads from its root disk and writes to it in a second, together, at most: bytes, or `20M`."""
    network: Literal["isolated", "open"] = "isolated"
    """`isolated`: SSH in, nothing out. `open`: out through the host, whose own services it can reach."""
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
    files: Annotated[dict[GuestPath, str], AfterValidator(_no_file_is_a_folder)] = Field(default_factory=dict)
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
    """How often a cell is tried again after an attempt of which the test code was not the cause."""

    infra: Annotated[Whole, Field(ge=0, le=10)] = 1
    """After a host, a hypervisor or a network failed."""


class Matrix(_Part):
    """A matrix file."""

    name: Name
    """Names the runs: `demo` -> `demo-3`."""
    source: Annotated[Source, _ByFirstKey(), _shorthand("folder", str, Annotated[Source, _ByFirstKey()] | str)] = (
        FolderSource(folder=".")
    )
    """Where the program under test comes from; a bare text is a folder."""
    axes: Annotated[dict[AxisName, AxisValues], Field(min_length=1), AfterValidator(_standard_are_words)]
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
    env: Annotated[
        dict[Variable, Value],
        Field(json_schema_extra={"propertyNames": {"not": {"pattern": f"^({'|'.join(RESERVED)})$"}}}),
    ] = Field(default_factory=dict)
    """Environment variables of all the scripts."""
    prepare: Script = ""
    """Run before `build`, but after a cross build, in the guest that tests; its failure is the test's."""
    build: Annotated[Annotated[Script, Tag("script")] | Annotated[Build, Tag("mapping")], _SHAPE] = ""
    """Builds the program under test; a bare script does it in the guest."""
    test: Annotated[Script, Field(pattern=NOT_BLANK)]
    """Tests it."""
    collect: Collect = Collect()
    """What comes back from the guest."""
    timeouts: Timeouts = Timeouts()
    """The longest each phase may take."""
    retries: Annotated[Retries, _shorthand("infra", int, Retries | Annotated[int, Field(ge=0, le=10)])] = Retries()
    """How often a cell is tried again; a bare number is `infra`."""
    fail_fast: Switch = Field(False, alias="fail-fast")
    """Cancel what is left of the run after the first cell that fails."""
    max_parallel: Annotated[Whole, Field(ge=1)] | None = Field(None, alias="max-parallel")
    """How many cells run at the same time, at most."""
    continue_on_error: Annotated[Annotated[Switch, Tag("one")] | Annotated[tuple[Match, ...], Tag("list")], _LISTED] = (
        Field(False, alias="continue-on-error")
    )
    """Cells (all, or those that match) that may fail without failing the run."""

    @property
    def building(self) -> Build | None:
        """How the program is built, whichever way the file says it; None: nothing is built."""
        if isinstance(self.build, Build):
            return self.build
        return Build(script=self.build) if self.build.strip() else None

    @model_validator(mode="after")
    def _one_owner_of_each_variable(self) -> Matrix:
        mistakes = tuple(_clashes(self))
        if mistakes:
            raise _wrong(*mistakes)
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
