"""What a request may name as its source, and what of it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from farm.config import load_settings
from farm.errors import ForbiddenError, SourceError
from farm.intake import Intake
from farm.model import (
    DebianSource,
    FolderSource,
    GitSource,
    PypiSource,
    RunRequest,
    Source,
    UploadedSource,
    version_of,
)
from farm.store import Store
from tests.unit.test_serve import NoFleet
from tests.unit.test_sources_git import repository

__all__ = ["repository"]

MATRIX = """\
name: hello
axes: {image: [debian-13], arch: [amd64], hypervisor: [fake]}
guest: {memory: 128M}
test: "true"
"""
SECRET = b"of the server\n"


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    """A server's, with a folder of matrices."""
    (tmp_path / "matrices").mkdir()
    folders = {name: str(tmp_path / name.lower()) for name in ("FARM_STATE", "FARM_CACHE")}
    more = {"FARM_MATRICES": str(tmp_path / "matrices"), "FARM_RUNTIME": "/tmp/farm-x"}
    settings = load_settings(folders | more)
    store = Store.open(f"sqlite:///{tmp_path / 'farm.db'}", tmp_path)
    yield Intake(settings, store, NoFleet(), lambda plan: plan)
    store.close()


@pytest.mark.parametrize(
    "place",
    [
        "{file}",
        "file://{file}",
        "FILE://{file}",
        "a@b:{file}",
        "a@b:x/{up}{file}",
        "a@b:x/../secret",
        "../secret",
        "ssh://a/{up}{file}",
        "x://a/{up}{file}",
        " http://a/{up}{file}",
    ],
)
def test_a_tarball_of_a_request_is_no_file_of_the_server(intake: Intake, tmp_path: Path, place: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    tarball = place.format(file=file, up="/.." * 20)
    for sha256 in ("0" * 64, hashlib.sha256(SECRET).hexdigest()):
        request = RunRequest.model_validate({"matrix": MATRIX, "source": {"tarball": tarball, "sha256": sha256}})
        with pytest.raises(SourceError, match=r"cannot use the tarball: it names a file of the server") as caught:
            intake.submit(request, owner="ada")
        assert hashlib.sha256(SECRET).hexdigest() not in str(caught.value)


@pytest.mark.parametrize("place", [".", "..", "{folder}", "file://{folder}", "a@b::x", "ext::sh -c true"])
def test_a_repository_of_a_request_is_none_of_the_server(intake: Intake, tmp_path: Path, place: str) -> None:
    (tmp_path / "repository").mkdir()
    source = {"git": place.format(folder=tmp_path / "repository")}
    with pytest.raises(SourceError, match="it names a file of the server"):
        intake.submit(RunRequest.model_validate({"matrix": MATRIX, "source": source}), owner="ada")


def test_what_looks_like_a_host_is_none_of_the_servers_folders(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert intake.settings.matrices
    (intake.settings.matrices / "git@localhost:x").mkdir()
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    source = {"git": "git@localhost:x"}
    with pytest.raises(SourceError, match="cannot reach the git repository git@localhost:x"):
        intake.submit(RunRequest.model_validate({"matrix": MATRIX, "source": source}), owner="ada")


@pytest.mark.parametrize(
    ("source", "version"),
    [
        (GitSource(git="x"), ""),
        (GitSource(git="x", ref="v1.3"), "v1.3"),
        (GitSource(git="x", ref="v" * 300), "v" * 200),
        (DebianSource(debian="zlib", version="1:1.3"), "1:1.3"),
        (PypiSource(pypi="x", version="2.0"), "2.0"),
        (FolderSource(folder="."), ""),
    ],
)
def test_a_source_may_say_its_version(source: Source, version: str) -> None:
    assert version_of(source) == version


def test_a_run_has_the_version_of_its_source_unless_it_is_told_another(intake: Intake, repository: Path) -> None:
    assert intake.settings.matrices
    text = f"{MATRIX}source: {{git: {repository}, ref: v1}}\n"
    (intake.settings.matrices / "hello.yaml").write_text(text)
    found = [intake.submit(RunRequest(matrix_name="hello", version=told), owner="ada") for told in ("", "told")]
    assert [run.submission.version for run in found] == ["v1", "told"]
    upload = UploadedSource(upload=found[0].submission.source.digest)
    assert intake.submit(RunRequest(matrix=text, source=upload), owner="ada").submission.version == ""


def from_(place: str) -> RunRequest:
    """A request whose source is a tarball, or a repository, somewhere."""
    tarball = {"tarball": place, "sha256": "0" * 64}
    source = tarball if place.startswith("http") and place.endswith(".tar") else {"git": place}
    return RunRequest.model_validate({"matrix": MATRIX, "source": source})


@pytest.mark.parametrize(
    "place",
    [
        "http://evil.example/x.tar",
        "http://127.0.0.1:1/x.tar",
        "http://[::1]:1/x.tar",
        "http://good.test.evil.example/x.tar",
        "http://evil.example/good.test/x.tar",
        "http://good.test@evil.example/x.tar",
        "http://good.test:80@evil.example/x.tar",
        "http://evil.example\\@good.test/x.tar",
        "http://evil.example#@good.test/x.tar",
        "http://evil.example?@good.test/x.tar",
        "http://a@evil.example@good.test/x.tar",
        "http:///good.test/x.tar",
        "https://evil.example/r",
        "ssh://good.test@evil.example/r",
        "git://evil.example/r",
        "git@evil.example:good.test",
        "good.test@evil.example:r",
    ],
)
def test_a_host_that_the_settings_do_not_name_is_not_asked(intake: Intake, place: str) -> None:
    limited = replace(intake, source_hosts=("good.test", "*.good.test"))
    with pytest.raises(ForbiddenError, match="cannot use the source: the server does not fetch from"):
        limited.submit(from_(place), owner="ada")


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:1/x.tar",
        "HTTP://me:secret@127.0.0.1:1/x.tar",
        "http://127.0.0.1:1?x.tar",
        "http://127.0.0.1:1/r",
        "ssh://git@localhost:1/r",
        "git@LOCALHOST:r",
    ],
)
def test_a_host_that_the_settings_name_is_asked(intake: Intake, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    limited = replace(intake, source_hosts=("LocalHost", "127.0.*"))
    with pytest.raises(SourceError, match=r"cannot (fetch|reach)"):
        limited.submit(from_(place), owner="ada")
