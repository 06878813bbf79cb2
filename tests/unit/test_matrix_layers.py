from __future__ import annotations

import pytest

from farm.errors import MatrixError
from farm.matrix import expansion, loads
from farm.model import Expansion, ImageSpec, LayerSpec, Placement
from farm.orders import image_for

HEAD = "name: demo\ntest: make check\n"
AXES = "axes: {image: [a], arch: [b], with: [postgresql, none, postgresql+gcc-12]}\n"
LAYERS = """\
layers:
  postgresql:
    packages: [postgresql-17, libpq-dev]
    files:
      /usr/local/sbin/database: "#!/bin/sh\\n"
    script: initdb
  gcc-12: {packages: [gcc-12]}
"""


def expanded(text: str) -> Expansion:
    document = loads(HEAD + text, file="m.yaml")
    return expansion(document.matrix, document.at)


def complaints(text: str) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        expanded(text)
    return [str(problem).removeprefix("m.yaml:") for problem in caught.value.problems]


def test_the_layers_of_a_cell_stand_in_its_id_behind_the_hypervisor() -> None:
    cells = expanded("axes: {n: [1], with: [postgresql+gcc-12], hypervisor: [q], arch: [b], image: [a]}\n" + LAYERS)
    (cell,) = cells.cells
    assert cell.id == "a/b/q/postgresql+gcc-12/n=1"
    assert cell.layers == ("postgresql", "gcc-12")


def test_a_cell_without_layers_says_none_or_nothing() -> None:
    assert [cell.layers for cell in expanded(AXES + LAYERS).cells] == [
        ("postgresql",),
        (),
        ("postgresql", "gcc-12"),
    ]
    (cell,) = expanded("axes: {image: [a], arch: [b]}\n").cells
    assert cell.layers == ()


def test_an_include_attaches_a_layer_to_the_cells_it_fits() -> None:
    axes = "axes: {image: [a], arch: [b, c], database: [pg, none]}\n"
    cells = expanded(f"{axes}include: [{{database: pg, with: postgresql}}, {{arch: c, with: gcc-12}}]\n{LAYERS}").cells
    assert {cell.id: cell.layers for cell in cells} == {
        "a/b/database=pg": ("postgresql",),
        "a/b/database=none": (),
        "a/c/database=pg": ("gcc-12",),
        "a/c/database=none": ("gcc-12",),
    }


def test_a_layer_that_no_cell_uses_is_a_warning() -> None:
    text = "axes: {image: [a], arch: [b, c], with: [postgresql, gcc-12]}\nexclude: [{with: gcc-12}]\n" + LAYERS
    assert expanded(text).warnings == ("m.yaml:11:3: no cell uses the layer 'gcc-12'",)


def test_an_exclude_with_a_layer_that_is_not_there_is_a_warning() -> None:
    (warning,) = expanded(f"{AXES}exclude: [{{with: postgres}}]\n{LAYERS}").warnings
    assert warning.endswith("matches nothing with with: postgres; did you mean 'postgresql'?")


UNKNOWN: dict[str, tuple[str, list[str]]] = {
    "in an axis": (
        "axes: {image: [a], arch: [b], with: [postgresql, gcc-13]}\n",
        ["3:50: unknown layer 'gcc-13'; did you mean 'gcc-12'?"],
    ),
    "joined with a known one": (
        "axes: {image: [a], arch: [b], with: [gcc-12+postgres]}\n",
        ["3:38: unknown layer 'postgres'; did you mean 'postgresql'?"],
    ),
    "in an include": (
        "axes: {image: [a], arch: [b]}\ninclude: [{arch: b, with: non}]\n",
        ["4:27: unknown layer 'non'; did you mean 'none'?"],
    ),
    "in a list of an include": (
        "axes: {image: [a], arch: [b]}\ninclude: [{arch: b, with: [gcc-12, oracle]}]\n",
        ["4:36: unknown layer 'oracle'; it has to be described in layers"],
    ),
    "nothing after the sign": (
        "axes: {image: [a], arch: [b], with: [gcc-12+]}\n",
        ["3:38: unknown layer ''; it has to be described in layers"],
    ),
    "twice the same": (
        "axes: {image: [a], arch: [b], with: [gcc-12+gcc-12]}\n",
        ["3:38: 'gcc-12+gcc-12' names the layer 'gcc-12' twice"],
    ),
    "none with another": (
        "axes: {image: [a], arch: [b], with: [none+gcc-12]}\n",
        ["3:38: 'none' stands for no layer, and cannot be joined with others"],
    ),
    "a number": ("axes: {image: [a], arch: [b], with: [12]}\n", ["3:38: with has to be a word, not '12'"]),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_no_layer_is_said_with_its_place_and_the_nearest_one(case: str) -> None:
    text, expected = UNKNOWN[case]
    assert complaints(text + LAYERS) == expected


WRONG: dict[str, tuple[str, str]] = {
    "the name none": ("{none: {}}", "4:10: no layer can be called 'none': as a value of `with` it stands for no layer"),
    "a name with a plus": ("{'g++': {}}", "4:10: 'g++' is not a name: a letter, then letters, digits, '_', '.' or '-'"),
    "an unknown key": ("{x: {pakages: []}}", "4:14: unknown key 'pakages'; did you mean 'packages'?"),
    "no package": ("{x: {packages: [GCC]}}", "4:25: layers.x.packages[0]: 'GCC' is not the name of a Debian package"),
    "no text": ("{x: {files: {/etc/x: 3}}}", "4:30: layers.x.files./etc/x: expected text; found 3"),
    "a relative path": ("{x: {files: {etc/x: y}}}", "4:22: 'etc/x' is not the absolute path of a file in the guest"),
    "a folder's path": ("{x: {files: {/etc/: y}}}", "4:22: '/etc/' is not the absolute path of a file in the guest"),
    "the root": ("{x: {files: {/: y}}}", "4:22: '/' is not the absolute path of a file in the guest"),
    "upwards": ("{x: {files: {/a/../b: y}}}", "4:22: '/a/../b' cannot be a layer's file: it has an empty part, '.'"),
    "two slashes": ("{x: {files: {//proc/x: y}}}", "4:22: '//proc/x' cannot be a layer's file: it has an empty part"),
    "proc": ("{x: {files: {/proc/x: y}}}", "4:22: '/proc/x' cannot be a layer's file: /proc is the kernel's"),
    "sys": ("{x: {files: {/sys/x: y}}}", "4:22: '/sys/x' cannot be a layer's file: /sys is the kernel's"),
    "dev": ("{x: {files: {/dev/x: y}}}", "4:22: '/dev/x' cannot be a layer's file: /dev is the kernel's"),
    "the folder itself": ("{x: {files: {/dev: y}}}", "4:22: '/dev' cannot be a layer's file: /dev is the kernel's"),
    "tmp": ("{x: {files: {/tmp/x: y}}}", "4:22: '/tmp/x' cannot be a layer's file: /tmp is in memory, and empty when"),
    "the source": ("{x: {files: {/work/x: y}}}", "4:22: '/work/x' cannot be a layer's file: /work is the folder of"),
    "a file as a folder": (
        "{x: {files: {/a/b/c: y, /a: y}}}",
        "4:33: '/a' would be a file and the folder of '/a/b/c'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_a_layer_is_said_with_its_place(case: str) -> None:
    text, expected = WRONG[case]
    (complaint,) = complaints(f"axes: {{image: [a], arch: [b]}}\nlayers: {text}\n")
    assert complaint.startswith(expected)


def test_the_image_of_a_cell_has_its_layers_in_the_order_of_the_value() -> None:
    text = "axes: {image: [a], arch: [b], with: [gcc-12+postgresql]}\nguest: {packages: [make]}\n"
    document = loads(HEAD + text + LAYERS, file="m.yaml")
    (cell,) = expansion(document.matrix).cells
    assert image_for(document.matrix, Placement(cell=cell)) == ImageSpec(
        name="a",
        arch="b",
        packages=("make",),
        layers=(
            LayerSpec(name="gcc-12", packages=("gcc-12",)),
            LayerSpec(
                name="postgresql",
                packages=("postgresql-17", "libpq-dev"),
                files={"/usr/local/sbin/database": "#!/bin/sh\n"},
                script="initdb",
            ),
        ),
    )


def test_a_cell_without_layers_has_the_plain_image() -> None:
    document = loads(HEAD + AXES + LAYERS, file="m.yaml")
    images = [image_for(document.matrix, Placement(cell=cell)) for cell in expansion(document.matrix).cells]
    assert images[1] == ImageSpec(name="a", arch="b")
