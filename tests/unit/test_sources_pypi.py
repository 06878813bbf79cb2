"""Python sdists through pip: from a package index of files made here, and one small package from the real one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from farm.errors import SourceError
from farm.model import PypiSource, ResolvedSource
from farm.sources import Limits, resolve


def _resolve(base: Path, name: str, version: str, limits: Limits | None = None) -> ResolvedSource:
    return resolve(PypiSource(pypi=name, version=version), base=base, cache=base / "cache", limits=limits or Limits())


def _names(resolved: ResolvedSource) -> set[str]:
    with tarfile.open(resolved.archive) as tar:
        return set(tar.getnames())


def _sdist(stem: str, script: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"setup.py": script, "PKG-INFO": b"Metadata-Version: 1.0\n"}.items():
            info = tarfile.TarInfo(f"{stem}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder, the only one that pip is configured for: `ours` 1.0 and 1.2, and wheels."""
    folder = tmp_path / "index" / "ours"
    folder.mkdir(parents=True)
    script = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    lines = []
    for version in ("1.0", "1.2"):
        data = _sdist(f"ours-{version}", script)
        (folder / f"ours-{version}.tar.gz").write_bytes(data)
        lines.append(f"ours-{version}.tar.gz#sha256={hashlib.sha256(data).hexdigest()}")
    lines += ["ours-1.3-py3-none-any.whl", "ours-1.4.zip"]
    (folder / "index.html").write_text(
        "<!DOCTYPE html>" + "".join(f'<a href="{x}">{x.split("#")[0]}</a>' for x in lines)
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", folder.parent.as_uri())
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return folder


def test_an_sdist_comes_from_the_index_that_pip_is_configured_for(tmp_path: Path, index: Path) -> None:
    resolved = _resolve(tmp_path, "ours", "1.2")
    assert resolved.description == "pypi ours 1.2"
    assert _names(resolved) == {"setup.py", "PKG-INFO"}


def test_none_of_the_packages_code_runs(tmp_path: Path, index: Path) -> None:
    _resolve(tmp_path, "ours", "1.0")
    assert not (tmp_path / "ran").exists()


def test_a_version_is_the_same_however_it_is_spelled(tmp_path: Path, index: Path) -> None:
    assert _resolve(tmp_path, "Ours", "1.2.0").digest == _resolve(tmp_path, "ours", "1.2").digest


@pytest.mark.parametrize("version", ["1.3", "1.4", "7", "not.a.version"])
def test_a_version_without_an_sdist_comes_with_those_that_have_one(tmp_path: Path, index: Path, version: str) -> None:
    with pytest.raises(SourceError, match="there is no sdist") as caught:
        _resolve(tmp_path, "ours", version)
    assert "1.0" in caught.value.hint
    assert "the newest is 1.2" in caught.value.hint


def test_a_package_that_no_index_has_is_an_error_with_pips_own_words(tmp_path: Path, index: Path) -> None:
    with pytest.raises(SourceError, match="pip finds no sdist"):
        _resolve(tmp_path, "theirs", "1.0")


def test_a_file_that_is_not_the_one_the_index_speaks_of_is_refused(tmp_path: Path, index: Path) -> None:
    (index / "ours-1.2.tar.gz").write_bytes(_sdist("ours-1.2", b"evil"))
    with pytest.raises(SourceError, match=r"the sha256 of its sdist is [0-9a-f]{64}, and the index says"):
        _resolve(tmp_path, "ours", "1.2")


def test_an_sdist_over_the_limit_is_refused(tmp_path: Path, index: Path) -> None:
    with pytest.raises(SourceError, match="larger than 10 bytes"):
        _resolve(tmp_path, "ours", "1.2", Limits(bytes=10))


@pytest.mark.parametrize(("name", "version"), [("--index-url=x", "1"), ("six", "--pre"), ("a b", "1"), ("six", "")])
def test_what_is_no_name_or_version_never_reaches_pip(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(SourceError, match="this is not a name and a version"):
        _resolve(tmp_path, name, version)


def test_a_package_comes_from_the_real_index(tmp_path: Path) -> None:
    resolved = _resolve(tmp_path, "six", "1.16.0")
    assert {"six.py", "test_six.py", "setup.py"} <= _names(resolved)
    assert resolved.digest == "9620cdaff94d9fdfd21065577f852ed03d2511b7e5f51ab31fc0801ed72df263"
