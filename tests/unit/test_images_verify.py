from pathlib import Path

import pytest

from runners.images import Image
from runners.images.digest import file_digests
from runners.images.verify import verify
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """One whose manifest is true."""
    image = make_image(tmp_path / "image", disk_mib=1)
    image.kernel and image.kernel.write_bytes(b"kernel")
    _, files = finish(file_digests(image.folder, ["disk", "kernel"]))
    return image.model_copy(update={"manifest": image.manifest.model_copy(update={"files": files})})


def wrong(image: Image) -> tuple[str, ...]:
    return finish(verify(image))[1]


def test_nothing_is_wrong_with_an_image_as_it_was_built(image: Image) -> None:
    assert wrong(image) == ()


def test_one_bit_is_enough(image: Image) -> None:
    with image.disk.open("r+b") as disk:
        disk.seek(500_000)
        disk.write(b"\x01")
    (sentence,) = wrong(image)
    assert sentence.startswith("its disk has changed: sha256 ")


def test_a_file_that_was_cut_off_has_changed(image: Image) -> None:
    with image.disk.open("r+b") as disk:
        disk.truncate(1000)
    assert "its disk has changed" in wrong(image)[0]


def test_every_damaged_file_is_told(image: Image) -> None:
    image.disk.write_bytes(b"")
    (image.folder / "kernel").unlink()
    assert [sentence.partition(":")[0] for sentence in wrong(image)] == [
        "its disk has changed",
        "its kernel is not there",
    ]


def test_a_file_that_cannot_be_read_is_told_with_the_cause(image: Image) -> None:
    (image.folder / "kernel").unlink()
    (image.folder / "kernel").mkdir()
    assert wrong(image) == ("its kernel cannot be read: Is a directory",)
