"""A folder as a source: what .gitignore files leave out, held against git itself."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farm.errors import SourceError
from farm.model import FolderSource, ResolvedSource
from farm.sources import resolve
from farm.sources.ignore import Rule, parse


def _resolve(folder: Path, name: str = ".") -> ResolvedSource:
    return resolve(FolderSource(folder=name), base=folder, cache=folder.parent / "cache")


def _files(resolved: ResolvedSource) -> set[str]:
    with tarfile.open(resolved.archive) as tar:
        return {member.name for member in tar if not member.isdir()}


def _write(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


_TREES = [
    pytest.param(
        {".gitignore": "*.o\nbuild/\n", "a.c": "", "a.o": "", "d/b.o": "", "build/x": "", "d/build/y": ""}, id="plain"
    ),
    pytest.param({".gitignore": "*.log\n!keep.log\n", "a.log": "", "keep.log": "", "d/keep.log": ""}, id="negation"),
    pytest.param({".gitignore": "*.log\n", "d/.gitignore": "!*.log\n", "a.log": "", "d/a.log": ""}, id="nearer wins"),
    pytest.param({".gitignore": "/top\n", "top": "", "d/top": ""}, id="anchored"),
    pytest.param({".gitignore": "d/e\n", "d/e": "", "x/d/e": ""}, id="a slash inside anchors"),
    pytest.param({".gitignore": "out/\n!out/keep\n", "out/keep": "", "a": ""}, id="nothing inside an ignored folder"),
    pytest.param({".gitignore": "out/*\n!out/keep\n", "out/keep": "", "out/x": ""}, id="all but one"),
    pytest.param(
        {".gitignore": "out/**\n!out/keep\n", "out/keep": "", "out/x": "", "a": ""}, id="two stars at the end"
    ),
    pytest.param(
        {".gitignore": "**/gen\na/**/z\n", "x/gen": "", "gen": "", "a/z": "", "a/b/c/z": "", "z": ""}, id="two stars"
    ),
    pytest.param({".gitignore": "only/\n", "only": "a file", "d/only/x": ""}, id="a folder, not a file"),
    pytest.param(
        {".gitignore": "# c\n\n\\#x\n\\!y\nsp\\ \ntr  \n", "#x": "", "!y": "", "sp ": "", "tr": "", "c": ""},
        id="escapes",
    ),
    pytest.param(
        {".gitignore": "[a-c].t\n?x\n[!d].u\n", "a.t": "", "d.t": "", "yx": "", "d.u": "", "e.u": ""}, id="classes"
    ),
    pytest.param({".gitignore": "*\n!*.c\n!*/\n", "a.c": "", "a.h": "", "d/b.c": "", "d/b.h": ""}, id="everything but"),
    pytest.param({".gitignore": "*\n!.gitignore\n!a\n", "a": "", "d/a": ""}, id="a star hides folders"),
    pytest.param({"d/.gitignore": "/x\ny\n", "d/x": "", "d/e/x": "", "d/e/y": "", "x": "", "y": ""}, id="only below"),
    pytest.param({".gitignore": ".gitignore\n*.o\n", "a.o": "", "b": ""}, id="ignores itself"),
    pytest.param({".gitignore": "a.o\r\nb.o\n", "a.o": "", "b.o": "", "c": ""}, id="line ends of Windows"),
]

_PATTERNS = st.text(st.sampled_from("ab*?[]!^-/\\ .#"), min_size=1, max_size=7)
_NAMES = ["a", "b", "ab", "a/a", "a/b", "b/a/a", "b/ab", ".a", "a-b/!", "b/[a]", "b/a b/#"]


@given(patterns=st.lists(_PATTERNS, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
@example(["[[:alpha:]]"])
@example(["[]a]*"])
@example(["[!]a]*"])
@example(["[a-", "a"])
@example(["\\"])
@example(["[[:nope:]]", "b"])
@example(["a\\ ", "b "])
@example(["*", "!*/", "!b"])
@example(["a/**", "!a/b"])
@example(["[b-a]"])
def test_any_pattern_means_what_it_means_to_git(patterns: list[str]) -> None:
    rules = parse("\n".join(patterns).encode())
    ours = {name for name in _NAMES if _last_match(rules, name)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        (Path(folder) / ".gitignore").write_text("\n".join(patterns) + "\n")
        asked = "".join(f"{name}\0" for name in _NAMES)
        argv = ["git", "-C", folder, "check-ignore", "-z", "-v", "--no-index", "--stdin"]
        said = subprocess.run(argv, input=asked, capture_output=True, text=True, check=False).stdout.split("\0")
    git = {path for pattern, path in zip(said[2::4], said[3::4], strict=True) if not pattern.startswith("!")}
    assert ours == git


def _last_match(rules: tuple[Rule, ...], name: str) -> bool:
    """Whether a file, or one of the folders above it, is ignored."""
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        path, is_folder = "/".join(parts[:depth]), depth < len(parts)
        if next((rule.ignores for rule in reversed(rules) if rule.matches(path, is_folder=is_folder)), False):
            return True
    return False


@pytest.mark.parametrize("files", _TREES)
def test_the_same_files_are_left_out_as_by_git(tmp_path: Path, files: dict[str, str]) -> None:
    root = tmp_path / "s"
    _write(root, files)
    ours = _files(_resolve(root))
    subprocess.run(["git", "init", "-q", root], check=True)
    listing = ["git", "-C", root, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
    git = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    assert ours == set(git.split("\0")) - {""}
    assert ours == _files(_resolve(root)), "the same with a repository around it"


def test_git_itself_is_never_part_of_a_source(tmp_path: Path) -> None:
    _write(tmp_path / "s", {"a": "", ".git/config": "", "module/.git": "gitdir: elsewhere", ".github/x": ""})
    assert _files(_resolve(tmp_path / "s")) == {"a", ".github/x"}


def test_the_rules_of_the_repository_around_a_folder_count_too(tmp_path: Path) -> None:
    _write(
        tmp_path / "r", {".git/HEAD": "", ".gitignore": "*.o\n/lib/tmp\n", "lib/a.o": "", "lib/tmp": "", "lib/a.c": ""}
    )
    _write(tmp_path, {".gitignore": "*.c\n"})
    assert _files(_resolve(tmp_path / "r", "lib")) == {"a.c"}


def test_a_folder_that_is_itself_ignored_was_named_on_purpose(tmp_path: Path) -> None:
    _write(tmp_path / "r", {".git/HEAD": "", ".gitignore": "vendor/\n", "vendor/lib/a": ""})
    assert _files(_resolve(tmp_path / "r", "vendor/lib")) == {"a"}


def test_what_is_ignored_may_be_anything(tmp_path: Path) -> None:
    _write(tmp_path / "s", {".gitignore": "out\n", "a": ""})
    (tmp_path / "s" / "out").symlink_to("/etc/passwd")
    assert _files(_resolve(tmp_path / "s")) == {".gitignore", "a"}


def test_modes_and_links_are_kept_and_empty_folders_are_not(tmp_path: Path) -> None:
    _write(tmp_path / "s", {"run": "#!/bin/sh\n", "plain": ""})
    (tmp_path / "s" / "run").chmod(0o700)
    (tmp_path / "s" / "link").symlink_to("run")
    (tmp_path / "s" / "empty").mkdir()
    with tarfile.open(_resolve(tmp_path / "s").archive) as tar:
        members = {member.name: (oct(member.mode), member.linkname) for member in tar}
    assert members == {"run": ("0o755", ""), "plain": ("0o644", ""), "link": ("0o644", "run")}


def test_the_same_folder_gives_the_same_archive_and_digest(tmp_path: Path) -> None:
    _write(tmp_path / "s", {"b": "2", "a": "1"})
    assert _resolve(tmp_path / "s") == _resolve(tmp_path / "s")


def test_a_folder_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"file": ""})
    with pytest.raises(SourceError, match="there is no such folder"):
        _resolve(tmp_path, "nowhere")
    with pytest.raises(SourceError, match="it is not a folder"):
        _resolve(tmp_path, "file")


def test_a_folder_in_which_everything_is_ignored_is_refused(tmp_path: Path) -> None:
    _write(tmp_path / "s", {".gitignore": "*\n", "a": ""})
    with pytest.raises(SourceError, match="there is no file in it"):
        _resolve(tmp_path / "s")
