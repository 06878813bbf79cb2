"""Images on a host: whole or not there, copied once, found when they are harmed, removed when nobody needs them."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.errors import DeadlineError, FullError, HostError
from runners.deadline import Deadline
from runners.guest import Work, wait_for
from runners.hosts import pool as pools
from runners.hosts.folders import Folders
from runners.hosts.link import Link, LocalLink
from runners.hosts.packing import Packed
from runners.hosts.pool import Pool
from runners.hosts.ssh import SshLink
from runners.images import Image
from runners.images.spec import Manifest
from tests.sshd import Sshd, sshd
from tests.waiting import eventually

MIB = 1024 * 1024
HOSTILE = ("hostname", "a'; touch evil; '", "$(touch evil)", "two\nlines", " -rf")
"""Names that a file in a guest's disk may have."""
LEDGER = Path("/run/farm/ledger/alone-1-0.jsonl")
OLD = time.time() - 10 * 24 * 3600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(params=["local", "ssh"])
def link(request: pytest.FixtureRequest) -> Iterator[Link]:
    if request.param == "local":
        yield LocalLink()
        return
    opened = SshLink(request.getfixturevalue("server").uri())
    yield opened
    opened.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var lib" / "farm"  # a path that has to be quoted


@pytest.fixture
def pool(link: Link, root: Path) -> Pool:
    return Pool(link, str(root))


def soon(seconds: float = 200.0) -> Deadline:
    return Deadline.after(seconds, "do it")


def make_image(folder: Path, *, seed: str = "one", disk: bytes | None = None) -> Image:
    """An image whose disk has a hole of 64 MiB in it."""
    folder.mkdir()
    contents = {"kernel": b"kernel " * 1000, "initrd": os.urandom(100_000)}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    with (folder / "disk").open("wb") as file:
        file.write(disk or os.urandom(MIB))
        file.truncate(64 * MIB)
    names = ("disk", "initrd", "kernel")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = Manifest(
        name="debian-13",
        arch="amd64",
        release="trixie",
        digest=hashlib.sha256(seed.encode()).hexdigest(),
        files=files,
        disk_mib=64,
        requested=(),
        packages={},
        mirror="",
        tools={},
        builder_version=1,
        built_at=datetime.now(UTC),
        cmdline="quiet",
    )
    return Image(folder=folder, manifest=manifest)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return make_image(tmp_path / "image")


def texts(work: Work[object]) -> str:
    return b"".join(chunk.data for chunk in work).decode()


def left(root: Path) -> list[str]:
    """What is in the pool, but for locks."""
    return sorted(path.name for path in (root / "pool").iterdir() if not path.name.endswith(".lock"))


def test_an_image_is_copied_with_its_holes(pool: Pool, image: Image, root: Path) -> None:
    work = pool.ensure(image, soon())
    said = [next(work).data.decode()]
    stored = wait_for(work)
    for name in ("disk", "kernel", "initrd"):
        assert (root / "pool" / image.digest / name).read_bytes() == (image.folder / name).read_bytes()
    assert Path(stored.disk).stat().st_blocks * 512 < 4 * MIB
    assert Path(stored.disk).stat().st_mode & 0o777 == 0o644
    assert (stored.kernel, stored.firmware) == (f"{stored.folder}/kernel", None)
    assert (stored.disk_mib, stored.disk_format, stored.cmdline) == (64, "raw", "quiet")
    assert left(root) == [image.digest]
    assert said is not None


def test_it_is_said_once_what_is_copied_where(pool: Pool, link: Link, image: Image) -> None:
    first, second = texts(pool.ensure(image, soon())), texts(pool.ensure(image, soon()))
    assert f"[farm: copy the image debian-13/amd64 (1 MiB) to {link.place}]" in first
    assert second == ""


def test_an_image_that_is_there_is_used_and_not_copied(pool: Pool, image: Image, root: Path) -> None:
    wait_for(pool.ensure(image, soon()))
    stamp = root / "pool" / image.digest / "files"
    os.utime(stamp, (OLD, OLD))
    shutil.rmtree(image.folder)
    wait_for(pool.ensure(image, soon()))
    assert stamp.stat().st_mtime > OLD + 1000


def test_a_host_without_zstd_gets_it_too(pool: Pool, image: Image, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pool, "_run", without_zstd(Pool._run))
    stored = wait_for(pool.ensure(image, soon()))
    assert Path(stored.disk).read_bytes() == image.disk.read_bytes()


def without_zstd(run: object) -> object:
    def changed(self: Pool, name: str, *args: object, **values: object) -> Work[bytes]:
        said: bytes = yield from run(self, name, *args, **values)  # type: ignore[operator]
        return said.replace(b"zstd", b"") if name == "look" else said

    return changed


@pytest.fixture
def going_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until this is set, nothing of an image is sent after its first MiB: what breaks then breaks in the middle."""
    goes_on, read = threading.Event(), Packed.read

    def halting(packed: Packed, count: int = -1) -> bytes:
        if packed.sent >= MIB:
            goes_on.wait(60)
        return read(packed, count)

    monkeypatch.setattr(Packed, "read", halting)
    yield goes_on
    goes_on.set()


def test_a_transfer_that_is_given_up_leaves_nothing(
    pool: Pool, large: Image, root: Path, going_on: threading.Event
) -> None:
    with closing(pool.ensure(large, soon())) as work:
        begin(work, root / "pool" / f".{large.digest}.partial")
    until_nothing_is_left(root)
    going_on.set()
    wait_for(pool.ensure(large, soon()))


@pytest.fixture
def large(tmp_path: Path) -> Image:
    """48 MiB that do not get smaller: long enough under way for two to meet."""
    return make_image(tmp_path / "large", seed="large", disk=os.urandom(48 * MIB))


def begin(work: Work[object], partial: Path) -> None:
    """Do some work until the file is there that says that it is under way."""
    until = soon(60)
    while not partial.exists():
        assert until.remaining, f"{partial.name} is there; there is: {list(partial.parent.glob('*'))}"
        next(work)


def until_nothing_is_left(root: Path) -> None:
    eventually(lambda: left(root) == [], what=lambda: f"nothing is left in the pool; there is: {left(root)}")


@pytest.mark.usefixtures("going_on")
def test_a_connection_that_breaks_leaves_nothing(server: Sshd, large: Image, root: Path) -> None:
    link = SshLink(server.uri())
    work = Pool(link, str(root)).ensure(large, soon())
    begin(work, root / "pool" / f".{large.digest}.partial")
    server.hang_up()
    with pytest.raises(HostError, match=r"cannot finish a command on .*: the connection went away"):
        wait_for(work)
    until_nothing_is_left(root)
    link.close()


def test_a_receiver_that_is_killed_is_tidied_up_after(pool: Pool, image: Image, root: Path) -> None:
    rest = root / "pool" / f".{image.digest}.partial"
    rest.mkdir(parents=True)
    (rest / "disk").write_bytes(b"half")
    other = root / "pool" / f".{'0' * 64}.partial"
    other.mkdir()
    wait_for(pool.ensure(image, soon()))
    assert left(root) == [image.digest]


def test_an_image_that_is_harmed_on_its_way_is_refused(pool: Pool, link: Link, image: Image, root: Path) -> None:
    with image.disk.open("r+b") as file:
        file.write(b"\0")
    with pytest.raises(HostError) as caught:
        wait_for(pool.ensure(image, soon()))
    assert caught.value.message.startswith(
        f"cannot copy the image debian-13/amd64 (1 MiB) to {link.place}: what arrived is not what was sent: "
    )
    assert "farm images verify" in caught.value.hint
    assert left(root) == []


def test_a_truncated_image_is_copied_anew(pool: Pool, image: Image, root: Path) -> None:
    stored = wait_for(pool.ensure(image, soon()))
    os.truncate(stored.disk, 5)
    wait_for(pool.ensure(image, soon()))
    assert Path(stored.disk).read_bytes() == image.disk.read_bytes()


def test_a_single_bit_is_found_by_verifying(pool: Pool, image: Image, tmp_path: Path) -> None:
    stored = wait_for(pool.ensure(image, soon()))
    wait_for(pool.ensure(make_image(tmp_path / "other", seed="two"), soon()))
    assert wait_for(pool.verify(soon())) == ()
    with Path(stored.disk).open("r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(bytes([byte[0] ^ 1]))
    assert wait_for(pool.verify(soon())) == (image.digest,)


def test_two_who_ask_at_once_copy_once(link: Link, large: Image, root: Path) -> None:
    said: list[str] = []

    def ask() -> None:
        said.append(texts(Pool(link, str(root)).ensure(large, soon(120))))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk = root / "pool" / large.digest / "disk"
    assert disk.read_bytes() == large.disk.read_bytes()
    assert sum("waiting for another that is at work on it" in text for text in said) == 2
    assert len(list((root / "pool").glob(".*.partial"))) == 0


def test_who_waits_in_vain_is_told(pool: Pool, image: Image, root: Path) -> None:
    (root / "pool").mkdir(parents=True)
    with subprocess.Popen(["flock", str(root / "pool" / f".{image.digest}.lock"), "sleep", "100"]) as holder:
        try:
            eventually(
                lambda: locked(root / "pool" / f".{image.digest}.lock"),
                as_long_as=lambda: holder.poll() is None,
                what="the image is locked",
            )
            with pytest.raises(DeadlineError, match="cannot"):
                wait_for(pool.ensure(image, soon(2)))
        finally:
            subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
            holder.kill()


def locked(file: Path) -> bool:
    return file.exists() and subprocess.run(["flock", "-n", str(file), "true"], check=False).returncode == 1


def test_a_pool_without_room_says_how_much_there_is(
    pool: Pool, link: Link, image: Image, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_MARGIN_KIB", 10**12)
    with pytest.raises(FullError) as caught:
        wait_for(pool.ensure(image, soon()))
    assert caught.value.message.startswith(f"cannot copy the image debian-13/amd64 (1 MiB) to {link.place}: ")
    assert caught.value.message.endswith(" MiB are free, and some are to be left")
    assert "FARM_CACHE_LIMIT" in caught.value.hint
    assert left(root) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_disk_that_gets_full_meanwhile_leaves_nothing(
    pool: Pool, image: Image, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_MARGIN_KIB", -(10**9))
    root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(root)], check=True)
    try:
        with pytest.raises(FullError, match="there is no space left"):
            wait_for(pool.ensure(image, soon()))
        assert left(root) == []
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_what_a_guest_rests_on_stays_and_the_rest_goes_by_its_last_use(
    pool: Pool, link: Link, tmp_path: Path, root: Path
) -> None:
    folders = Folders(link, "f" * 16, str(root))
    images = {name: make_image(tmp_path / name, seed=name) for name in ("used", "old", "older", "recent")}
    stored = {name: wait_for(pool.ensure(image, soon())) for name, image in images.items()}
    for name, age in (("used", OLD - 5000), ("old", OLD), ("older", OLD - 1000)):
        os.utime(f"{stored[name].folder}/files", (age, age))
    folder = folders.make("g-1", stored["used"], LEDGER, soon())
    assert (Path(folder) / "image").read_text() == stored["used"].digest + "\n"

    kept = wait_for(pool.kept(soon()))
    assert {one.digest: one.in_use for one in kept} == {one.digest: name == "used" for name, one in stored.items()}
    assert all(MIB <= one.size_bytes < 4 * MIB for one in kept)

    room = sum(one.size_bytes for one in kept) - 1
    would = wait_for(pool.prune(soon(), keep_bytes=room, dry_run=True))
    assert [one.digest for one in would] == [stored["older"].digest]
    assert wait_for(pool.prune(soon(), keep_bytes=room)) == would
    gone = wait_for(pool.prune(soon(), older_than_s=time.time(), keep_bytes=0))
    assert [one.digest for one in gone] == [stored["old"].digest]
    folders.remove("g-1", soon())
    gone = wait_for(pool.prune(soon(), older_than_s=time.time()))
    assert [one.digest for one in gone] == [stored["used"].digest]
    assert left(root) == [stored["recent"].digest]


def test_a_pool_keeps_to_its_limit_when_an_image_comes(link: Link, tmp_path: Path, root: Path) -> None:
    pool = Pool(link, str(root), keep_bytes=3 * MIB)
    first, second, third = (make_image(tmp_path / name, seed=name) for name in ("first", "second", "third"))
    for image, used_at in ((first, OLD - 1000), (second, OLD)):
        stored = wait_for(pool.ensure(image, soon()))
        os.utime(f"{stored.folder}/files", (used_at, used_at))
    said = texts(pool.ensure(third, soon()))
    assert left(root) == sorted([second.digest, third.digest])
    assert f"removed the image {first.digest[:12]} from {link.place}: beyond the limit" in said


def test_a_pool_that_is_not_there_is_empty(pool: Pool) -> None:
    assert wait_for(pool.kept(soon())) == ()
    assert wait_for(pool.prune(soon(), keep_bytes=0)) == ()


def test_a_guest_whose_image_went_is_refused(pool: Pool, link: Link, image: Image, root: Path) -> None:
    stored = wait_for(pool.ensure(image, soon()))
    shutil.rmtree(stored.folder)
    with pytest.raises(HostError, match="its image is not there any more"):
        Folders(link, "f" * 16, str(root)).make("g", stored, LEDGER, soon())


def test_two_farms_on_a_host_know_their_own_guests_only(pool: Pool, link: Link, image: Image, root: Path) -> None:
    stored = wait_for(pool.ensure(image, soon()))
    ours, theirs = Folders(link, "a" * 16, str(root)), Folders(link, "b" * 16, str(root))
    for folders in (ours, theirs):
        folders.make("same-name", stored, LEDGER, soon())
        wait_for(folders.put("same-name", "seed", io.BytesIO(b"seed"), soon()))
    ours.remove("same-name", soon())
    ours.remove("same-name", soon())
    assert (ours.owners(soon()), theirs.owners(soon())) == ({}, {"same-name": LEDGER})
    assert Path(theirs.path("same-name"), "seed").read_bytes() == b"seed"
    with pytest.raises(ValueError, match="/"):
        ours.path("../b")
