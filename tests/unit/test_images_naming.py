from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.errors import ConfigError, NotFoundError
from farm.model import ImageSpec
from runners.images import Image
from runners.images.naming import choose, parse_spec
from tests.unit.test_images_disk import make_image


def image(folder: Path, name: str, digest: str, **changes: object) -> Image:
    return make_image(folder / name, digest=digest.ljust(64, "0"), **changes)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Image, ...]:
    return (
        image(tmp_path, "debian-13-s390x-1", "abcd1", requested=("gcc",)),
        image(tmp_path, "debian-13-s390x-2", "abcd2"),
        image(tmp_path, "debian-13-amd64-1", "ffff", arch="amd64"),
    )


@pytest.mark.parametrize("text", ["debian-13/amd64", "ffff", "sha256:ffff0", "debian-13-amd64-1"])
def test_an_image_is_known_by_title_digest_and_folder(images: tuple[Image, ...], text: str) -> None:
    assert choose(images, text) == images[2]


@pytest.mark.parametrize("text", ["debian-13/s390x", "abcd"])
def test_what_means_two_images_is_an_error_that_tells_them_apart(images: tuple[Image, ...], text: str) -> None:
    with pytest.raises(ConfigError, match="2 images match") as caught:
        choose(images, text)
    for one in images[:2]:
        assert f"{one.folder.name}  {one.digest[:12]}" in caught.value.message
    assert "  gcc" in caught.value.message


def test_the_same_content_twice_is_no_question(tmp_path: Path) -> None:
    old = image(tmp_path, "old", "abcd", built_at=datetime(2025, 1, 1, tzinfo=UTC))
    new = image(tmp_path, "new", "abcd", built_at=datetime(2025, 2, 1, tzinfo=UTC))
    assert choose((new, old), "debian-13/s390x") == new == choose((old, new), "abcd")


def test_many_candidates_are_not_all_listed(tmp_path: Path) -> None:
    many = [image(tmp_path, f"folder-{number}", f"abcd{number}") for number in range(12)]
    with pytest.raises(ConfigError, match="… and 4 more"):
        choose(many, "debian-13/s390x")


@pytest.mark.parametrize(
    ("text", "hint"),
    [("debian-13/amd46", "did you mean debian-13/amd64"), ("abc", "farm images"), ("0000", "farm images")],
)
def test_what_means_none_is_not_found(images: tuple[Image, ...], text: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        choose(images, text)
    assert hint in caught.value.hint


def test_an_image_to_build_is_named_by_name_and_architecture() -> None:
    assert parse_spec("debian-13/s390x", ["gcc"]) == ImageSpec(name="debian-13", arch="s390x", packages=("gcc",))
    assert parse_spec("debian/stable/s390x").name == "debian/stable"


@pytest.mark.parametrize("text", ["debian-13", "", "/amd64", "debian-13/"])
def test_what_lacks_one_of_them_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="IMAGE/ARCH"):
        parse_spec(text)
