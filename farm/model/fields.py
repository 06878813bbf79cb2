"""The kinds of value that the matrix file is made of: names, axis values, durations, sizes, and what each may be.

What is wrong beyond a type is raised as one of two custom errors, which `farm.matrix.words` puts into
words and positions: `expected` (another kind of value) and `mistakes` (a tuple of `Mistake`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, NamedTuple, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, GetCoreSchemaHandler, Tag
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from farm.model.axes import NO_LAYER, STANDARD_AXES, axis_variable, listed, value_key
from farm.model.base import Model, Scalar, parse_duration, parse_rate, parse_share, parse_size, scalar_text
from farm.model.image import path_problem
from farm.model.source import Source

LONGEST_PATH = 1024
"""Characters of a path in a guest; the kernel takes four times as many bytes."""

LONGEST_VALUE = 128
"""Characters of an axis value: `name=value` becomes the name of a folder, which has 255 bytes at most."""


class Mistake(NamedTuple):
    """Something wrong, at a path below the value that was validated; `key`: in the key, not its value."""

    what: str
    at: tuple[str | int, ...] = ()
    key: bool = False


def wrong(*mistakes: Mistake) -> PydanticCustomError:
    """The error that says several things at once."""
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
        raise wrong(Mistake(f"{variable!r} is reserved: {why}"))
    return variable


def _free_axis(axis: str) -> str:
    variable = axis_variable(axis)
    why = "" if axis in STANDARD_AXES else _reservation(variable)
    if why:
        raise wrong(Mistake(f"axis {axis!r} would set the variable {variable}, which is reserved: {why}"))
    return axis


def _free_layer(name: str) -> str:
    if name == NO_LAYER:
        raise wrong(Mistake(f"no layer can be called {NO_LAYER!r}: as a value of `with` it stands for no layer"))
    return name


def _writable_path(path: str) -> str:
    if why := path_problem(path):
        raise wrong(Mistake(f"{path!r} cannot be a layer's file: {why}"))
    return path


def no_file_is_a_folder(files: dict[str, str]) -> dict[str, str]:
    """Refuses a file whose path is also the folder of another. Raises what `wrong` gives."""
    bad = [
        Mistake(f"{str(folder)!r} would be a file and the folder of {path!r}", (str(folder),), key=True)
        for path in files
        for folder in PurePosixPath(path).parents
        if str(folder) in files
    ]
    if bad:
        raise wrong(*bad)
    return files


def _scalar(value: object) -> object:
    if isinstance(value, str | bool | int | float):
        return value
    raise _expected("text, a number, true or false")


def _short(value: Scalar) -> Scalar:
    if len(scalar_text(value)) > LONGEST_VALUE:
        raise wrong(Mistake(f"an axis value has at most {LONGEST_VALUE} characters"))
    return value


def _distinct(values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    keys = [value_key(value) for value in values]
    twice = [
        Mistake(f"the value {scalar_text(value)!r} is there twice", (index,))
        for index, value in enumerate(values)
        if keys[index] in keys[:index]
    ]
    if twice:
        raise wrong(*twice)
    return values


_M = TypeVar("_M", bound=Mapping[str, Any])


def standard_are_words(axes: _M) -> _M:
    """Refuses numbers and switches as values of the axes that the farm itself reads. Raises what `wrong` gives."""
    bad = [
        Mistake(f"{axis} has to be a word, not {scalar_text(value)!r}", (axis, index))
        for axis in STANDARD_AXES
        for index, value in enumerate(listed(axes.get(axis, ())))
        if not isinstance(value, str) or not value.strip()
    ]
    if bad:
        raise wrong(*bad)
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


def shorthand(key: str, kind: type, schema: object) -> BeforeValidator:
    """Accept a bare value for a model whose main field is `key`."""
    return BeforeValidator(
        lambda value: {key: value} if isinstance(value, kind) else value, json_schema_input_type=schema
    )


class ByFirstKey:
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


LISTED = Discriminator(lambda value: "list" if isinstance(value, list | tuple) else "one")

SHAPE = Discriminator(lambda value: "mapping" if isinstance(value, dict | Model) else "script")

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
            LISTED,
        ],
    ],
    Field(min_length=1),
    AfterValidator(standard_are_words),
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

Memory = Annotated[
    Whole,
    Field(ge=64, le=1024 * 1024),
    BeforeValidator(_size, json_schema_input_type=Annotated[int, Field(ge=64, le=1024 * 1024)] | _SizeText),
]
"""MiB, or for example `512M`, `2G`."""

Disk = Annotated[
    Whole,
    Field(ge=64, le=4 * 1024 * 1024),
    BeforeValidator(_size, json_schema_input_type=Annotated[int, Field(ge=64, le=4 * 1024 * 1024)] | _SizeText),
]
"""MiB, or for example `2G`."""

Share = Annotated[
    Whole,
    Field(ge=5, le=6400),
    BeforeValidator(
        _share, json_schema_input_type=Annotated[int, Field(ge=5, le=6400)] | Annotated[str, Field(pattern=SHARE)]
    ),
]
"""Of one CPU, in hundredths: `50%`, `150%`."""


Rate = Annotated[
    Whole,
    Field(ge=64 * 1024, le=1024**4),
    BeforeValidator(
        _rate,
        json_schema_input_type=Annotated[int, Field(ge=64 * 1024, le=1024**4)] | Annotated[str, Field(pattern=RATE)],
    ),
]
"""Bytes a second, or for example `512K`, `20M`."""
