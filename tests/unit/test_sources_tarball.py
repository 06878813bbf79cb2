"""Tar archives as sources, by path, by file URL, and from a web server that runs here."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from farm.errors import SourceError
from farm.model import FolderSource, ResolvedSource, TarballSource
from farm.sources import Limits, resolve, urls


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_000_000
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


_FILES = {"pkg-1.0/configure": b"#!/bin/sh\n", "pkg-1.0/src/a.c": b"int a;\n"}
_TAR = _tar(_FILES)


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c", "-q"], input=data, capture_output=True, check=True).stdout


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _resolve(base: Path, place: str, sha256: str, limits: Limits | None = None) -> ResolvedSource:
    source = TarballSource(tarball=place, sha256=sha256)
    return resolve(source, base=base, cache=base / "cache", limits=limits or Limits())


def _given(base: Path, data: bytes, limits: Limits | None = None) -> ResolvedSource:
    (base / "t").write_bytes(data)
    return _resolve(base, "t", _sha256(data), limits)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, _zstd])
def test_every_compression_gives_the_same_tree(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    resolved = _given(tmp_path, compress(_TAR))
    with tarfile.open(resolved.archive) as tar:
        assert [(m.name, m.mtime) for m in tar if m.isfile()] == [("configure", 1_000_000), ("src/a.c", 1_000_000)]
    (tmp_path / "folder" / "src").mkdir(parents=True)
    for name, content in _FILES.items():
        (tmp_path / "folder" / name.partition("/")[2]).write_bytes(content)
    folder = resolve(FolderSource(folder="folder"), base=tmp_path, cache=tmp_path / "cache")
    assert resolved.digest == folder.digest


def test_a_wrong_sha256_shows_both_before_the_file_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"this is no archive")
    with pytest.raises(SourceError) as caught:
        _resolve(tmp_path, "t", "0" * 64)
    assert _sha256(b"this is no archive") in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not list((tmp_path / "cache" / "files").iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "as a tar archive", id="empty"),
        pytest.param(b"no archive at all" * 99, "as a tar archive", id="no tar"),
        pytest.param(_TAR[:700], "cannot read|cannot pack", id="truncated tar"),
        pytest.param(gzip.compress(_TAR)[:60], "cannot decompress", id="truncated gzip"),
        pytest.param(bz2.compress(_TAR)[:60], "cannot decompress", id="truncated bzip2"),
        pytest.param(lzma.compress(_TAR)[:60], "cannot decompress", id="truncated xz"),
        pytest.param(_zstd(_TAR)[:60], "cannot decompress", id="truncated zstd"),
        pytest.param(b"\x1f\x8b" + b"?" * 99, "cannot decompress", id="no gzip after all"),
        pytest.param(gzip.compress(b"text"), "as a tar archive", id="a compressed text"),
        pytest.param(_tar({}), "there is no file in it", id="a tar of nothing"),
    ],
)
def test_broken_archives_are_errors(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _given(tmp_path, data)


@pytest.mark.parametrize("compress", [gzip.compress, _zstd])
def test_a_bomb_stops_at_the_limit(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(_tar({"zeros": bytes(5_000_000)}))
    with pytest.raises(SourceError, match="cannot decompress tarball t: it is larger than"):
        _given(tmp_path, bomb, Limits(bytes=100_000, files=10))


def test_a_file_that_claims_to_be_huge_is_refused_by_its_claim(tmp_path: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 10**12
    with pytest.raises(SourceError, match="holds more than"):
        _given(tmp_path, info.tobuf() + bytes(1024))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        _resolve(tmp_path, "nowhere.tar", "0" * 64)
    (tmp_path / "d").mkdir()
    with pytest.raises(SourceError, match="it is a folder"):
        _resolve(tmp_path, "d", "0" * 64)


@pytest.mark.parametrize("place", ["nowhere/../t", "a@b:x/../t", "a@b:../t", "nowhere://../t"])
def test_a_path_through_a_folder_that_is_not_there_leads_nowhere(tmp_path: Path, place: str) -> None:
    (tmp_path / "t").write_bytes(_TAR)
    with pytest.raises(SourceError, match=r"No such file|cannot fetch"):
        _resolve(tmp_path, place, _sha256(_TAR))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The URL of a web server that serves the folder `site`."""
    (tmp_path / "site").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "site"))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_is_fetched_once_and_then_kept(tmp_path: Path, site: str) -> None:
    data = gzip.compress(_TAR)
    file = tmp_path / "site" / "pkg-1.0.tar.gz"
    file.write_bytes(data)
    first = _resolve(tmp_path, f"{site}/pkg-1.0.tar.gz", _sha256(data))
    file.unlink()
    assert _resolve(tmp_path, f"{site}/pkg-1.0.tar.gz", _sha256(data)) == first
    assert first.files == 2


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"", b""),
    ],
    ids=["body", "chunks", "headers", "until its end", "silence"],
)
def test_a_server_that_is_never_done_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, drop: bytes
) -> None:
    monkeypatch.setattr(urls, "_LONGEST_S", 0.5)
    gone = threading.Event()

    def trickle(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(head)
            while not gone.wait(0.02):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        try:
            with pytest.raises(SourceError, match=r"cannot fetch http.*: it is not done after 0.5 s"):
                _resolve(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}/x.tar", "0" * 64)
        finally:
            gone.set()
            thread.join()
    assert not list((tmp_path / "cache" / "files").glob("*"))


def test_a_file_url_will_do(tmp_path: Path) -> None:
    file = tmp_path / "with space.tar"
    file.write_bytes(_TAR)
    assert _resolve(tmp_path, file.as_uri(), _sha256(_TAR)).files == 2


def test_what_a_server_does_not_have_is_an_error_with_its_answer(tmp_path: Path, site: str) -> None:
    with pytest.raises(SourceError, match="the server answered 404"):
        _resolve(tmp_path, f"{site}/nowhere.tar", "0" * 64)


def test_a_download_stops_at_the_limit(tmp_path: Path, site: str) -> None:
    (tmp_path / "site" / "big").write_bytes(bytes(3_000_000))
    with pytest.raises(SourceError, match=r"cannot fetch .*: it is larger than 1000 bytes"):
        _resolve(tmp_path, f"{site}/big", "0" * 64, Limits(bytes=1000))
    assert not list((tmp_path / "cache" / "files").iterdir())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.tar", "http://[broken/x.tar", "ftp://example.org/x.tar"])
def test_urls_that_cannot_be_fetched_are_errors(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="cannot fetch"):
        _resolve(tmp_path, url, "0" * 64)


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        _resolve(tmp_path, "http://me:secret@127.0.0.1:1/x.tar", "0" * 64)
    assert "secret" not in str(caught.value)
