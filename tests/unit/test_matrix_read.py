from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from farm.errors import ConfigError, MatrixError
from farm.matrix import load, loads
from farm.matrix.tree import MAX_BYTES
from farm.matrix.words import keys_of
from farm.model import Collect, FolderSource, GitSource, GuestSpec, Matrix, Retries, Timeouts
from farm.model.fields import DURATION, RATE, SHARE, SIZE, SOURCES

MINIMAL = "name: demo\naxes: {image: [debian-13], arch: [amd64]}\ntest: make check\n"


def complaints(text: str) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        loads(text, file="m.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_minimal_matrix_has_the_defaults() -> None:
    matrix = loads(MINIMAL, file="m.yaml").matrix
    assert matrix.source == FolderSource(folder=".")
    assert matrix.guest == GuestSpec()
    assert (matrix.retries.infra, matrix.fail_fast, matrix.max_parallel, matrix.continue_on_error) == (
        1,
        False,
        None,
        False,
    )


def test_on_and_off_are_words() -> None:
    text = "name: x\naxes: {image: [a], arch: [b], bug: [on, off, yes, no]}\ntest: x\n"
    assert loads(text, file="m.yaml").matrix.axes["bug"] == ("on", "off", "yes", "no")


def test_shorthands_are_accepted() -> None:
    text = MINIMAL + (
        "source: lib\nretries: 3\nguest: {memory: 2G, disk: 3072}\ntimeouts: {boot: 90, test: 1.5h}\n"
        "exclude: [{arch: [amd64, arm64]}, {arch: amd64}]\n"
    )
    matrix = loads(text, file="m.yaml").matrix
    assert matrix.source == FolderSource(folder="lib")
    assert matrix.retries == Retries(infra=3)
    assert (matrix.guest.memory_mib, matrix.guest.disk_mib) == (2048, 3072)
    assert (matrix.timeouts.boot, matrix.timeouts.test) == (90.0, 5400.0)
    assert matrix.exclude == ({"arch": ("amd64", "arm64")}, {"arch": "amd64"})


@pytest.mark.parametrize(
    ("text", "percent", "rate"),
    [
        ("cpu: 50%", 50, None),
        ("cpu: ' 150 % '", 150, None),
        ("disk-bandwidth: 64K", None, 65_536),
        ("disk-bandwidth: 20M", None, 20_971_520),
        ("disk-bandwidth: 1 GiB/s", None, 1_073_741_824),
        ("disk-bandwidth: 100000", None, 100_000),
    ],
)
def test_limits_are_read(text: str, percent: int | None, rate: int | None) -> None:
    matrix = loads(f"{MINIMAL}guest: {{{text}}}\n", file="m.yaml").matrix
    assert (matrix.guest.cpu_percent, matrix.guest.disk_bytes_per_s) == (percent, rate)
    assert Matrix.model_validate_json(matrix.model_dump_json(by_alias=True)) == matrix


def test_a_date_is_a_text() -> None:
    text = "name: x\naxes: {image: [a], arch: [b], snapshot: [2026-01-31]}\ntest: x\n"
    assert loads(text, file="m.yaml").matrix.axes["snapshot"] == ("2026-01-31",)


def test_anchors_and_aliases_are_followed() -> None:
    text = "name: x\naxes: {image: [a], arch: &all [b, c]}\nexclude: [{arch: *all}]\nenv: {A: &a 1, B: &a 2}\ntest: x\n"
    assert loads(text, file="m.yaml").matrix.exclude == ({"arch": ("b", "c")},)


def test_a_matrix_survives_the_store() -> None:
    text = MINIMAL + "source: {git: u, ref: v1}\ncontinue-on-error: [{arch: amd64}]\nretries: 2\n"
    matrix = loads(text, file="m.yaml").matrix
    assert isinstance(matrix.source, GitSource)
    assert Matrix.model_validate_json(matrix.model_dump_json()) == matrix


# Each: a document, and all that is said about it. M stands for the three lines of MINIMAL.
WRONG: dict[str, tuple[str, list[str]]] = {
    "a tab": ("name: x\n\ttest: y\n", ["2:1: a tab cannot indent YAML; use spaces"]),
    "a tab after spaces": ("axes:\n  \timage: [a]\n", ["2:3: a tab cannot indent YAML; use spaces"]),
    "a second document": ("a: 1\n---\nb: 2\n", ["2:1: a second document begins here; a matrix file holds one"]),
    "a control character": ("a: \x01\n", ["1:4: the character U+0001 is not allowed in a YAML file"]),
    "a glob without quotes": (
        "a: *x\n",
        ["1:4: this is no YAML: found undefined alias 'x'; put a text that begins with * in quotes"],
    ),
    "a duplicate key": ("M" + "name: y\n", ["4:1: duplicate key 'name'; it is on line 1 already"]),
    "a duplicate key below": (
        "M" + "guest:\n  vcpus: 1\n  vcpus: 2\n",
        ["6:3: duplicate key 'vcpus'; it is on line 5 already"],
    ),
    "an unknown key": ("M" + "tset: x\n", ["4:1: unknown key 'tset'; did you mean 'test'?"]),
    "a key by the name it has in the code": (
        "M" + "fail_fast: true\n",
        ["4:1: unknown key 'fail_fast'; did you mean 'fail-fast'?"],
    ),
    "a key like no other": ("M" + "qqq: x\n", ["4:1: unknown key 'qqq'"]),
    "a key that is no text": ("M" + "? [a]\n: 1\n", ["4:3: a key has to be a word"]),
    "a merge key": ("M" + "<<: {a: 1}\n", ["4:1: merge keys (<<) are not read; write the keys themselves"]),
    "a missing key": ("axes: {image: [a]}\ntest: x\n", ["1:1: missing key 'name'"]),
    "a missing key below": ("M" + "source: {tarball: x}\n", ["4:9: missing key 'sha256' in source"]),
    "nothing where a script belongs": ("M" + "build:\n", ["4:1: build: expected text; found nothing"]),
    "a blank test": (
        "name: x\naxes: {image: [a]}\ntest: ' '\n",
        ["3:7: test: ' ' is not a script: there is nothing in it"],
    ),
    "a number where text belongs": ("M" + "build: 3\n", ["4:8: build: expected text; found 3"]),
    "text where a number belongs": (
        "M" + "guest: {vcpus: '2'}\n",
        ["4:16: guest.vcpus: expected a whole number; found '2'"],
    ),
    "true where a number belongs": (
        "M" + "max-parallel: true\n",
        ["4:15: max-parallel: expected a whole number; found true"],
    ),
    "a word where true belongs": ("M" + "fail-fast: on\n", ["4:12: fail-fast: expected true or false; found 'on'"]),
    "a list where a mapping belongs": ("M" + "guest: [a]\n", ["4:8: guest: expected a mapping; found a list"]),
    "a mapping where a list belongs": ("M" + "exclude: {a: b}\n", ["4:10: exclude: expected a list; found a mapping"]),
    "a scalar for an axis": (
        "name: x\naxes: {image: debian-13}\ntest: x\n",
        ["2:15: axes.image: expected a list; found 'debian-13'"],
    ),
    "an empty axis": ("name: x\naxes:\n  arch: []\ntest: x\n", ["3:9: axes.arch: empty; at least one is needed"]),
    "no axes": ("name: x\naxes: {}\ntest: x\n", ["2:7: axes: empty; at least one is needed"]),
    "an empty match": ("M" + "include: [{}]\n", ["4:11: include[0]: empty; at least one is needed"]),
    "an axis with the same value twice": (
        "name: x\naxes: {v: [a, b, A, a]}\ntest: x\n",
        ["2:18: the value 'A' is there twice", "2:21: the value 'a' is there twice"],
    ),
    "the same number twice": ("name: x\naxes: {v: [3, 3.0]}\ntest: x\n", ["2:15: the value '3.0' is there twice"]),
    "an axis value of the wrong type": (
        "name: x\naxes: {v: [{a: b}, ~]}\ntest: x\n",
        [
            "2:12: axes.v[0]: expected text, a number, true or false; found a mapping",
            "2:20: axes.v[1]: expected text, a number, true or false; found nothing",
        ],
    ),
    "a version that is read as a number": (
        "name: x\naxes: {v: [3.10, 010]}\ntest: x\n",
        [
            "2:12: 3.10 is read as the number 3.1; put it in quotes to keep it as written",
            "2:18: 010 is read as the number 10; put it in quotes to keep it as written",
        ],
    ),
    "an image that is no word": ("name: x\naxes: {image: [13]}\ntest: x\n", ["2:16: image has to be a word, not '13'"]),
    "an empty architecture": ("M" + "exclude: [{arch: [amd64, '']}]\n", ["4:26: arch has to be a word, not ''"]),
    "a name that is none": (
        "name: 9x\naxes: {image: [a]}\ntest: x\n",
        ["1:7: name: '9x' is not a name: a letter, then letters, digits, '_', '.' or '-', 63 at most"],
    ),
    "a broken duration": (
        "M" + "timeouts: {boot: soon}\n",
        ["4:18: timeouts.boot: 'soon' is not a duration; write for example 90s, 10m or 2h"],
    ),
    "no time at all": ("M" + "timeouts: {boot: 0s}\n", ["4:18: timeouts.boot: has to be more than 0; found 0.0"]),
    "for ever": ("M" + "timeouts: {boot: .inf}\n", ["4:18: timeouts.boot: expected a finite number; found inf"]),
    "a broken size": (
        "M" + "guest: {disk: 2 Q}\n",
        ["4:15: guest.disk: '2 Q' is not a size; write for example 512M or 2G"],
    ),
    "too small": ("M" + "guest: {memory: 1M}\n", ["4:17: guest.memory: has to be at least 64; found 1"]),
    "a share that is none": (
        "M" + "guest: {cpu: half}\n",
        ["4:14: guest.cpu: 'half' is not a share of a CPU; write for example 50% or 150%"],
    ),
    "a number of CPUs for a share": ("M" + "guest: {cpu: 2}\n", ["4:14: guest.cpu: has to be at least 5; found 2"]),
    "a share of the wrong type": (
        "M" + "guest: {cpu: 0.5}\n",
        ["4:14: guest.cpu: expected a share of a CPU such as 50% or 150%; found 0.5"],
    ),
    "a rate that is none": (
        "M" + "guest: {disk-bandwidth: fast}\n",
        ["4:25: guest.disk-bandwidth: 'fast' is not a number of bytes a second; write for example 512K or 20M"],
    ),
    "a rate without its unit": (
        "M" + "guest: {disk-bandwidth: 20}\n",
        ["4:25: guest.disk-bandwidth: has to be at least 65536; found 20"],
    ),
    "a rate of the wrong type": (
        "M" + "guest: {disk-bandwidth: true}\n",
        ["4:25: guest.disk-bandwidth: expected bytes a second such as 512K or 20M; found true"],
    ),
    "a limit of nothing": (
        "M" + "guest: {disc-bandwidth: 20M}\n",
        ["4:9: unknown key 'disc-bandwidth'; did you mean 'disk-bandwidth'?"],
    ),
    "a network that is too slow": (
        "M" + "guest: {network-bandwidth: 1K}\n",
        ["4:28: guest.network-bandwidth: has to be at least 65536; found 1024"],
    ),
    "too many": ("M" + "retries: 11\n", ["4:10: retries: has to be at most 10; found 11"]),
    "a choice that is none": (
        "M" + "guest: {network: opne}\n",
        ["4:18: guest.network: expected 'isolated', 'open' or 'bridge'; found 'opne'; did you mean 'open'?"],
    ),
    "a package that is none": (
        "M" + "guest: {packages: [GCC]}\n",
        ["4:20: guest.packages[0]: 'GCC' is not the name of a Debian package: small letters, digits, '+', '.' or '-'"],
    ),
    "an unknown kind of source": (
        "M" + "source: {gti: x, ref: y}\n",
        ["4:10: unknown source kind 'gti'; did you mean 'git'? (known: folder, git, tarball, debian, pypi)"],
    ),
    "no kind of source": (
        "M" + "source: {ref: y}\n",
        ["4:9: the kind of source is missing (known: folder, git, tarball, debian, pypi)"],
    ),
    "two kinds of source": (
        "M" + "source: {git: x, folder: y}\n",
        ["4:18: two kinds of source at once: 'git' and 'folder'; keep one"],
    ),
    "a source of the wrong type": (
        "M" + "source: 3\n",
        ["4:9: source: expected a folder or one of folder, git, tarball, debian, pypi; found 3"],
    ),
    "a wrong digest": (
        "M" + "source: {tarball: x, sha256: ABC}\n",
        ["4:30: source.sha256: 'ABC' is not a SHA-256: 64 hexadecimal digits in small letters"],
    ),
    "continue-on-error of the wrong type": (
        "M" + "continue-on-error: maybe\n",
        ["4:20: continue-on-error: expected true or false; found 'maybe'"],
    ),
    "env that hides an axis": (
        "name: x\naxes: {bug: [on]}\nenv: {BUG: 1}\ntest: x\n",
        ["3:7: env 'BUG' hides the axis 'bug'; rename one of them"],
    ),
    "two axes for one variable": (
        "name: x\naxes: {a-b: [1]}\ninclude: [{a_b: 2}]\ntest: x\n",
        ["3:12: 'a_b' and 'a-b' would both set the variable A_B; rename one of them"],
    ),
    "a NUL": ("M" + 'build: "\\0"\n', ["4:8: a text cannot hold a NUL or half of a surrogate pair"]),
    "half of a surrogate pair": (
        "M" + 'build: "\\ud800"\n',
        ["4:8: a text cannot hold a NUL or half of a surrogate pair"],
    ),
    "a number without end": (
        "M" + f"max-parallel: {'9' * 5000}\n",
        ["4:15: a number has at most 40 digits"],
    ),
    "a value that is too long": (
        f"name: x\naxes: {{v: [{'a' * 129}]}}\ntest: x\n",
        ["2:12: an axis value has at most 128 characters"],
    ),
    "a tag that lies": ("M" + "max-parallel: !!int x\n", ["4:15: 'x' is no int"]),
    "another tag": (
        "M" + "build: !!python/name:os.system x\n",
        ["4:8: the tag tag:yaml.org,2002:python/name:os.system is not known here; leave it out"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_named_where_it_is(case: str) -> None:
    text, expected = WRONG[case]
    text = MINIMAL + text[1:] if text.startswith("M") else text
    expected = [f"m.yaml:{problem}" for problem in expected]
    assert complaints(text) == expected


@pytest.mark.parametrize(
    ("text", "given"),
    {
        "": "is empty",
        "# only a comment\n": "is empty",
        "- a\n": "holds a list alone",
        "just words": "holds 'just words' alone",
    }.items(),
)
def test_a_document_that_is_no_mapping_is_told_what_it_has_to_be(text: str, given: str) -> None:
    (what,) = complaints(text)
    assert what.startswith(f"m.yaml:1:1: the file {given}; a matrix is a mapping with the keys name, source, axes, ")


def test_all_the_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = "nmae: x\naxes:\n  arch: []\n  bug: [1, 1]\ntimeouts: {boot: soon}\nname: 9\nname: 8\n"
    assert [line.split(":")[1] for line in complaints(text)] == ["1", "1", "3", "4", "5", "6", "7"]


LEVELS: dict[str, tuple[str, type]] = {
    "guest": ("guest: {%s: x}\n", GuestSpec),
    "collect": ("collect: {%s: x}\n", Collect),
    "timeouts": ("timeouts: {%s: x}\n", Timeouts),
    "retries": ("retries: {%s: x}\n", Retries),
    **{kind: (f"source: {{{kind}: x, version: x, sha256: x, %s: x}}\n", SOURCES[kind]) for kind in SOURCES},
}


@pytest.mark.parametrize("level", LEVELS)
def test_an_unknown_key_is_compared_with_the_keys_of_its_own_level(level: str) -> None:
    text, model = LEVELS[level]
    for key in set(keys_of(model)) - set(SOURCES):
        assert any(
            f"unknown key '{key}x'; did you mean '{key}'?" in line for line in complaints(MINIMAL + text % f"{key}x")
        )


RESERVED = ["path", "Home", "shell", "user", "pwd", "ifs", "tmpdir", "ld-preload", "farm.cell"]


@pytest.mark.parametrize("axis", RESERVED)
def test_a_variable_that_others_own_is_refused(axis: str) -> None:
    variable = axis.upper().replace("-", "_").replace(".", "_")
    (line,) = complaints(f"name: x\naxes: {{{axis}: [1]}}\ntest: x\n")
    assert line.startswith(f"m.yaml:2:8: axis '{axis}' would set the variable {variable}, which is reserved: ")
    (line,) = complaints(f"{MINIMAL}env: {{{variable}: 1}}\n")
    assert line.startswith(f"m.yaml:4:7: '{variable}' is reserved: ")
    (line,) = complaints(f"{MINIMAL}include: [{{{axis}: 1}}]\n")
    assert line.startswith("m.yaml:4:12: axis ")


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "this stands for too many values; use fewer aliases"),
        ("a: &a [*a]\n", "this stands for too many values; use fewer aliases"),
        ("a: " + "[" * 1000, "nested deeper than 20 levels"),
        ("a: " + "x" * MAX_BYTES, "the file is larger than 1048576 bytes"),
    ],
)
def test_what_would_grow_without_end_is_stopped(text: str, what: str) -> None:
    (line,) = complaints(text)
    assert line.endswith(f": {what}")


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    for data in (MINIMAL.encode(), MINIMAL.encode("utf-8-sig")):
        path.write_bytes(data)
        assert load(path).matrix.name == "demo"


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"name: x\ntest: \xff\n", "2:7: the file is not UTF-8"),
        ("name: é".encode("latin-1"), "1:7: the file is not UTF-8"),
        ("name: x\n".encode("utf-16"), "1:1: the file is not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "1:1: the file is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, where: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(data)
    with pytest.raises(MatrixError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:{where}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the matrix .*none\.yaml: no such file or directory") as caught:
        load(tmp_path / "none.yaml")
    assert caught.value.hint
    with pytest.raises(ConfigError, match="is a directory"):
        load(tmp_path)


FULL = (Path(__file__).parents[2] / "docs" / "matrix.md").read_text().split("## Everything at once")[1]
EVERYTHING: Any = YAML(typ="safe", pure=True).load(FULL.split("```yaml\n")[1].split("```")[0])


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in pairs:
        yield from places(value, (*path, key))


JUNK = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3,
        1.5,
        10**9,
        "",
        " ",
        "x",
        "9 x",
        "ü",
        [],
        [None],
        [[]],
        ["x", "x"],
        {},
        {"x": None},
        {"x": []},
    ]
)


@given(st.sampled_from([path for path in places(EVERYTHING) if path]), JUNK)
def test_whatever_stands_anywhere_is_read_or_named_in_words(path: tuple[Any, ...], junk: object) -> None:
    document = copy.deepcopy(EVERYTHING)
    functools.reduce(lambda node, part: node[part], path[:-1], document)[path[-1]] = junk
    problems: tuple[object, ...] = ()
    try:
        loads(as_yaml(document), file="m.yaml")
    except MatrixError as error:
        problems = error.problems
    for problem in problems:
        assert (
            re.search(r"not accepted|Input should|\[type=|Value error|what is expected here|::", str(problem)) is None
        )
    assert len({str(problem).split(": ")[0] for problem in problems}) == len(problems), "one mistake, said twice"


def as_yaml(value: Any) -> str:
    """Flow style, which is JSON but for what JSON does not have."""
    return json.dumps(value, ensure_ascii=False)


@given(st.from_regex(DURATION.replace(r"\d+", "[0-9]{1,6}"), fullmatch=True).map(str.strip))
def test_the_schema_s_durations_are_the_loader_s(text: str) -> None:
    try:
        loads(f'{MINIMAL}timeouts: {{"boot": {as_yaml(text)}}}\n', file="m.yaml")
    except MatrixError as error:
        assert "has to be more than 0" in str(error)  # noqa: PT017 - all but zero are durations


@given(st.from_regex(SIZE.replace(r"\d+", "[0-9]{1,4}"), fullmatch=True).map(str.strip))
def test_the_schema_s_sizes_are_the_loader_s(text: str) -> None:
    try:
        loads(f'{MINIMAL}guest: {{"disk": {as_yaml(text)}}}\n', file="m.yaml")
    except MatrixError as error:
        assert "has to be at" in str(error)  # noqa: PT017 - sizes all of them, if not all in the range


@given(st.from_regex(RATE.replace(r"\d+", "[0-9]{1,4}"), fullmatch=True).map(str.strip))
def test_the_schema_s_rates_are_the_loader_s(text: str) -> None:
    try:
        loads(f'{MINIMAL}guest: {{"disk-bandwidth": {as_yaml(text)}}}\n', file="m.yaml")
    except MatrixError as error:
        assert "has to be at" in str(error)  # noqa: PT017 - rates all of them, if not all in the range


@given(st.from_regex(SHARE.replace(r"\d+", "[0-9]{1,4}"), fullmatch=True).map(str.strip))
def test_the_schema_s_shares_are_the_loader_s(text: str) -> None:
    try:
        loads(f'{MINIMAL}guest: {{"cpu": {as_yaml(text)}}}\n', file="m.yaml")
    except MatrixError as error:
        assert "has to be at" in str(error)  # noqa: PT017 - shares all of them, if not all in the range
