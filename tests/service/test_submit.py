"""Ways to a run: a matrix by name, sources that the server fetches, cells of a run again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service.caching import make_cache
from tests.service.conftest import serving
from tests.service.serving import Serving, tar_of
from tests.standin import StandIn, git, standing_in

pytestmark = pytest.mark.timeout(400)

API = "/api/v1"
AMD, S390X = "debian-13/amd64/fake", "debian-13/s390x/fake"
FILES = {"check": "echo hello\n"}
MATRIX = """\
name: {name}
axes: {{image: [debian-13], arch: [amd64, s390x], hypervisor: [fake]}}
guest: {{memory: 128M}}
test: |
  {test}
"""
HELLO = MATRIX.format(name="hello", test=". ./check")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One with a folder of matrices: two, of which one has its source beside it."""
    folder = tmp_path_factory.mktemp("submit")
    make_cache(folder / "cache")
    matrices = folder / "matrices"
    (matrices / "words").mkdir(parents=True)
    for name, text in FILES.items():
        (matrices / "words" / name).write_text(text)
    (matrices / "words.yaml").write_text(HELLO + "source: {folder: words}\n")
    (matrices / "bare.yaml").write_text(HELLO)
    environment = {"FARM_CACHE": str(folder / "cache"), "FARM_MATRICES": str(matrices)}
    with serving(folder, settings="rate = 100000\nburst = 100000\n", environment=environment) as started:
        yield started


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """It has the files as a tarball, and in a repository at a tag that its branch has left behind."""
    with standing_in(tmp_path_factory.mktemp("forge")) as stand_in:
        stand_in.repository("words", FILES)
        bare, work = stand_in.folder / "git/words.git", stand_in.folder / "work/words"
        git("tag", "v1.3", at=work)
        (work / "check").write_text("exit 3\n")
        git("commit", "--quiet", "--all", "--message=two", at=work)
        git("push", "--quiet", str(bare), "main", "v1.3", at=work)
        git("update-server-info", at=bare)
        (stand_in.folder / "words.tar").write_bytes(tar_of({name: text.encode() for name, text in FILES.items()}))
        yield stand_in


def submitted(server: Serving, **body: Any) -> Any:
    """A run, as it is at its end."""
    client = server.client("submit")
    answer = client.post(f"{API}/runs", json=body)
    assert answer.status_code == 201, answer.text
    return server.wait_for(client, answer.json()["run"]["id"])


def verdicts(found: Any) -> dict[str, str]:
    return {cell["id"]: cell["verdict"] for cell in found["cells"]}


PASSED = {AMD: "passed", S390X: "passed"}


# --- by name ----------------------------------------------------------------------------------------


def test_matrices_of_the_server_are_listed_and_read(server: Serving) -> None:
    client = server.client("read")
    assert client.get(f"{API}/matrices").json() == {"matrices": ["bare", "words"]}
    answer = client.get(f"{API}/matrices/bare")
    assert (answer.status_code, answer.text) == (200, HELLO)
    assert answer.headers["Content-Type"] == "application/yaml; charset=utf-8"
    assert client.get(f"{API}/matrices/word").status_code == 404


def test_a_run_of_a_matrix_of_the_server_has_the_folder_beside_it_as_its_source(server: Serving) -> None:
    found = submitted(server, matrix_name="words")
    assert verdicts(found) == PASSED
    assert (found["run"]["project"], found["run"]["source"]["kind"]) == ("hello", "folder")


def test_a_named_matrix_is_validated_and_planned_as_it_is_run(server: Serving) -> None:
    client = server.client("submit")
    body = {"matrix_name": "words", "only": ["*/amd64"]}
    assert [cell["id"] for cell in client.post(f"{API}/validate", json=body).json()["cells"]] == [AMD]
    placements = client.post(f"{API}/plan", json=body).json()["plan"]["placements"]
    assert [one["cell"]["id"] for one in placements] == [AMD]
    assert verdicts(submitted(server, **body)) == {AMD: "passed"}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"matrix_name": "wrods"}, 404, "words"),
        ({"matrix_name": "../words"}, 422, "matrix_name"),
        ({"matrix_name": "words", "source": {"folder": "words"}}, 422, "source"),
        ({"matrix": HELLO + "source: {folder: words}\n"}, 422, "cannot use the folder 'words'"),
    ],
)
def test_what_the_server_does_not_have_or_give_is_refused(
    server: Serving, body: dict[str, Any], status: int, said: str
) -> None:
    answer = server.client("submit").post(f"{API}/runs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"].startswith("cannot ")
    assert said in answer.text


# --- fetched ----------------------------------------------------------------------------------------


def test_a_tree_is_the_same_whichever_way_the_server_gets_it(server: Serving, forge: StandIn) -> None:
    tarball = f"{forge.url}/words.tar"
    sha256 = hashlib.sha256((forge.folder / "words.tar").read_bytes()).hexdigest()
    sources: tuple[dict[str, str], ...] = (
        {"git": f"{forge.url}/git/words.git", "ref": "v1.3"},
        {"tarball": tarball, "sha256": sha256},
        {"upload": server.upload(server.client("submit"), {name: text.encode() for name, text in FILES.items()})},
    )
    found = [submitted(server, matrix=HELLO, source=source) for source in sources]
    assert [verdicts(one) for one in found] == [PASSED] * 3
    described = [one["run"]["source"] for one in found]
    assert [one["kind"] for one in described][:2] == ["git", "tarball"]
    assert "v1.3" in described[0]["description"]
    assert len({one["digest"] for one in described}) == 1


def test_a_repository_is_taken_as_it_is_now(server: Serving, forge: StandIn) -> None:
    found = submitted(server, matrix=HELLO, source={"git": f"{forge.url}/git/words.git"})
    assert set(verdicts(found).values()) == {"failed"}  # its branch has gone on, to a check that fails


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"git": "{url}/git/words.git", "ref": "v9"}, "v9"),
        ({"git": "{url}/git/none.git"}, "none.git"),
        ({"tarball": "{url}/words.tar", "sha256": "0" * 64}, "0000"),
        ({"tarball": "{url}/none.tar", "sha256": "0" * 64}, "404"),
    ],
)
def test_what_cannot_be_fetched_is_told_and_makes_no_run(
    server: Serving, forge: StandIn, source: dict[str, str], said: str
) -> None:
    client = server.client("submit")
    before = client.get(f"{API}/runs?limit=1").json()
    named = {name: value.format(url=forge.url) for name, value in source.items()}
    answer = client.post(f"{API}/runs", json={"matrix": HELLO, "source": named})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/source"), answer.text
    assert answer.json()["detail"].startswith("cannot ")
    assert said in answer.text
    assert client.get(f"{API}/runs?limit=1").json() == before


# --- again ------------------------------------------------------------------------------------------


def again(client: httpx.Client, run: str, *cells: str) -> httpx.Response:
    return client.post(f"{API}/runs/{run}/rerun", json={"cells": cells} if cells else {})


@pytest.mark.parametrize(
    ("cells", "chosen"),
    [
        ((), {S390X}),
        (("failed",), {S390X}),
        (("all",), {AMD, S390X}),
        ((AMD,), {AMD}),
        (("*/s390x", "*/amd64"), {AMD, S390X}),
    ],
)
def test_of_a_run_all_cells_or_the_failed_ones_or_one_are_run_again(
    server: Serving, half: str, cells: tuple[str, ...], chosen: set[str]
) -> None:
    client = server.client("submit")
    answer = again(client, half, *cells)
    assert answer.status_code == 201, answer.text
    found = server.wait_for(client, answer.json()["run"]["id"])
    assert found["run"]["rerun_of"] == half
    both = {AMD: "passed", S390X: "failed"}
    assert verdicts(found) == {cell: both[cell] for cell in chosen}


@pytest.fixture(scope="module")
def half(server: Serving) -> str:
    """A run of which one cell has passed and one has failed."""
    upload = server.upload(server.client("submit"), {"amd64": b"true\n", "s390x": b"exit 3\n"})
    found = submitted(server, matrix=MATRIX.format(name="half", test=". ./$FARM_ARCH"), source={"upload": upload})
    assert verdicts(found) == {AMD: "passed", S390X: "failed"}
    return str(found["run"]["id"])


def test_where_nothing_failed_nothing_is_run_again(server: Serving, half: str) -> None:
    client = server.client("submit")
    good = server.wait_for(client, again(client, half, AMD).json()["run"]["id"])["run"]["id"]
    answer = again(client, good, "failed")
    assert answer.status_code == 422
    assert answer.json()["detail"] == f"cannot run cells of {good} again: none of them failed"
