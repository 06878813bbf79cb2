"""Matrix -> cells: their ids, what was left out and why, and everything that must not be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from farm.errors import MatrixError, Problem
from farm.matrix.combine import Combination, Expanded, Index, Item, expand
from farm.matrix.near import did_you_mean
from farm.matrix.tree import Path
from farm.model import NO_LAYER, STANDARD_AXES, Cell, Excluded, Expansion, Matrix, Scalar, scalar_text
from farm.model.axes import layer_names, listed

MAX_CELLS = 1000
"""Each cell is a guest: with one a minute these take 17 hours. More is a mistake in the axes."""

MAX_COMBINATIONS = 5 * MAX_CELLS
"""Before exclude, so that it can have its say; refused by arithmetic, before any of them is made."""


class At(Protocol):
    """Says where in the file something is: `Document.at`."""

    def __call__(self, path: Path, what: str, *, key: bool = False) -> Problem:
        """A problem at the value of a path, or at its key."""


class _Nowhere:
    """For a matrix without a file: every problem is at its beginning."""

    def __call__(self, path: Path, what: str, *, key: bool = False) -> Problem:  # noqa: ARG002 - a Protocol's own
        return Problem("matrix", 1, 1, what)


_NOWHERE = _Nowhere()


def expansion(matrix: Matrix, at: At = _NOWHERE) -> Expansion:
    """The cells of a matrix. `at` gives positions (`document.at`). Raises MatrixError with all that is wrong."""
    _refuse(_too_many(matrix, at))
    expanded = expand(matrix.axes, matrix.exclude, matrix.include)
    ids = [cell_id(c.values, matrix.axes if c.include is None else c.values) for c in expanded.combinations]
    _refuse([*_unknown_names(matrix, at), *_wrong_layers(matrix, at), *_wrong_cells(matrix, expanded, ids, at)])
    may_fail = _may_fail(matrix, expanded.combinations)
    cells = tuple(
        Cell(id=name, values=combination.values, may_fail=number in may_fail)
        for number, (name, combination) in enumerate(zip(ids, expanded.combinations, strict=True))
    )
    return Expansion(
        cells=cells,
        excluded=tuple(
            Excluded(id=cell_id(gone.values, matrix.axes), reason=_entry("exclude", gone.exclude, matrix.exclude))
            for gone in expanded.dropped
        ),
        warnings=tuple(map(str, _warnings(matrix, expanded, cells, at))),
    )


def cell_id(values: Mapping[str, Scalar], names: Iterable[str]) -> str:
    """`debian-13/riscv64/qemu/bug=on`: the standard axes, then the other names in their order."""
    own = [name for name in names if name not in STANDARD_AXES]
    standard = [name for name in STANDARD_AXES if name in names]
    segments = [scalar_text(values[name]) for name in standard]
    return "/".join(map(_segment, segments + [f"{name}={scalar_text(values[name])}" for name in own]))


def _segment(text: str) -> str:
    """A part of an id is the name of a folder as well: neither `.` nor `..`, and nothing that needs quotes."""
    clean = re.sub(r"[^A-Za-z0-9._+=-]", "_", text)
    return clean if clean.strip(".") else "_" * len(clean)


def _refuse(problems: Iterable[Problem]) -> None:
    if found := tuple(sorted(problems, key=lambda problem: (problem.line, problem.column))):
        raise MatrixError(found)


def _entry(what: str, index: int, items: tuple[Item, ...]) -> str:
    """`exclude 2 (arch: s390x, bug: [on, off])`."""
    return f"{what} {index + 1} ({', '.join(f'{name}: {_value(value)}' for name, value in items[index].items())})"


def _value(value: Scalar | tuple[Scalar, ...]) -> str:
    text = ", ".join(map(scalar_text, listed(value)))
    return f"[{text}]" if isinstance(value, tuple) else text


def _too_many(matrix: Matrix, at: At) -> Iterator[Problem]:
    combinations = math.prod(map(len, matrix.axes.values()))
    if combinations > MAX_COMBINATIONS:
        yield at(("axes",), f"the axes make {combinations} combinations; a run has at most {MAX_CELLS} cells", key=True)
    additions = sum(math.prod(len(listed(value)) for value in item.values()) for item in matrix.include)
    if additions > MAX_CELLS:
        yield at(("include",), f"these stand for {additions} entries; a run has at most {MAX_CELLS} cells", key=True)


def _unknown_names(matrix: Matrix, at: At) -> Iterator[Problem]:
    added = {name for item in matrix.include for name in item}
    some = matrix.continue_on_error if isinstance(matrix.continue_on_error, tuple) else ()
    for key, items, known in (
        ("exclude", matrix.exclude, [*matrix.axes]),
        ("continue-on-error", some, [*matrix.axes, *added]),
    ):
        for index, item in enumerate(items):
            for name in item.keys() - {*known}:
                yield at((key, index, name), f"unknown axis {name!r}{did_you_mean(name, known)}", key=True)


def _wrong_layers(matrix: Matrix, at: At) -> Iterator[Problem]:
    """Values of `with` that are not the names of layers; an exclude with such a value matches nothing, and warns."""
    for place, value in _values_of("with", matrix):
        names = layer_names(str(value))
        for name in dict.fromkeys(names):
            if name not in matrix.layers:
                yield at(place, _no_layer(name, matrix))
            elif names.count(name) > 1:
                yield at(place, f"{value!r} names the layer {name!r} twice")


def _values_of(axis: str, matrix: Matrix) -> Iterator[tuple[Path, Scalar]]:
    """Every value that the axes and the includes give an axis, with its place."""
    for index, value in enumerate(matrix.axes.get(axis, ())):
        yield ("axes", axis, index), value
    for number, item in enumerate(matrix.include):
        added = item.get(axis, ())
        for index, value in enumerate(listed(added)):
            yield ("include", number, axis, *((index,) if isinstance(added, tuple) else ())), value


def _no_layer(name: str, matrix: Matrix) -> str:
    if name == NO_LAYER:
        return f"{NO_LAYER!r} stands for no layer, and cannot be joined with others"
    near = did_you_mean(name, [*matrix.layers, NO_LAYER])
    return f"unknown layer {name!r}{near or '; it has to be described in layers'}"


def _wrong_cells(matrix: Matrix, expanded: Expanded, ids: list[str], at: At) -> Iterator[Problem]:
    if len(ids) > MAX_CELLS:
        yield at(("axes",), f"there are {len(ids)} cells; a run has at most {MAX_CELLS}", key=True)
        return
    if not ids:
        yield at(("exclude",), "no cell is left: every combination is excluded", key=True)
    yield from _homeless(matrix, expanded.combinations, ids, at)
    first: dict[str, int | None] = {}
    for name, combination in zip(ids, expanded.combinations, strict=True):
        if name in first:
            where = _origin(first[name])
            yield at(
                _place(combination), f"two cells would have the id {name!r}; the first comes from {where}", key=True
            )
        first.setdefault(name, combination.include)


def _homeless(matrix: Matrix, combinations: tuple[Combination, ...], ids: list[str], at: At) -> Iterator[Problem]:
    """Cells without an image or an architecture: one problem for the axes, one for each include."""
    for axis in ("image", "arch"):
        lacking = {
            _place(combination): name
            for name, combination in reversed(list(zip(ids, combinations, strict=True)))
            if axis not in combination.values
        }
        for place, name in lacking.items():
            near = did_you_mean(axis, [*matrix.axes]) if place == ("axes",) else ""
            yield at(place, f"the cell {name!r} has no {axis}{near or '; every cell needs one'}", key=True)


def _place(combination: Combination) -> Path:
    return ("axes",) if combination.include is None else ("include", combination.include)


def _origin(include: int | None) -> str:
    return "the axes" if include is None else f"include {include + 1}"


def _may_fail(matrix: Matrix, combinations: tuple[Combination, ...]) -> frozenset[int]:
    """The numbers of the combinations that `continue-on-error` allows to fail."""
    allowed = matrix.continue_on_error
    if isinstance(allowed, bool):
        return frozenset(range(len(combinations))) if allowed else frozenset()
    index = Index([combination.values for combination in combinations])
    return frozenset().union(*map(index.find, allowed))


def _warnings(matrix: Matrix, expanded: Expanded, cells: Iterable[Cell], at: At) -> Iterator[Problem]:
    used = {name for cell in cells for name in cell.layers}
    for name in [name for name in matrix.layers if name not in used]:
        yield at(("layers", name), f"no cell uses the layer {name!r}", key=True)
    for index, axis, value in expanded.idle:
        text = scalar_text(value)
        near = did_you_mean(text, map(scalar_text, matrix.axes[axis]))
        what = f"{_entry('exclude', index, matrix.exclude)} matches nothing with {axis}: {text}{near}"
        yield at(("exclude", index, axis), what)
    for include, gone in expanded.readded:
        what = (
            f"{_entry('include', include, matrix.include)} brings back {cell_id(gone.values, matrix.axes)!r},"
            f" which {_entry('exclude', gone.exclude, matrix.exclude)} leaves out"
        )
        yield at(("include", include), what)
