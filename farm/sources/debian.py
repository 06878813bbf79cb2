"""A Debian source package as a source, through the machine's own apt configuration, without being root.

apt runs with the machine's settings, mirrors and keyrings, but with source entries only, and with lists and
downloads of its own in the cache: nothing of the machine changes. The chain of trust is apt's: the archive
key signs Release, which names the hash of Sources, which names the hashes of the .dsc and of its files. So
the developer's signature in the .dsc, whose key seldom is on a machine, adds nothing. `dpkg-source` unpacks
and applies Debian's patches, which are part of the package; it runs none of its code.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from farm.errors import SourceError
from farm.model import DebianSource
from farm.sources.cached import locked, scratch
from farm.sources.files import folder_entries
from farm.sources.programs import run
from farm.sources.tree import Entry, Limits, Tree

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+:~-]*")
_HOOK = re.compile(
    r"\b(Pre|Post)-Invoke|^(Dir::(State|Cache|Etc::(parts|main|source))|APT::(Sandbox|Update)|DPkg)\b", re.IGNORECASE
)
"""Settings of the machine that are left out: programs that apt would run for it, and what is replaced below."""
_NEAREST = 8


@contextmanager
def open_debian(source: DebianSource, *, base: Path, cache: Path, limits: Limits) -> Iterator[Tree]:
    """The unpacked source package, Debian's patches applied. Raises SourceError."""
    del base, limits
    what = f"{source.debian} {source.version}"
    if not _NAME.fullmatch(source.debian) or not _VERSION.fullmatch(source.version):
        raise SourceError(f"cannot use the Debian source package {what!r}: this is not a name and a version")
    with scratch(cache) as folder:
        with locked(cache / "debian") as own:
            files = own / "files" / f"{source.debian}_{source.version}"
            if not files.exists():
                _Apt(own).download(source, files, folder)
            description = next(files.glob("*.dsc"))
        tree = folder / "tree"
        run(["dpkg-source", "--extract", str(description), str(tree)], to=f"unpack the Debian source package {what}")
        yield Tree(f"debian {what}", _as_dated(tree, what))


def _as_dated(tree: Path, what: str) -> Iterator[Entry]:
    """The entries, none younger than the release: `dpkg-source` gives patched files the time of unpacking."""
    changelog = str(tree / "debian" / "changelog")
    argv = ["dpkg-parsechangelog", "--file", changelog, "--show-field", "Timestamp"]
    released_s = int(run(argv, to=f"read the changelog of {what}"))
    for entry in folder_entries(tree):
        yield replace(entry, mtime_s=min(entry.mtime_s, released_s))


class _Apt:
    """apt with lists and downloads of its own in a folder. The caller has the lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._env = {"APT_CONFIG": str(folder / "apt.conf")}
        self._configure()

    def download(self, source: DebianSource, files: Path, scratch_folder: Path) -> None:
        """Put the .dsc and its files into the folder `files`, which appears complete or not at all."""
        trouble = "" if source.version in self._versions(source.debian) else self._update()
        versions = self._versions(source.debian)
        if source.version not in versions:
            raise self._not_there(source, versions, trouble)
        try:
            self._fetch(source, files, scratch_folder / "first")
        except SourceError:
            # The lists may be older than the mirror, which keeps no release that it has replaced.
            self._update()
            self._fetch(source, files, scratch_folder / "second")

    def _fetch(self, source: DebianSource, files: Path, new: Path) -> None:
        new.mkdir()
        package = f"{source.debian}={source.version}"
        argv = ["apt-get", "source", "--quiet", "--download-only", "--only-source", package]
        run(argv, cwd=new, env=self._env, to=f"fetch the Debian source package {package}")
        files.parent.mkdir(exist_ok=True)
        new.rename(files)

    def _update(self) -> str:
        """Fetch the lists; what went wrong, which matters only if the package is not in those that came."""
        try:
            run(["apt-get", "update", "--quiet"], env=self._env, to="fetch the lists of Debian sources")
        except SourceError as error:
            return error.message
        return ""

    def _versions(self, name: str) -> list[str]:
        try:
            output = run(["apt-cache", "showsrc", name], env=self._env, to=f"look up {name}")
        except SourceError:
            return []  # apt knows no package of this name
        records = (
            dict(re.findall(r"^(Package|Version): (.+)$", record, re.MULTILINE)) for record in output.split("\n\n")
        )
        # A binary package of this name in another source package is not what was asked for.
        return list(dict.fromkeys(record["Version"] for record in records if record.get("Package") == name))

    def _not_there(self, source: DebianSource, versions: list[str], trouble: str) -> SourceError:
        if not versions:
            cause = "the machine's apt sources have no source package of this name"
            hint = "name the source package, not one of its binary packages (apt-cache showsrc tells)"
        else:
            cause = f"the machine's apt sources have no version {source.version}"
            near = difflib.get_close_matches(source.version, versions, n=_NEAREST, cutoff=0) or versions
            hint = f"they have {', '.join(near)}; add an entry for the release that has it to /etc/apt/sources.list.d"
        also = f" ({trouble})" if trouble else ""
        return SourceError(f"cannot fetch the Debian source package {source.debian}: {cause}{also}", hint=hint)

    def _configure(self) -> None:
        """Write the private configuration: the machine's own, less what would touch the machine."""
        lists, archives, parts = (self._folder / name for name in ("lists", "archives", "sources"))
        for folder in (lists / "partial", archives / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        _copy_sources(self._setting("Dir::Etc::sourcelist/f"), self._setting("Dir::Etc::sourceparts/d"), parts)
        own = {
            "Dir::State": self._folder,
            "Dir::State::lists": lists,
            "Dir::State::status": self._setting("Dir::State::status/f"),
            "Dir::Cache": self._folder,
            "Dir::Cache::archives": archives,
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": parts,
            # The file that APT_CONFIG names is read first; these two keep the machine's own from being read after it.
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            # Only root could become _apt, who could not write here.
            "APT::Sandbox::User": "root",
        }
        machine = run(["apt-config", "dump"], to="read the machine's apt configuration").splitlines()
        lines = [line for line in machine if not _HOOK.search(line.partition(" ")[0])]
        lines += [f'{name} "{value}";' for name, value in own.items()]
        (self._folder / "apt.conf").write_text("\n".join(lines) + "\n")

    def _setting(self, name: str) -> Path:
        out = run(["apt-config", "shell", "VALUE", name], to="read the machine's apt configuration")
        return Path(out.strip().removeprefix("VALUE=").strip("'"))


def _copy_sources(single: Path, folder: Path, parts: Path) -> None:
    """Copy the machine's lists of sources, in each of apt's two formats, with the source entries switched on."""
    shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir()
    for file in [single, *sorted(folder.glob("*"))]:
        rewrite = {".list": source_lines, ".sources": source_stanzas}.get(file.suffix)
        if rewrite and file.is_file():
            try:
                (parts / file.name).write_text(rewrite(file.read_text("utf-8", "replace")))
            except OSError as error:
                raise SourceError(f"cannot read the machine's apt sources {file}: {error.strerror}") from error


def source_lines(text: str) -> str:
    """A one-line-style file of sources.list(5) in which every entry is one for sources."""
    lines = dict.fromkeys(re.sub(r"^\s*deb\s", "deb-src ", line) for line in text.splitlines())
    return "".join(f"{line}\n" for line in lines)


def source_stanzas(text: str) -> str:
    """A deb822-style file of sources.list(5) in which every entry is one for sources."""
    return re.sub(r"^Types:.*(\n[ \t].*)*", "Types: deb-src", text, flags=re.MULTILINE | re.IGNORECASE)
