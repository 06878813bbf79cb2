"""`matrices/databases.yaml` as it is: a client program against servers that layers put on images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.conftest import Farm, verdict

pytestmark = [pytest.mark.guest, pytest.mark.timeout(1800)]

MATRIX = Path(__file__).parents[3] / "matrices/databases.yaml"
TESTS = 19
SAYS = {"postgresql": b"PostgreSQL 17", "mariadb": b"11.8"}


def check(cell: dict[str, Any], farm: Farm) -> None:
    layer = cell["values"]["with"]
    assert verdict(cell) == ("passed", None, "passed"), cell["outcome"]["summary"]
    assert cell["tests"]["passed"] == cell["tests"]["all"] == TESTS
    (attempt,) = cell["attempts"]
    assert attempt["guest"]["layers"] == [layer]
    (said,) = farm.state.glob(f"runs/*/*{cell['values']['arch']}*{layer}*/1/artifacts/server.txt")
    assert SAYS[layer] in said.read_bytes()


@pytest.mark.slow
def test_a_cell_starts_with_a_database_that_a_layer_has_made(farm: Farm) -> None:
    ended = farm("run", str(MATRIX), "--only", "debian-13/amd64/mariadb", timeout_s=1700)
    assert ended.status == 0, ended.out + ended.err
    (cell,) = farm.report()["cells"]
    check(cell, farm)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_matrix_passes(farm: Farm) -> None:
    ended = farm("run", str(MATRIX), timeout_s=3500)
    assert ended.status == 0, ended.out + ended.err
    cells = farm.report()["cells"]
    assert len(cells) == len(SAYS) * 2
    for cell in cells:
        check(cell, farm)


def test_a_layer_whose_script_fails_is_an_error_of_the_matrix(farm: Farm) -> None:
    matrix = farm.matrix(
        axes={"image": ["debian-13"], "arch": ["amd64"], "with": ["broken"]},
        layers={"broken": {"script": "echo there is no such database >&2\nexit 3\n"}},
        guest={"memory": 384, "packages": ["gcc", "libc6-dev", "make"]},
    )
    ended = farm("run", matrix, timeout_s=600)
    assert ended.status == 2, ended.out + ended.err
    (cell,) = farm.report()["cells"]
    assert verdict(cell) == ("error", "config", "not-to-be-had")
    assert "its script returned 3: there is no such database" in cell["outcome"]["summary"]
    assert len(cell["attempts"]) == 1


def test_an_unknown_layer_is_said_with_its_place_before_anything_starts(farm: Farm) -> None:
    (farm.folder / "m.yaml").write_text(
        "name: x\ntest: make\naxes:\n  image: [debian-13]\n  arch: [amd64]\n  with: [postgres]\n"
        "layers:\n  postgresql: {packages: [postgresql-17]}\n"
    )
    ended = farm("plan", "m.yaml")
    assert ended.status == 2
    assert "m.yaml:6:10: unknown layer 'postgres'; did you mean 'postgresql'?" in ended.err
