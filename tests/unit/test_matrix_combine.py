from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.matrix import expand
from farm.matrix.combine import Axes, Dropped, Idle, Item, Readded
from farm.model import Scalar

FRUIT: Axes = {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}


def cells(axes: Axes, exclude: list[Item], include: list[Item]) -> list[Mapping[str, Scalar]]:
    return [combination.values for combination in expand(axes, exclude, include).combinations]


def test_github_s_documented_example_comes_to_its_six_cells() -> None:
    include: list[Item] = [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]
    assert cells(FRUIT, [], include) == [
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]


def test_github_s_documented_excludes_leave_nine_of_twelve() -> None:
    axes: Axes = {
        "os": ["macos-latest", "windows-latest"],
        "version": [12, 14, 16],
        "environment": ["staging", "production"],
    }
    exclude: list[Item] = [
        {"os": "macos-latest", "version": 12, "environment": "production"},
        {"os": "windows-latest", "version": 16},
    ]
    assert len(cells(axes, exclude, [])) == 9


APPLE_CAT = {"fruit": "apple", "animal": "cat"}
APPLE_DOG = {"fruit": "apple", "animal": "dog"}
PEAR_CAT = {"fruit": "pear", "animal": "cat"}
PEAR_DOG = {"fruit": "pear", "animal": "dog"}

CASES: dict[str, tuple[list[Item], list[Item], list[Mapping[str, Scalar]]]] = {
    "the last axis changes fastest": ([], [], [APPLE_CAT, APPLE_DOG, PEAR_CAT, PEAR_DOG]),
    "a partial match removes": ([{"fruit": "apple"}], [], [PEAR_CAT, PEAR_DOG]),
    "all values of an exclude have to match": ([APPLE_CAT], [], [APPLE_DOG, PEAR_CAT, PEAR_DOG]),
    "a list in an exclude stands for each value": (
        [{"animal": ("cat", "dog"), "fruit": "pear"}],
        [],
        [APPLE_CAT, APPLE_DOG],
    ),
    "an exclude of another axis matches nothing": ([{"color": "red"}], [], [APPLE_CAT, APPLE_DOG, PEAR_CAT, PEAR_DOG]),
    "texts compare without case": ([{"fruit": "APPLE"}], [], [PEAR_CAT, PEAR_DOG]),
    "an include that adds nothing adds no cell": ([{"fruit": "pear"}], [APPLE_CAT], [APPLE_CAT, APPLE_DOG]),
    "an include keeps the axis' own spelling": ([{"fruit": "pear"}], [{"fruit": "Apple"}], [APPLE_CAT, APPLE_DOG]),
    "a list in an include stands for each value": (
        [{"fruit": "pear"}],
        [{"fruit": ("apple", "fig"), "x": 1}],
        [APPLE_CAT | {"x": 1}, APPLE_DOG | {"x": 1}, {"fruit": "fig", "x": 1}],
    ),
    "a new cell is not extended by a later include": (
        [{"fruit": ("apple", "pear")}],
        [{"fruit": "fig"}, {"x": 1}],
        [{"fruit": "fig"}, {"x": 1}],
    ),
    "excludes come before includes": ([{"fruit": ("apple", "pear")}], [APPLE_CAT], [APPLE_CAT]),
}


@pytest.mark.parametrize("case", CASES)
def test_axes_exclude_and_include(case: str) -> None:
    exclude, include, expected = CASES[case]
    assert cells(FRUIT, exclude, include) == expected


def test_without_axes_every_include_is_a_cell() -> None:
    assert cells({}, [], [{"a": 1}, {"a": 2, "b": 3}]) == [{"a": 1}, {"a": 2, "b": 3}]


@pytest.mark.parametrize(("one", "other"), [(3, "3"), (3, 3.0), (True, "true"), ("On", "on")])
def test_values_are_the_same_where_their_texts_are(one: Scalar, other: Scalar) -> None:
    assert cells({"v": [one, "else"]}, [{"v": other}], []) == [{"v": "else"}]


@pytest.mark.parametrize(("one", "other"), [(True, 1), (3, 3.5), ("3.10", 3.1), ("", False)])
def test_values_differ_where_their_texts_do(one: Scalar, other: Scalar) -> None:
    assert len(cells({"v": [one]}, [{"v": other}], [])) == 1


def test_what_an_exclude_took_is_told_with_the_first_that_did() -> None:
    expanded = expand(FRUIT, [{"animal": "dog"}, {"fruit": "pear"}], [])
    assert expanded.dropped == (Dropped(APPLE_DOG, 0), Dropped(PEAR_CAT, 1), Dropped(PEAR_DOG, 0))


def test_an_exclude_that_matches_nothing_is_told_with_the_value_that_is_wrong() -> None:
    expanded = expand(FRUIT, [{"fruit": ("apple", "plum")}, {"fruit": "pear", "animal": "cow"}], [])
    assert expanded.idle == (Idle(0, "fruit", "plum"), Idle(1, "animal", "cow"))


def test_an_include_that_brings_back_what_was_excluded_is_told() -> None:
    expanded = expand(FRUIT, [{"animal": "dog"}], [{"fruit": ("apple", "pear"), "animal": "dog", "x": 1}])
    assert expanded.readded == (Readded(0, Dropped(APPLE_DOG, 0)), Readded(0, Dropped(PEAR_DOG, 0)))


def test_an_include_with_a_part_of_what_was_excluded_brings_nothing_back() -> None:
    expanded = expand(FRUIT, [{"animal": "dog"}], [{"animal": "dog"}])
    assert expanded.readded == ()
    assert expanded.combinations[-1].values == {"animal": "dog"}


NAMES = ["a", "b", "c"]
MORE = [*NAMES, "extra", "other"]
VALUES = ["x", "y", "z", 1, 2, True]
AXES = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(VALUES), min_size=1, max_size=4, unique_by=str))
WANTED = st.sampled_from(VALUES) | st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple)
ITEMS = st.lists(st.dictionaries(st.sampled_from(NAMES), WANTED, min_size=1), max_size=4)
ADDITIONS = st.lists(st.dictionaries(st.sampled_from(MORE), WANTED, min_size=1), max_size=4)


def product_size(axes: Axes) -> int:
    size = 1 if axes else 0
    for values in axes.values():
        size *= len(values)
    return size


@given(AXES, ITEMS, ADDITIONS)
def test_every_combination_of_the_axes_is_a_cell_or_excluded(
    axes: Axes, exclude: list[Item], include: list[Item]
) -> None:
    expanded = expand(axes, exclude, include)
    kept = [repr([c.values[axis] for axis in axes]) for c in expanded.combinations if c.include is None]
    gone = [repr([dropped.values[axis] for axis in axes]) for dropped in expanded.dropped]
    assert len(kept) + len(gone) == product_size(axes)
    assert len({*kept, *gone}) == product_size(axes)


@given(AXES, ITEMS, ADDITIONS)
def test_includes_change_no_axis_value_and_no_order(axes: Axes, exclude: list[Item], include: list[Item]) -> None:
    plain = [c.values for c in expand(axes, exclude, []).combinations]
    extended = [c.values for c in expand(axes, exclude, include).combinations if c.include is None]
    assert [{axis: values[axis] for axis in axes} for values in extended] == plain


@given(AXES, ITEMS, ADDITIONS)
def test_what_comes_from_an_include_follows_in_the_order_of_the_includes(
    axes: Axes, exclude: list[Item], include: list[Item]
) -> None:
    origins = [c.include for c in expand(axes, exclude, include).combinations]
    made = [origin for origin in origins if origin is not None]
    assert made == sorted(made)
    assert origins == [None] * (len(origins) - len(made)) + made


@given(AXES, ITEMS, ADDITIONS)
def test_expanding_changes_nothing_it_was_given(axes: Axes, exclude: list[Item], include: list[Item]) -> None:
    before = repr((axes, exclude, include))
    assert expand(axes, exclude, include) == expand(axes, exclude, include)
    assert repr((axes, exclude, include)) == before


@given(AXES, ITEMS)
def test_an_excluded_combination_matches_the_entry_that_took_it(axes: Axes, exclude: list[Item]) -> None:
    for dropped in expand(axes, exclude, []).dropped:
        for name, wanted in exclude[dropped.exclude].items():
            texts = [str(value).casefold() for value in (wanted if isinstance(wanted, tuple) else (wanted,))]
            assert str(dropped.values[name]).casefold() in texts
