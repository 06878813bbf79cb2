"""Git repositories as sources: real ones, made here."""

from __future__ import annotations

import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from farm.errors import SourceError
from farm.model import FolderSource, GitSource, ResolvedSource
from farm.sources import Limits, resolve
from tests.standin import standing_in

_PERSON = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "A"}
_ENV = {**os.environ, **_PERSON, "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_GLOBAL": "/dev/null"}


def _git(repository: Path, *arguments: str) -> str:
    argv = ["git", "-C", repository, *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=_ENV).stdout.strip()


def _commit(repository: Path, content: str) -> str:
    (repository / "a").write_text(content)
    _git(repository, "add", ".")
    _git(repository, "commit", "-q", "-m", content)
    return _git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits on `main`, a tag `v1` at the first, and a branch `topic/x`."""
    path = tmp_path / "repository"
    path.mkdir()
    _git(path, "init", "-q", "-b", "main")
    _commit(path, "one")
    _git(path, "tag", "-a", "-m", "first", "v1")
    _git(path, "branch", "topic/x")
    _commit(path, "two")
    return path


def _resolve(base: Path, ref: str, url: str = "repository", **limits: int) -> ResolvedSource:
    return resolve(GitSource(git=url, ref=ref), base=base, cache=base / "cache", limits=Limits(**limits))


def _content(resolved: ResolvedSource, name: str = "a") -> str:
    with tarfile.open(resolved.archive) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read().decode()


@pytest.mark.parametrize(
    ("ref", "content"),
    [
        ("HEAD", "two"),
        ("main", "two"),
        ("v1", "one"),
        ("topic/x", "one"),
        ("refs/tags/v1", "one"),
        ("heads/main", "two"),
    ],
)
def test_any_name_of_a_commit_will_do(repository: Path, ref: str, content: str) -> None:
    assert _content(_resolve(repository.parent, ref)) == content


def test_a_commit_will_do_in_full_and_in_short_also_one_that_no_branch_names(repository: Path) -> None:
    first = _git(repository, "rev-parse", "v1^{commit}")
    middle = _commit(repository, "three")
    _commit(repository, "four")
    for commit, content in ((first, "one"), (first[:8], "one"), (middle, "three"), (middle[:10], "three")):
        resolved = _resolve(repository.parent, commit)
        assert _content(resolved) == content
        assert resolved.description.endswith(_git(repository, "rev-parse", commit))


def test_a_branch_is_looked_up_again_each_time(repository: Path) -> None:
    _resolve(repository.parent, "main")
    commit = _commit(repository, "newer")
    again = _resolve(repository.parent, "main")
    assert _content(again) == "newer"
    assert again.description == f"git repository main at {commit}"


def test_only_the_wanted_commit_is_fetched(repository: Path) -> None:
    _resolve(repository.parent, "main", url=repository.as_uri())
    (bare,) = (repository.parent / "cache" / "git").glob("*/bare")
    assert _git(bare, "rev-list", "--all", "--count") in {"0", "1"}
    assert (bare / "shallow").exists()


@pytest.mark.parametrize(("ref", "content"), [("main", "two"), ("v1", "one"), ("topic/x", "one")])
def test_where_a_server_only_has_files_refs_come_with_their_history(
    repository: Path, tmp_path: Path, ref: str, content: str
) -> None:
    with standing_in(tmp_path / "forge") as forge:
        bare = forge.folder / "git" / "r.git"
        _git(repository, "clone", "-q", "--bare", str(repository), str(bare))
        _git(bare, "update-server-info")
        for _ in range(2):
            assert _content(_resolve(tmp_path, ref, url=f"{forge.url}/git/r.git")) == content


def test_the_digest_is_that_of_the_same_files_in_a_folder(repository: Path) -> None:
    (repository / "run").write_text("#!/bin/sh\n")
    (repository / "run").chmod(0o755)
    (repository / "link").symlink_to("run")
    _commit(repository, "more")
    folder = resolve(FolderSource(folder="repository"), base=repository.parent, cache=repository.parent / "cache")
    assert _resolve(repository.parent, "main").digest == folder.digest


def test_what_a_repository_keeps_out_of_its_own_archives_stays_in(repository: Path) -> None:
    (repository / ".gitattributes").write_text("tests export-ignore\nversion export-subst\n")
    (repository / "version").write_text("$Format:%H$")
    (repository / "tests").write_text("yes")
    _commit(repository, "more")
    resolved = _resolve(repository.parent, "main")
    assert (_content(resolved, "tests"), _content(resolved, "version")) == ("yes", "$Format:%H$")


def test_several_at_once_on_one_cache_get_the_same(repository: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda ref: _resolve(repository.parent, ref), ["main", "v1", "HEAD", "main"]))
    assert [_content(result) for result in results] == ["two", "one", "two", "two"]


def test_the_git_of_a_hook_around_us_is_not_meant(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert _content(_resolve(repository.parent, "main")) == "two"


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("mian", "has no such branch or tag"),
        ("0" * 40, "cannot"),
        ("--upload-pack=touch owned", "not a name of a branch, tag or commit"),
        ("-x", "not a name"),
        ("main:refs/heads/x", "not a name"),
        ("main~1", "not a name"),
        ("a..b", "not a name"),
        ("", "not a name"),
        ("two words", "not a name"),
        ("x\n", "not a name"),
    ],
)
def test_refs_that_are_refused(repository: Path, ref: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _resolve(repository.parent, ref)


def test_an_unknown_ref_comes_with_the_nearest_one(repository: Path) -> None:
    with pytest.raises(SourceError) as caught:
        _resolve(repository.parent, "mian")
    assert "main" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch owned'",
        "--upload-pack=touch owned",
        "-u",
        "ftp://example.org/x",
        "fd::17",
        "gopher://x/y",
        "",
    ],
)
def test_urls_that_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="neither a URL that is allowed nor a path"):
        _resolve(tmp_path, "HEAD", url=url)
    assert not (tmp_path / "owned").exists()


def test_a_path_that_is_no_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no such folder"):
        _resolve(tmp_path, "HEAD", url="nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SourceError, match=r"cannot reach the git repository .*plain"):
        _resolve(tmp_path, "HEAD", url="plain")


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        _resolve(tmp_path, "HEAD", url="http://me:secret@127.0.0.1:1/x.git")
    assert "127.0.0.1:1/x.git" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_empty_repository_says_so(tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    _git(tmp_path / "repository", "init", "-q")
    with pytest.raises(SourceError) as caught:
        _resolve(tmp_path, "main")
    assert caught.value.hint == "it has no refs at all"


def test_a_repository_over_the_limit_is_refused(repository: Path) -> None:
    (repository / "big").write_bytes(b"0" * 100_000)
    _commit(repository, "big")
    with pytest.raises(SourceError, match=r"larger than|more than"):
        _resolve(repository.parent, "main", bytes=50_000, files=10)
