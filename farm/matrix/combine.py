"""Axes, exclude and include as combinations: GitHub Actions' semantics and nothing of the farm's own words.

Source: GitHub's documentation, "Running variations of jobs in a workflow" (formerly "Using a matrix for
your jobs"). Beyond it, a list as a value in exclude or include stands for each of its values.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from farm.model import Scalar
from farm.model.axes import listed, value_key

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


class Index:
    """Finds combinations by their values, at the cost of what is found: files are not to be trusted."""

    def __init__(self, combinations: Sequence[Mapping[str, Scalar]]) -> None:
        self._all = frozenset(range(len(combinations)))
        self._having: dict[tuple[str, str], set[int]] = defaultdict(set)
        for number, values in enumerate(combinations):
            for name, value in values.items():
                self._having[name, value_key(value)].add(number)

    def find(self, item: Item) -> frozenset[int]:
        """The numbers of those that have all that an item names; of a list, one value is enough."""
        return self._all.intersection(*(self._any(name, listed(values)) for name, values in item.items()))

    def _any(self, name: str, values: tuple[Scalar, ...]) -> set[int]:
        return set().union(*(self._having.get((name, value_key(value)), ()) for value in values))


def expand(axes: Axes, exclude: Sequence[Item] = (), include: Sequence[Item] = ()) -> Expanded:
    """All combinations of the axes without the excluded ones, then the includes in their order.

    An include is added to every combination of the axes whose axis values it would not overwrite; what an
    earlier include added may be overwritten. One that fits nowhere is a new combination, which no later
    include extends.
    """
    product = list(_product(axes))
    index = Index(product)
    by = {number: entry for entry, item in reversed(list(enumerate(exclude))) for number in index.find(item)}
    made: list[Combination] = []
    readded: list[Readded] = []
    extended = [dict(values) for values in product]
    for entry, item in enumerate(include):
        for addition in alternatives(item):
            wanted = {name: value for name, value in addition.items() if name in axes}
            fits = index.find(wanted)
            for number in fits - by.keys():
                extended[number].update((name, value) for name, value in addition.items() if name not in axes)
            if fits <= by.keys():
                made.append(Combination(addition, entry))
                brought_back = fits if len(wanted) == len(axes) else frozenset()
                readded += [Readded(entry, Dropped(product[number], by[number])) for number in brought_back]
    kept = [Combination(values) for number, values in enumerate(extended) if number not in by]
    dropped = tuple(Dropped(product[number], by[number]) for number in sorted(by))
    return Expanded((*kept, *made), dropped, tuple(_idle(axes, exclude)), tuple(readded))


def alternatives(item: Item) -> Iterator[dict[str, Scalar]]:
    """An item without lists, once for each combination of their values."""
    for values in itertools.product(*map(listed, item.values())):
        yield dict(zip(item, values, strict=True))


def _product(axes: Axes) -> Iterator[dict[str, Scalar]]:
    if axes:  # the product of no axes at all would be one combination, an empty one
        yield from (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def _idle(axes: Axes, exclude: Sequence[Item]) -> Iterator[Idle]:
    """Every combination is there before the excludes, so one matches nothing only for a value of no axis."""
    for entry, item in enumerate(exclude):
        for axis, wanted in item.items():
            known = set(map(value_key, axes.get(axis, ())))
            yield from (Idle(entry, axis, value) for value in listed(wanted) if value_key(value) not in known)
