import fcntl
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from farm.errors import ConfigError, DeadlineError, ImageError, NotFoundError
from farm.model import ImageSpec
from runners.deadline import Deadline
from runners.guest import TICK, Chunk
from runners.images import Catalogue, key
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish

SPEC = ImageSpec(name="debian-13", arch="s390x", packages=("gcc",))


def place_of(folder: Path, spec: ImageSpec = SPEC, mirror: str = "") -> Path:
    return folder / f"{spec.name}-{spec.arch}-{key(spec, mirror)[:16]}"


def soon() -> Deadline:
    return Deadline.after(60, "build an image")


def test_an_empty_catalogue_has_nothing(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "none")
    assert catalogue.find(SPEC) is None
    assert catalogue.list() == ()


def test_what_is_there_is_found_and_not_built_again(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path))
    catalogue = Catalogue(tmp_path)
    assert catalogue.find(SPEC) == image
    assert finish(catalogue.ensure(SPEC, deadline=soon())) == (b"", image)
    assert catalogue.list() == (image,)


def test_an_image_from_another_mirror_is_another_image(tmp_path: Path) -> None:
    make_image(place_of(tmp_path))
    assert Catalogue(tmp_path, "http://mirror.example/debian").find(SPEC) is None


def test_a_half_image_is_not_found(tmp_path: Path) -> None:
    make_image(tmp_path / f".{place_of(tmp_path).name}.partial")
    place_of(tmp_path).mkdir()
    catalogue = Catalogue(tmp_path)
    assert catalogue.find(SPEC) is None


def test_a_broken_manifest_is_an_error_that_names_its_folder(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path))
    (image.folder / "manifest.json").write_text('{"name": "debian-13"')
    with pytest.raises(ImageError) as caught:
        Catalogue(tmp_path).find(SPEC)
    assert str(image.folder) in caught.value.hint


def test_removing_an_image_leaves_nothing_of_it(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path))
    other = make_image(tmp_path / "debian-13-amd64-0", arch="amd64")
    catalogue = Catalogue(tmp_path)
    catalogue.remove(image)
    assert catalogue.list() == (other,)
    assert not image.folder.exists()
    assert not list(tmp_path.glob("*.partial"))


def test_an_image_that_is_gone_cannot_be_removed(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path))
    Catalogue(tmp_path).remove(image)
    with pytest.raises(NotFoundError, match="cannot remove debian-13-s390x-"):
        Catalogue(tmp_path).remove(image)


def test_who_asks_while_another_builds_is_told_and_gets_the_same_image(tmp_path: Path) -> None:
    place = place_of(tmp_path)
    with (tmp_path / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        work = Catalogue(tmp_path).ensure(SPEC, deadline=soon())
        assert next(work).data == f"waiting for another process that makes {place.name}\n".encode()
        assert next(work).data == b""
        image = make_image(place)
    assert finish(work) == (b"", image)


def test_waiting_for_another_build_ends_at_the_deadline(tmp_path: Path) -> None:
    with (tmp_path / f".{place_of(tmp_path).name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeadlineError):
            finish(Catalogue(tmp_path).ensure(SPEC, deadline=Deadline.after(0, "build an image")))


def test_an_unknown_image_is_an_error_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="debian-99"):
        finish(Catalogue(tmp_path).ensure(ImageSpec(name="debian-99", arch="s390x"), deadline=soon()))
    assert not list(tmp_path.iterdir())


# --- content ----------------------------------------------------------------------------------------


def test_an_image_of_another_content_than_was_asked_for_is_refused(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path), digest="a" * 64)
    ensure = Catalogue(tmp_path).ensure
    assert finish(ensure(SPEC.model_copy(update={"digest": "a" * 64}), deadline=soon()))[1] == image
    with pytest.raises(
        ImageError, match=r"on this host it is aaaaaaaaaaaa, .* was submitted with bbbbbbbbbbbb"
    ) as caught:
        finish(ensure(SPEC.model_copy(update={"digest": "b" * 64}), deadline=soon()))
    assert image.folder.name in caught.value.hint


def test_an_image_that_cannot_be_read_is_not_listed_among_those_that_can(tmp_path: Path) -> None:
    image = make_image(place_of(tmp_path))
    broken = make_image(tmp_path / "debian-13-amd64-0", arch="amd64")
    (broken.folder / "manifest.json").write_text("{}")
    catalogue = Catalogue(tmp_path)
    assert catalogue.list() == (image,)
    ((name, why),) = catalogue.unreadable().items()
    assert name == broken.folder.name
    assert f"cannot read the image {name}" in why


class Builder:
    """Builds images of which only the manifest is true; the content is what `digest` says."""

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.count = 0

    def __call__(self, spec: ImageSpec, folder: Path, **_: object) -> Generator[Chunk, None, None]:
        self.count += 1
        image = make_image(folder / "made", digest=self.digest * 64, name=spec.name, arch=spec.arch)
        for path in image.folder.iterdir():
            path.rename(folder / path.name)
        image.folder.rmdir()
        yield TICK


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder("a")
    monkeypatch.setattr("runners.images.catalogue.build", builder)
    return builder


def test_to_renew_what_is_not_there_is_to_build_it(tmp_path: Path, builder: Builder) -> None:
    catalogue = Catalogue(tmp_path)
    _, (image, old) = finish(catalogue.renew(SPEC, deadline=soon()))
    assert old is None
    assert catalogue.list() == (image,)
    assert builder.count == 1


def test_what_is_the_same_when_it_is_renewed_stays_as_it_is(tmp_path: Path, builder: Builder) -> None:
    catalogue = Catalogue(tmp_path)
    _, before = finish(catalogue.ensure(SPEC, deadline=soon()))
    _, (image, old) = finish(catalogue.renew(SPEC, deadline=soon()))
    assert (image, old) == (before, None)
    assert builder.count == 2
    assert catalogue.list() == (before,)


def test_what_has_changed_takes_the_place_of_the_old_which_is_kept(tmp_path: Path, builder: Builder) -> None:
    catalogue = Catalogue(tmp_path)
    finish(catalogue.ensure(SPEC, deadline=soon()))
    builder.digest = "b"
    _, (image, old) = finish(catalogue.renew(SPEC, deadline=soon()))
    assert old
    assert (image.digest, old.digest) == ("b" * 64, "a" * 64)
    assert catalogue.find(SPEC) == image
    assert catalogue.list() == (image, old)
    assert image.folder == place_of(tmp_path)


def test_what_is_in_use_is_not_replaced(tmp_path: Path, builder: Builder) -> None:
    catalogue = Catalogue(tmp_path)
    _, before = finish(catalogue.ensure(SPEC, deadline=soon()))
    fd = catalogue.shelf.hold(before.folder.name)
    builder.digest = "b"
    with pytest.raises(ImageError, match="it is in use"):
        finish(catalogue.renew(SPEC, deadline=soon()))
    os.close(fd)
    assert catalogue.list() == (before,)
