from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.errors import NotFoundError, UntrustedError
from farm.model import ArtifactFound, ArtifactRecord, AttemptKey, LogChunk, Phase, Stream
from farm.store import Store
from farm.store.files import slug
from tests.unit.test_store import CELLS, NOW, PASSED, submission


@pytest.fixture
def store(database_url: str, tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(database_url, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def key(store: Store) -> AttemptKey:
    run = store.create_run(submission(), now=NOW)
    key = AttemptKey(run=run.id, cell=CELLS[1], number=1)
    store.start_attempt(key, now=NOW)
    return key


def said(phase: Phase, stream: Stream, data: bytes) -> LogChunk:
    return LogChunk(at=NOW, phase=phase, stream=stream, data=data)


def found(path: str, data: bytes = b"x") -> ArtifactFound:
    return ArtifactFound(at=NOW, path=path, data=data)


def artifacts(store: Store, key: AttemptKey) -> tuple[ArtifactRecord, ...]:
    return store.run(key.run).cells[1].attempts[0].artifacts


def test_logs_hold_the_bytes_as_they_came_whatever_they_are(store: Store, key: AttemptKey) -> None:
    store.record(key, [said(Phase.TEST, Stream.STDOUT, b"\xff\x00\x1b[31m"), said(Phase.BOOT, Stream.CONSOLE, b"c1 ")])
    store.record(key, [said(Phase.TEST, Stream.STDERR, b"\r\n"), said(Phase.TEST, Stream.CONSOLE, b"c2")])
    store.record(key, [said(Phase.BUILD, Stream.FARM, b"cc")])
    assert store.files.logs(key) == ("build", "test", "console")
    assert store.files.log(key, "test") == b"\xff\x00\x1b[31m\r\n"
    assert store.files.log(key, "console") == b"c1 c2"


@pytest.mark.parametrize("name", ["boot", "nonsense", "../../../../farm.db", "", "test.log"])
def test_a_log_that_is_not_there_names_those_that_are(store: Store, key: AttemptKey, name: str) -> None:
    store.record(key, [said(Phase.TEST, Stream.STDOUT, b"x")])
    with pytest.raises(NotFoundError) as caught:
        store.files.log(key, name)
    assert caught.value.hint == "there are: test"


def test_a_run_that_is_not_there_has_no_logs(store: Store, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "test.log").write_text("not for you")
    assert store.files.logs(AttemptKey(run="..", cell=".", number=0)) == ()


@pytest.mark.parametrize("name", ["..", "../..", "/etc", "a/../../b", ".", "", "~", "a\x00b"])
def test_the_folder_of_an_attempt_is_below_the_stores_whatever_its_names(
    store: Store, tmp_path: Path, name: str
) -> None:
    folder = store.files.of(AttemptKey(run=name, cell=name, number=1)).resolve()
    assert len(folder.relative_to((tmp_path / "runs").resolve()).parts) == 3


def test_an_artifact_is_a_file_and_a_row(store: Store, key: AttemptKey) -> None:
    store.record(key, [found("build/out put.bin", b"\x00data")])
    path = store.files.of(key) / "artifacts" / "build" / "out put.bin"
    assert path.read_bytes() == b"\x00data"
    assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    digest = hashlib.sha256(b"\x00data").hexdigest()
    assert artifacts(store, key) == (ArtifactRecord(path="build/out put.bin", bytes=5, sha256=digest),)


def test_a_large_artifact_comes_in_pieces_even_across_a_restart(
    store: Store, key: AttemptKey, database_url: str, tmp_path: Path
) -> None:
    store.record(key, [found("big", b"one "), found("other", b"!"), found("big", b"two ")])
    restarted = Store.open(database_url, tmp_path)
    restarted.record(key, [found("big", b"three")])
    digest = hashlib.sha256(b"one two three").hexdigest()
    assert artifacts(restarted, key)[0] == ArtifactRecord(path="big", bytes=13, sha256=digest)
    assert len(artifacts(restarted, key)) == 2
    restarted.close()


def test_an_empty_artifact_is_kept(store: Store, key: AttemptKey) -> None:
    store.record(key, [found("empty", b"")])
    assert artifacts(store, key)[0].sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a/\x00", "x" * 300, "a\nb"])
def test_an_artifact_whose_name_leads_away_is_refused(store: Store, key: AttemptKey, tmp_path: Path, path: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UntrustedError):
        store.record(key, [found(path)])
    assert sorted(tmp_path.rglob("*")) == before
    assert artifacts(store, key) == ()


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_an_artifact_cannot_be_a_file_and_a_folder(store: Store, key: AttemptKey, first: str, second: str) -> None:
    store.record(key, [found(first)])
    with pytest.raises(UntrustedError, match="cannot keep the artifact"):
        store.record(key, [found(second)])
    assert [artifact.path for artifact in artifacts(store, key)] == [first]


@pytest.mark.parametrize("name", ["link", "link/passwd"])
def test_an_artifact_is_never_written_through_a_link(store: Store, key: AttemptKey, tmp_path: Path, name: str) -> None:
    target = tmp_path / "precious"
    target.mkdir()
    folder = store.files.of(key) / "artifacts"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(target)
    with pytest.raises(UntrustedError, match="link"):
        store.record(key, [found(name)])
    assert list(target.iterdir()) == []


def test_an_ended_attempt_leaves_no_artifact(store: Store, key: AttemptKey) -> None:
    store.record(key, [found("a")])
    store.finish_attempt(key, PASSED, now=NOW)
    assert not store.record(key, [found("a"), found("b")])
    assert [path.read_bytes() for path in (store.files.of(key) / "artifacts").iterdir()] == [b"x"]


NAMES = [
    "demo-1",
    "a/b",
    "a_b",
    "a b",
    "a=b",
    "A/B",
    "..",
    ".",
    "",
    ".hidden",
    "hidden",
    "-rf",
    "ü",
    "x" * 100,
    "x" * 101,
    "x" * 60,
    slug("a/b"),
]


def test_every_name_has_a_folder_of_its_own() -> None:
    assert len({slug(name) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_folder_is_safe_and_short(name: str) -> None:
    made = slug(name)
    assert made
    assert set(made).isdisjoint("/\\\0 \n")
    assert not made.startswith(".")
    assert len(made) <= 100


def test_the_name_of_a_folder_tells_its_cell() -> None:
    assert slug("debian-13/s390x/qemu/bug=on").startswith("debian-13_s390x_qemu_bug=on~")
