"""A git repository at a branch, tag or commit as a source, fetched as shallowly as its server allows.

Submodules are empty folders. What a repository wants left out of *its* archives (`export-ignore`) stays in:
that is often the test-suite.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from farm.errors import SourceError
from farm.model import GitSource
from farm.sources.cached import locked
from farm.sources.files import tar_tree
from farm.sources.programs import run, run_into
from farm.sources.tree import Limits, Tree
from farm.sources.urls import shown

_SCHEMES = ("https", "http", "ssh", "git", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SSH = re.compile(r"[^/:]+:(?!:)[^:]*")
"""`host:path`, git's short form of ssh; two colons would name a program to run: gitremote-helpers(7)."""
_REF = re.compile(r"(?!-)(?!.*(\.\.|@\{))[^\x00-\x20\x7f~^:?*\[\\]+")
"""What git-check-ref-format(1) allows, and not an option."""
_COMMIT = re.compile(r"[0-9a-f]{4,40}|[0-9a-f]{64}")
_FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PLACES = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}")
"""Where git looks for a short name, in its order: gitrevisions(7)."""
_ENV = {"GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES)}


@contextmanager
def open_git(source: GitSource, *, base: Path, cache: Path, limits: Limits) -> Iterator[Tree]:
    """The tree of the commit that the ref means now. Raises SourceError."""
    url = _url(source.git, base)
    if not _REF.fullmatch(source.ref):
        raise SourceError(f"cannot use the git ref {source.ref!r}: this is not a name of a branch, tag or commit")
    with TemporaryFile() as file:
        with locked(cache / "git" / hashlib.sha256(url.encode()).hexdigest()) as folder:
            repository = _Repository(folder, url)
            commit = repository.fetch(source.ref)
            repository.archive(commit, file, limits)
        file.seek(0)
        with tar_tree(file, f"git {shown(source.git)} {source.ref} at {commit}", whole=True) as tree:
            yield tree


def _url(text: str, base: Path) -> str:
    """What to hand to git. Raises SourceError for anything but the known schemes and paths that exist."""
    scheme = _SCHEME.match(text)
    if (scheme and scheme[1].lower() not in _SCHEMES) or text.startswith("-") or "::" in text or not text:
        raise SourceError(
            f"cannot use the git repository {shown(text)!r}: this is neither a URL that is allowed nor a path",
            hint=f"allowed are {', '.join(_SCHEMES)} and paths; a path may start with ./",
        )
    path = base / text
    if scheme or (_SSH.fullmatch(text) and not path.exists()):
        return text
    if not path.is_dir():
        raise SourceError(f"cannot use the git repository {path}: there is no such folder")
    return str(path.resolve())


class _Repository:
    """A bare repository in the cache that holds what has been fetched from one URL. The caller has the lock."""

    def __init__(self, folder: Path, url: str) -> None:
        self._path = folder / "bare"
        self._url = url
        self._program = ("git", f"--git-dir={self._path}")
        if not (self._path / "HEAD").exists():
            run(["git", "init", "--quiet", "--bare", str(self._path)], to="make a git repository in the cache")
        attributes = self._path / "info" / "attributes"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("* -export-ignore -export-subst\n")

    def fetch(self, ref: str) -> str:
        """Make sure that the commit of a ref is there; its full name."""
        if _FULL_COMMIT.fullmatch(ref) and self._has(ref):
            return ref
        names = self._remote_refs()
        found = next((name for place in _PLACES if (name := place.format(ref)) in names), None)
        if found:
            if not self._has(names[found]):
                self._fetch_ref(found, ref)
            return self._commit(names[found])
        if _COMMIT.fullmatch(ref):
            return self._fetch_commit(ref)
        raise self._unknown(ref, names)

    def archive(self, commit: str, file: IO[bytes], limits: Limits) -> None:
        """Write the tree of a commit to a file, as a tar."""
        argv = [*self._program, "archive", "--format=tar", commit]
        # A tar has up to 1 KiB of its own for each file.
        run_into(file, argv, to=f"read commit {commit}", limit=limits.bytes + 1024 * limits.files)

    def _fetch_ref(self, name: str, ref: str) -> None:
        """Fetch what the server has under a name: alone where it can do that, else with its history."""
        fetch = ("fetch", "--quiet", "--no-tags")
        try:
            self._git(*fetch, "--depth=1", "--", self._url, name, to=f"fetch {ref}")
        except SourceError:  # files over HTTP, say, are given out by no program that could leave something out
            self._git(*fetch, "--", self._url, name, to=f"fetch {ref}")

    def _fetch_commit(self, ref: str) -> str:
        """Fetch a commit that no ref names: alone where the server allows it, else with the whole history."""
        if _FULL_COMMIT.fullmatch(ref):
            try:
                self._git("fetch", "--quiet", "--no-tags", "--depth=1", "--", self._url, ref, to=f"fetch {ref}")
            except SourceError:
                pass  # not every server gives out commits by name; the next try needs no such permission
            else:
                return self._commit(ref)
        deepen = ["--unshallow"] if (self._path / "shallow").exists() else []
        refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        self._git("fetch", "--quiet", "--prune", *deepen, "--", self._url, *refs, to=f"fetch {shown(self._url)}")
        return self._commit(ref)

    def _remote_refs(self) -> dict[str, str]:
        listing = self._git("ls-remote", "--quiet", "--", self._url, to=f"reach the git repository {shown(self._url)}")
        pairs = (line.split("\t", 1) for line in listing.splitlines() if "\t" in line)
        return {name: commit for commit, name in pairs}

    def _has(self, name: str) -> bool:
        try:
            self._commit(name)
        except SourceError:
            return False
        return True

    def _commit(self, name: str) -> str:
        to = f"use the git ref {name!r} of {shown(self._url)}"
        return self._git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}", to=to).strip()

    def _unknown(self, ref: str, names: dict[str, str]) -> SourceError:
        short = [name.removeprefix("refs/").partition("/")[2] for name in names if not name.endswith("^{}")]
        near = difflib.get_close_matches(ref, [name for name in short if name], n=3) or short[-3:]
        hint = f"there are for example: {', '.join(filter(None, near))}" if any(near) else "it has no refs at all"
        return SourceError(f"cannot use the git ref {ref!r}: {shown(self._url)} has no such branch or tag", hint=hint)

    def _git(self, *arguments: str, to: str) -> str:
        return run([*self._program, *arguments], to=to, env=_ENV)
