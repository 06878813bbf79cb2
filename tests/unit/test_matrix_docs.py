from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm.matrix import expansion, loads
from farm.matrix.words import keys_of
from farm.model import (
    AUTO,
    Build,
    Collect,
    CpuRequires,
    GuestSpec,
    Layer,
    Matrix,
    Requires,
    Retries,
    Timeouts,
    VirtualizationRequires,
    parse_duration,
    parse_size,
)
from farm.model.fields import RESERVED, SOURCES

TEXT = (Path(__file__).parents[2] / "docs" / "matrix.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
PARTS = {
    "Keys": Matrix,
    "layers": Layer,
    "guest": GuestSpec,
    "Cross builds": Build,
    "collect": Collect,
    "timeouts": Timeouts,
    "retries": Retries,
}


def rows(section: str) -> dict[str, list[str]]:
    """The rows of the tables of a section whose first column is a key."""
    lines = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", SECTIONS[section], re.MULTILINE)
    return {key: [column.strip() for column in rest.split(" | ")] for key, rest in lines}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: re.findall("name: (.*)", example)[0])
def test_every_example_is_right_and_has_no_warning(example: str) -> None:
    document = loads(example, file="matrix.md")
    assert expansion(document.matrix, document.at).warnings == ()


def test_the_example_of_exclude_and_include_has_the_cells_that_are_told() -> None:
    (example,) = [text for text in EXAMPLES if "name: portability" in text]
    cells = expansion(loads(example, file="matrix.md").matrix).cells
    assert [cell.id for cell in cells] == [
        "debian-13/amd64/compiler=gcc",
        "debian-13/amd64/compiler=clang",
        "debian-13/riscv64/compiler=gcc",
        "debian-13/s390x/compiler=gcc",
        "debian-12/amd64/compiler=gcc",
    ]
    assert [cell.id for cell in cells if "flags" in cell.values] == ["debian-13/s390x/compiler=gcc"]


@pytest.mark.parametrize("section", PARTS)
def test_every_key_is_documented_and_none_that_is_not(section: str) -> None:
    assert list(rows(section)) == keys_of(PARTS[section])


def test_everything_that_can_be_required_is_documented() -> None:
    parts = (Requires, CpuRequires, VirtualizationRequires)
    assert list(rows("requires")) == [key for part in parts for key in keys_of(part)]


def test_every_kind_of_source_is_documented_with_its_keys() -> None:
    documented = rows("source")
    assert list(documented) == list(SOURCES)
    for kind, model in SOURCES.items():
        assert re.findall(r"`(\w+)`(?! *\))", documented[kind][0].split("(")[0]) == [
            key for key in keys_of(model) if key != kind
        ]


def test_the_documented_defaults_are_the_real_ones() -> None:
    shown = {key: columns[0].strip("`") for key, columns in rows("timeouts").items()}
    assert shown.pop("scale") == str(Timeouts().scale).lower()
    assert {key: parse_duration(value) for key, value in shown.items()} == Timeouts().model_dump(exclude={"scale"})
    guest = {key: columns[1].strip("`") for key, columns in rows("guest").items()}
    assert parse_size(guest["memory"]) == GuestSpec().memory_mib
    assert parse_size(guest["disk"]) == GuestSpec().disk_mib
    assert (int(guest["vcpus"]), guest["network"]) == (GuestSpec().vcpus, GuestSpec().network)
    assert int(rows("retries")["infra"][1].strip("`")) == Retries().infra
    assert f"`{AUTO}`, the default" in SECTIONS["axes"]


def test_every_reserved_variable_is_documented() -> None:
    for name in "|".join(RESERVED).split("|"):
        assert f"`{name.removesuffix('.*')}`" in SECTIONS["axes"]
