"""What the axes of a matrix and their values mean."""

from __future__ import annotations

from farm.model.base import Scalar, scalar_text

STANDARD_AXES = ("image", "arch", "hypervisor", "cpu", "with")
"""The axes the farm itself reads; every other one is the user's own."""

NO_LAYER = "none"
"""The value of the axis `with` for an image with nothing on top; so is a cell without that axis."""

AUTO = "auto"
"""In the place of a hypervisor or a CPU model: the farm chooses."""

LAYER_SEPARATOR = "+"
"""Between the names of layers in a value of the axis `with`."""


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
