"""Axes, exclude and include as combinations: GitHub Actions' semantics and nothing of the farm's own words.

Source: GitHub's documentation, "Running variations of jobs in a workflow" (formerly "Using a matrix for
your jobs"). Beyond it, a list as a value in exclude or include stands for each of its values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from farm.model import Scalar
from farm.model.matrix import listed, value_key

Axes = Mapping[str, Sequence[Scalar]]
Item = Mapping[str, Scalar | tuple[Scalar, ...]]
"""An entry of exclude or include."""


class Combination(NamedTuple):
    """What becomes a cell."""

    values: dict[str, Scalar]
    include: int | None = None
    """The entry of include (from 0) that made it; None: it comes from the axes."""


class Dropped(NamedTuple):
    """A combination of the axes that was left out, and the entry of exclude (from 0) that did it."""

    values: dict[str, Scalar]
    exclude: int


class Idle(NamedTuple):
    """An entry of exclude (from 0) that matches nothing with this value."""

    exclude: int
    axis: str
    value: Scalar


class Readded(NamedTuple):
    """An entry of include (from 0) that brings back a combination that was left out."""

    include: int
    dropped: Dropped


class Expanded(NamedTuple):
    """What axes, exclude and include come to."""

    combinations: tuple[Combination, ...]
    """The axes' own in their order, the last axis changing fastest, then those that includes made."""
    dropped: tuple[Dropped, ...]
    idle: tuple[Idle, ...]
    readded: tuple[Readded, ...]


def expand(axes: Axes, exclude: Sequence[Item] = (), include: Sequence[Item] = ()) -> Expanded:
    """All combinations of the axes without the excluded ones, then the includes in their order.

    An include is added to every combination of the axes whose axis values it would not overwrite; what an
    earlier include added may be overwritten. One that fits nowhere is a new combination, which no later
    include extends.
    """
    kept, dropped = _split(axes, exclude)
    made: list[Combination] = []
    for index, item in enumerate(include):
        for addition in alternatives(item):
            if not _extend(kept, addition, axes):
                made.append(Combination(addition, index))
    readded = (
        Readded(new.include, gone)
        for new in made
        for gone in dropped
        if new.include is not None and matches(new.values, gone.values)
    )
    return Expanded((*map(Combination, kept), *made), tuple(dropped), tuple(_idle(axes, exclude)), tuple(readded))


def matches(values: Mapping[str, Scalar], item: Item) -> bool:
    """Whether values have all that an item names; of a list, one is enough."""
    return all(
        name in values and value_key(values[name]) in map(value_key, listed(wanted)) for name, wanted in item.items()
    )


def alternatives(item: Item) -> Iterator[dict[str, Scalar]]:
    """An item without lists, once for each combination of their values."""
    for values in itertools.product(*map(listed, item.values())):
        yield dict(zip(item, values, strict=True))


def _split(axes: Axes, exclude: Sequence[Item]) -> tuple[list[dict[str, Scalar]], list[Dropped]]:
    kept: list[dict[str, Scalar]] = []
    dropped: list[Dropped] = []
    for values in _product(axes):
        by = next((index for index, item in enumerate(exclude) if matches(values, item)), None)
        if by is None:
            kept.append(values)
        else:
            dropped.append(Dropped(values, by))
    return kept, dropped


def _product(axes: Axes) -> Iterator[dict[str, Scalar]]:
    if axes:  # the product of no axes at all would be one combination, an empty one
        yield from (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def _extend(kept: list[dict[str, Scalar]], addition: dict[str, Scalar], axes: Axes) -> bool:
    wanted = {name: value for name, value in addition.items() if name in axes}
    added = {name: value for name, value in addition.items() if name not in axes}
    extended = [values for values in kept if matches(values, wanted)]
    for values in extended:
        values.update(added)
    return bool(extended)


def _idle(axes: Axes, exclude: Sequence[Item]) -> Iterator[Idle]:
    """Every combination is there before the excludes, so one matches nothing only for a value of no axis."""
    for index, item in enumerate(exclude):
        for axis, wanted in item.items():
            known = set(map(value_key, axes.get(axis, ())))
            yield from (Idle(index, axis, value) for value in listed(wanted) if value_key(value) not in known)
