"""What a mirror can do to an image: nothing. It is what it should be, or it is not there and one is told why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from farm.errors import DeadlineError, FarmError, ImageError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.images import Catalogue, Image, aliases, bootstrap
from runners.images.verify import verify
from tests.guests.mirror import Fault, Mirror, corrupt, cut, serving, stall
from tests.unit.test_images_process import finish

pytestmark = pytest.mark.timeout(900)

TINY = ImageSpec(name="debian-13", arch="riscv64")


def build(folder: Path, mirror: str = "", *, within_s: float = 250) -> Image:
    return finish(Catalogue(folder, mirror).ensure(TINY, deadline=Deadline.after(within_s, "build an image")))[1]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The same image from the machine's own mirror."""
    return build(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def one_mirror() -> Iterator[Mirror]:
    with serving() as mirror:
        yield mirror


@pytest.fixture
def mirror(one_mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror with which all is well again afterwards; nobody waits before trying it again."""
    monkeypatch.setattr(bootstrap, "_PAUSES_S", (0.0,))
    one_mirror.fault, one_mirror.times, one_mirror.struck = None, 10**6, 0
    one_mirror.release.clear()
    yield one_mirror
    one_mirror.release.set()


def test_two_builds_of_the_same_have_the_same_digest_and_not_the_same_bytes(
    tmp_path: Path, mirror: Mirror, plain: Image
) -> None:
    again = build(tmp_path, mirror.address)
    assert again.digest == plain.digest
    assert again.manifest.packages == plain.manifest.packages
    assert again.manifest.files["disk"] != plain.manifest.files["disk"]
    for image in (plain, again):
        assert finish(verify(image))[1] == ()


class Trouble(NamedTuple):
    """What the mirror does, and what becomes of a build."""

    fault: Fault
    error: type[FarmError]
    message: str
    within_s: float = 250


TROUBLES = {
    "cut off": Trouble(cut, ImageError, "busybox-static"),
    "corrupted": Trouble(corrupt, ImageError, "Hash Sum mismatch"),
    "stalled": Trouble(stall, DeadlineError, "cannot build an image: not done within 25 s", within_s=25),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_package_that_did_not_come_whole_is_not_used_and_the_next_try_works(
    tmp_path: Path, mirror: Mirror, plain: Image, trouble: Trouble
) -> None:
    mirror.fault = trouble.fault
    with pytest.raises(trouble.error, match=trouble.message):
        build(tmp_path, mirror.address, within_s=trouble.within_s)
    assert mirror.struck
    assert names(tmp_path) == set()
    mirror.fault = None
    assert build(tmp_path, mirror.address).digest == plain.digest


@pytest.mark.parametrize("fault", [cut, corrupt], ids=["cut off", "corrupted"])
def test_a_package_that_did_not_come_whole_once_is_fetched_again(
    tmp_path: Path, mirror: Mirror, plain: Image, fault: Fault
) -> None:
    mirror.fault, mirror.times = fault, 1
    assert build(tmp_path, mirror.address).digest == plain.digest
    assert mirror.struck == 1


@pytest.fixture
def runtime() -> Iterator[Path]:
    with TemporaryDirectory(prefix="fr") as folder:
        yield Path(folder)


def test_the_archive_says_what_stable_is(tmp_path: Path, mirror: Mirror, runtime: Path) -> None:
    said, found = finish(aliases.meaning("debian/unstable", mirror=mirror.address, cache=tmp_path, runtime=runtime))
    assert found == ("debian-sid", "")
    assert b"InRelease" in said
    assert b"Packages" not in said
    silent, again = finish(aliases.meaning("debian/unstable", mirror=mirror.address, cache=tmp_path, runtime=runtime))
    assert (silent, again) == (b"", found)


def test_an_archive_whose_signature_is_wrong_is_not_believed(
    tmp_path: Path, mirror: Mirror, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, signed = mirror.fetch("/dists/stable/InRelease")
    assert b"\nCodename: trixie\n" in signed
    forged = signed.replace(b"\nCodename: trixie\n", b"\nCodename: bookworm\n")
    monkeypatch.setattr(mirror, "fetch", lambda path: (status, forged) if path.endswith("/InRelease") else (404, b""))
    _, found = finish(aliases.meaning("debian/stable", mirror=mirror.address, cache=tmp_path, runtime=runtime))
    assert found.name == "debian-13"
    assert found.doubt.startswith(f"cannot ask {mirror.address} what stable is: ")
    assert list(tmp_path.iterdir()) == []
