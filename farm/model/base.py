"""What every type of the model has in common."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_DURATION_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(?:(M|G|T)(?:i?B)?)?", re.IGNORECASE)
_SIZE_UNITS = {None: 1, "m": 1, "g": 1024, "t": 1024 * 1024}
_RATE = re.compile(r"(\d+)\s*(K|M|G)(?:i?B)?(?:/s)?", re.IGNORECASE)
_RATE_UNITS = {"k": 1024, "m": 1024**2, "g": 1024**3}
_SHARE = re.compile(r"(\d+)\s*%")


class Model(BaseModel):
    """A frozen value; a field it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def parse_duration(value: object) -> object:
    """`90`, `"90s"`, `"1.5m"`, `"2h"` -> seconds; anything that is no duration is an error."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a duration; write for example 90s, 10m or 2h")
        return float(match[1]) * _DURATION_UNITS[match[2]]
    return value


def parse_size(value: object) -> object:
    """`512`, `"512M"`, `"2G"` -> MiB; anything that is no size is an error."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a size; write for example 512M or 2G")
        return int(match[1]) * _SIZE_UNITS[match[2] and match[2].lower()]
    return value


def parse_rate(value: object) -> object:
    """`"512K"`, `"20M"`, `"20 MiB/s"` -> bytes a second; a text that is no rate is an error."""
    if isinstance(value, str):
        match = _RATE.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a number of bytes a second; write for example 512K or 20M")
        return int(match[1]) * _RATE_UNITS[match[2].lower()]
    return value


def parse_share(value: object) -> object:
    """`"50%"`, `"150%"` -> percent of one CPU; a text that is no share is an error."""
    if isinstance(value, str):
        match = _SHARE.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a share of a CPU; write for example 50% or 150%")
        return int(match[1])
    return value


Scalar = str | bool | int | float
"""An axis value."""


def scalar_text(value: Scalar) -> str:
    """An axis value as scripts and ids see it: `true`, `3`, `1.5`, `debian-13`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
