from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import MatrixError
from farm.matrix import MAX_CELLS, expansion, loads
from farm.model import Expansion, Matrix

HEAD = "name: demo\ntest: make check\n"


def expanded(text: str) -> Expansion:
    document = loads(HEAD + text, file="m.yaml")
    return expansion(document.matrix, document.at)


def ids(text: str) -> list[str]:
    return [cell.id for cell in expanded(text).cells]


def complaints(text: str) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        expanded(text)
    return [str(problem) for problem in caught.value.problems]


IDS: dict[str, tuple[str, list[str]]] = {
    "the standard axes come first": (
        "axes: {bug: [on], hypervisor: [qemu], arch: [riscv64], opt: [2], image: [debian-13]}\n",
        ["debian-13/riscv64/qemu/bug=on/opt=2"],
    ),
    "an axis that is not there is not in the id": ("axes: {arch: [amd64], image: [a]}\n", ["a/amd64"]),
    "what an include adds is not in the id": (
        "axes: {image: [a], arch: [b]}\ninclude: [{hypervisor: kvm, flags: -O2}]\n",
        ["a/b"],
    ),
    "a cell of an include's own has all its values in its id": (
        "axes: {image: [a], arch: [b]}\ninclude: [{opt: 3, image: c, arch: d, hypervisor: kvm}]\n",
        ["a/b", "c/d/kvm/opt=3"],
    ),
    "other characters become underscores": (
        "axes: {image: [a], arch: [b], flags: ['-O2 -g', 'a/b', 'é+=~']}\n",
        ["a/b/flags=-O2_-g", "a/b/flags=a_b", "a/b/flags=_+=_"],
    ),
    "a value is never the name of a parent folder": ("axes: {image: ['..'], arch: [.]}\n", ["__/_"]),
    "booleans and numbers are written as in the file": (
        "axes: {image: [a], arch: [b], v: [true, false, 3, 1.5, '']}\n",
        ["a/b/v=true", "a/b/v=false", "a/b/v=3", "a/b/v=1.5", "a/b/v="],
    ),
}


@pytest.mark.parametrize("case", IDS)
def test_an_id_is_readable(case: str) -> None:
    text, expected = IDS[case]
    assert ids(text) == expected


def test_a_cell_knows_all_its_values() -> None:
    (cell,) = expanded("axes: {image: [a], arch: [b]}\ninclude: [{hypervisor: kvm, flags: -O2}]\n").cells
    assert cell.values == {"image": "a", "arch": "b", "hypervisor": "kvm", "flags": "-O2"}
    assert (cell.image, cell.arch, cell.hypervisor) == ("a", "b", "kvm")


AXES = "axes: {image: [a], arch: [amd64, s390x], bug: [off, on]}\n"


def test_what_is_excluded_is_named_with_its_reason() -> None:
    excluded = expanded(AXES + "exclude: [{bug: on, arch: amd64}, {arch: [s390x, amd64], bug: on}]\n").excluded
    assert [(gone.id, gone.reason) for gone in excluded] == [
        ("a/amd64/bug=on", "exclude 1 (bug: on, arch: amd64)"),
        ("a/s390x/bug=on", "exclude 2 (arch: [s390x, amd64], bug: on)"),
    ]


def test_an_exclude_that_matches_nothing_is_a_warning() -> None:
    result = expanded(AXES + "exclude: [{arch: s390}]\n")
    assert result.warnings == (
        "m.yaml:4:18: exclude 1 (arch: s390) matches nothing with arch: s390; did you mean 's390x'?",
    )
    assert len(result.cells) == 4


def test_an_include_that_brings_back_an_excluded_cell_is_a_warning() -> None:
    result = expanded(AXES + "exclude: [{bug: on}]\ninclude:\n- {image: a, arch: s390x, bug: on}\n")
    entry = "include 1 (image: a, arch: s390x, bug: on)"
    assert result.warnings == (
        f"m.yaml:6:3: {entry} brings back 'a/s390x/bug=on', which exclude 1 (bug: on) leaves out",
    )
    assert [cell.id for cell in result.cells][-1] == "a/s390x/bug=on"


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("false", []),
        ("true", ["a/amd64/bug=off", "a/amd64/bug=on", "a/s390x/bug=off", "a/s390x/bug=on"]),
        ("[{arch: s390x, bug: on}]", ["a/s390x/bug=on"]),
        ("[{arch: [s390x, amd64], bug: on}, {arch: amd64}]", ["a/amd64/bug=off", "a/amd64/bug=on", "a/s390x/bug=on"]),
        ("[{flaky: true}]", ["a/s390x/bug=off", "a/s390x/bug=on"]),
        ("[]", []),
    ],
)
def test_continue_on_error_names_the_cells_that_may_fail(allowed: str, expected: list[str]) -> None:
    text = f"{AXES}include: [{{arch: s390x, flaky: true}}]\ncontinue-on-error: {allowed}\n"
    assert [cell.id for cell in expanded(text).cells if cell.may_fail] == expected


def numbers(count: int) -> str:
    return ", ".join(map(str, range(count)))


WRONG: dict[str, tuple[str, list[str]]] = {
    "no image": ("axes: {arch: [b]}\n", ["3:1: the cell 'b' has no image; every cell needs one"]),
    "a misspelt image": (
        "axes: {imgae: [a], arch: [b]}\n",
        ["3:1: the cell 'b/imgae=a' has no image; did you mean 'imgae'?"],
    ),
    "no architecture in a cell of an include": (
        "axes: {image: [a], arch: [b]}\ninclude: [{image: c}, {image: d, arch: e}]\n",
        ["4:11: the cell 'c' has no arch; every cell needs one"],
    ),
    "two values with one id": (
        "axes: {image: [a], arch: [b], flags: [x y, x_y]}\n",
        ["3:1: two cells would have the id 'a/b/flags=x_y'; the first comes from the axes"],
    ),
    "the same cell included twice": (
        "axes: {image: [a], arch: [b]}\ninclude:\n- {image: c, arch: d}\n- {image: c, arch: d}\n",
        ["6:3: two cells would have the id 'c/d'; the first comes from include 1"],
    ),
    "an unknown axis": (
        "axes: {image: [a], arch: [b]}\nexclude: [{arhc: b}]\ncontinue-on-error: [{imago: a}]\n",
        ["4:12: unknown axis 'arhc'; did you mean 'arch'?", "5:22: unknown axis 'imago'; did you mean 'image'?"],
    ),
    "an exclude of what only an include adds": (
        "axes: {image: [a], arch: [b]}\ninclude: [{flags: x}]\nexclude: [{flags: x}]\n",
        ["5:12: unknown axis 'flags'"],
    ),
    "everything excluded": (
        "axes: {image: [a], arch: [b]}\nexclude: [{image: a}]\n",
        ["4:1: no cell is left: every combination is excluded"],
    ),
    "one cell too many": (
        f"axes: {{image: [a], arch: [b], n: [{numbers(MAX_CELLS + 1)}]}}\n",
        ["3:1: there are 1001 cells; a run has at most 1000"],
    ),
    "ten thousand cells": (
        f"axes: {{image: [a], arch: [b], n: [{numbers(100)}], m: [{numbers(100)}]}}\n",
        ["3:1: the axes make 10000 combinations; a run has at most 1000 cells"],
    ),
    "more combinations than there is memory": (
        f"axes: {{image: [a], arch: [b]{''.join(f', n{n}: [{numbers(10)}]' for n in range(30))}}}\n",
        [f"3:1: the axes make {10**30} combinations; a run has at most 1000 cells"],
    ),
    "lists in an include that stand for too much": (
        f"axes: {{image: [a], arch: [b]}}\ninclude: [{{n: [{numbers(100)}], m: [{numbers(100)}]}}]\n",
        ["4:1: these stand for 10000 entries; a run has at most 1000 cells"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_a_run_is_refused(case: str) -> None:
    text, expected = WRONG[case]
    assert complaints(text) == [f"m.yaml:{problem}" for problem in expected]


def test_a_thousand_cells_are_allowed() -> None:
    assert len(ids(f"axes: {{image: [a], arch: [b], n: [{numbers(MAX_CELLS)}]}}\n")) == MAX_CELLS


def test_excludes_have_their_say_before_cells_are_counted() -> None:
    numbered = f"axes: {{image: [a], arch: [b, c], n: [{numbers(1000)}]}}\n"
    assert len(ids(numbered + "exclude: [{arch: c}]\n")) == MAX_CELLS


def test_a_matrix_without_a_file_is_expanded_too() -> None:
    matrix = Matrix(name="x", axes={"image": ("a",)}, test="x")
    with pytest.raises(MatrixError, match="matrix:1:1: the cell 'a' has no arch"):
        expansion(matrix)


SCALARS = st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=4), st.sampled_from(["on", "a b", "..", "a/b"]))
OWN = st.dictionaries(
    st.sampled_from(["bug", "opt", "flags"]),
    st.lists(SCALARS, min_size=1, max_size=3),
    max_size=3,
)


@given(OWN)
def test_ids_are_unique_and_safe_names_of_folders(own: dict[str, list[Any]]) -> None:
    axes = {"image": ["a", "b"], "arch": ["c", ".."]} | own
    try:
        matrix = Matrix.model_validate({"name": "x", "axes": axes, "test": "x"})
        cells = expansion(matrix).cells
    except (ValueError, MatrixError):
        return  # the same value twice, or two values with one id
    assert len({cell.id for cell in cells}) == len(cells)
    for cell in cells:
        for segment in cell.id.split("/"):
            assert segment.strip("."), "neither empty nor . nor .."
            assert segment.isascii()
            assert not set(segment) & set(" \\'\"$*?[]\n\0")
