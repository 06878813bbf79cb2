"""Debian source packages: how the machine's apt sources are read, and one small package from the real archive."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from farm.errors import SourceError
from farm.model import DebianSource, ResolvedSource
from farm.sources import resolve
from farm.sources.debian import source_lines, source_stanzas


@pytest.mark.parametrize(
    ("machine", "ours"),
    [
        ("deb MIRROR sid main\n", "deb-src MIRROR sid main\n"),
        ("deb\t[signed-by=/k] MIRROR sid main", "deb-src [signed-by=/k] MIRROR sid main\n"),
        ("deb MIRROR sid main\ndeb-src MIRROR sid main\n", "deb-src MIRROR sid main\n"),
        ("# deb MIRROR sid main\n", "# deb MIRROR sid main\n"),
        ("", ""),
    ],
)
def test_one_line_entries_become_entries_for_sources(machine: str, ours: str) -> None:
    assert source_lines(machine) == ours


@pytest.mark.parametrize(
    ("machine", "ours"),
    [
        ("Types: deb\nURIs: M\nSuites: sid\n", "Types: deb-src\nURIs: M\nSuites: sid\n"),
        ("types: deb deb-src\nURIs: M\n", "Types: deb-src\nURIs: M\n"),
        ("Types:\n deb\n deb-src\nURIs: M\n", "Types: deb-src\nURIs: M\n"),
        ("Enabled: no\nTypes: deb\n\nTypes: deb\n", "Enabled: no\nTypes: deb-src\n\nTypes: deb-src\n"),
        ("# Types: deb\nTypes: deb\n", "# Types: deb\nTypes: deb-src\n"),
    ],
)
def test_stanzas_become_stanzas_for_sources(machine: str, ours: str) -> None:
    assert source_stanzas(machine) == ours


@pytest.mark.parametrize(("name", "version"), [("-o", "1"), ("hello", "-1"), ("Hello World", "1"), ("hello", "1 2")])
def test_what_is_no_name_or_version_never_reaches_apt(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(SourceError, match="this is not a name and a version"):
        _resolve(tmp_path, name, version)


def _resolve(base: Path, name: str, version: str) -> ResolvedSource:
    return resolve(DebianSource(debian=name, version=version), base=base, cache=base / "cache")


def _machine_lists() -> dict[str, float]:
    return {str(file): file.stat().st_mtime for file in Path("/var/lib/apt/lists").iterdir() if file.is_file()}


def test_a_package_comes_from_the_archive_and_the_machine_stays_as_it_was(tmp_path: Path) -> None:
    before = _machine_lists()
    with pytest.raises(SourceError, match=r"no version 0\.0-nothing") as caught:
        _resolve(tmp_path, "hello", "0.0-nothing")
    version = caught.value.hint.removeprefix("they have ").split(";")[0].split(",")[0]
    resolved = _resolve(tmp_path, "hello", version)
    assert resolved == _resolve(tmp_path, "hello", version), "also when it is unpacked a second time"
    assert resolved.description == f"debian hello {version}"
    with tarfile.open(resolved.archive) as tar:
        assert {"configure", "src/hello.c", "debian/control"} <= set(tar.getnames())
    with pytest.raises(SourceError, match="no source package of this name"):
        _resolve(tmp_path, "no-such-package-anywhere", "1")
    assert _machine_lists() == before


def test_the_private_configuration_has_none_of_the_machines_hooks(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        _resolve(tmp_path, "no-such-package-anywhere", "1")
    configuration = (tmp_path / "cache" / "debian" / "apt.conf").read_text()
    assert "Invoke" not in configuration
    dump = subprocess.run(
        ["apt-config", "dump", "Dir::State::lists", "--format", "%v"],
        env={"APT_CONFIG": str(tmp_path / "cache" / "debian" / "apt.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert dump.stdout.startswith(str(tmp_path))
