from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from farm.errors import MatrixError
from farm.matrix import load, loads
from farm.matrix.schema import FILE, schema, text
from farm.model import Matrix

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(schema())
MATRICES = sorted((ROOT / "matrices").glob("*.yaml"))

MINIMAL: dict[str, Any] = {"name": "demo", "axes": {"image": ["debian-13"], "arch": ["amd64"]}, "test": "make check"}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_committed_schema_is_up_to_date() -> None:
    assert (ROOT / FILE).read_text() == text(), "run: python -m farm.matrix.schema"


@pytest.mark.parametrize("path", MATRICES, ids=lambda path: path.name)
def test_every_matrix_here_is_right_for_the_schema_and_the_loader(path: Path) -> None:
    VALIDATOR.validate(YAML(typ="safe", pure=True).load(path))
    load(path)


GOOD: dict[str, dict[str, Any]] = {
    "nothing more": {},
    "a folder": {"source": "lib"},
    "a kind of source": {"source": {"git": "u", "ref": "v1"}},
    "durations": {"timeouts": {"boot": 90, "build": 1.5, "test": "1.5 h", "collect": "250ms"}},
    "sizes": {"guest": {"memory": 512, "disk": "2GiB"}},
    "limits": {"guest": {"cpu": "150 %", "disk-bandwidth": "20MiB/s"}},
    "limits as numbers": {"guest": {"cpu": 50, "disk-bandwidth": 65536}},
    "retries as a number": {"retries": 2},
    "retries as a mapping": {"retries": {"infra": 0}},
    "scalars and lists in matches": {"exclude": [{"arch": ["a", "b"], "bug": True}], "include": [{"v": 1.5}]},
    "continue-on-error for all": {"continue-on-error": True},
    "continue-on-error for some": {"continue-on-error": [{"arch": "s390x"}]},
    "every kind of scalar": {"env": {"A": "x", "B": 1, "C": 1.5, "D": False}},
}


@pytest.mark.parametrize("case", GOOD)
def test_what_the_loader_accepts_the_schema_accepts(case: str) -> None:
    document = MINIMAL | GOOD[case]
    loads(json.dumps(document), file="m.yaml")
    VALIDATOR.validate(document)


BAD: dict[str, dict[str, Any]] = {
    "an unknown key": {"tset": "x"},
    "an unknown key below": {"guest": {"memry": 1}},
    "a key by the name it has in the code": {"guest": {"memory_mib": 512}},
    "an unknown key of a source": {"source": {"git": "x", "rfe": "y"}},
    "an unknown kind of source": {"source": {"gti": "x"}},
    "two kinds of source": {"source": {"git": "x", "folder": "y"}},
    "a source without its digest": {"source": {"tarball": "x"}},
    "a wrong digest": {"source": {"tarball": "x", "sha256": "abc"}},
    "a source of the wrong type": {"source": 3},
    "a bad name": {"name": "9 x"},
    "no axes": {"axes": {}},
    "an empty axis": {"axes": {"image": []}},
    "a scalar for an axis": {"axes": {"image": "a"}},
    "a mapping for an axis value": {"axes": {"image": [{}]}},
    "an axis with the same value twice": {"axes": {"image": ["a", "a"]}},
    "a bad name of an axis": {"axes": {"9": ["a"]}},
    "an empty match": {"exclude": [{}]},
    "an empty list in a match": {"exclude": [{"arch": []}]},
    "nothing in a match": {"include": [{"arch": None}]},
    "a bad duration": {"timeouts": {"boot": "soon"}},
    "a negative duration": {"timeouts": {"boot": -1}},
    "a duration that is true": {"timeouts": {"boot": True}},
    "a bad size": {"guest": {"disk": "big"}},
    "too small a size": {"guest": {"memory": 1}},
    "text for a number": {"guest": {"vcpus": "2"}},
    "too many vcpus": {"guest": {"vcpus": 65}},
    "an unknown network": {"guest": {"network": "bridged"}},
    "a bad package": {"guest": {"packages": ["A B"]}},
    "a list for a mapping": {"collect": ["x.xml"]},
    "a scalar for a list": {"collect": {"junit": "x.xml"}},
    "too many retries": {"retries": 11},
    "retries that are true": {"retries": True},
    "text for true": {"fail-fast": "on"},
    "no parallel cells": {"max-parallel": 0},
    "text for continue-on-error": {"continue-on-error": "maybe"},
    "a bad variable": {"env": {"A-B": 1}},
    "a reserved variable": {"env": {"LD_PRELOAD": "x"}},
    "a list for a variable": {"env": {"A": [1]}},
    "a blank test": {"test": " "},
    "nothing to test": {"test": None},
    "too long a script": {"build": "x" * (256 * 1024 + 1)},
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_schema_can_see_both_refuse(case: str) -> None:
    document = MINIMAL | BAD[case]
    with pytest.raises(MatrixError):
        loads(json.dumps(document), file="m.yaml")
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("key", MINIMAL)
def test_what_is_needed_both_need(key: str) -> None:
    document = {name: value for name, value in MINIMAL.items() if name != key}
    with pytest.raises(MatrixError, match=f"missing key '{key}'"):
        loads(json.dumps(document), file="m.yaml")
    assert not VALIDATOR.is_valid(document)


def test_every_key_of_the_file_has_a_description_for_the_editor() -> None:
    described = {key for key, value in schema()["properties"].items() if value.get("description")}
    assert described == {field.alias or name for name, field in Matrix.model_fields.items()}
