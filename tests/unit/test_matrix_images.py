"""Cloud images in the matrix file: what they have to be, where a path begins, what a worker is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.errors import MatrixError
from farm.matrix import expansion, load, loads
from farm.model import CloudSpec, Placement
from farm.orders import image_for

SHA256 = "ab" * 32
TEXT = """\
name: own
images:
  mine: {{cloud: "{location}", sha256: {sha256}}}
axes:
  image: [mine, debian-13]
  arch: [amd64]
test: make check
"""


def text(location: str = "disk.qcow2", sha256: str = SHA256) -> str:
    return TEXT.format(location=location, sha256=sha256)


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("disks/disk.qcow2", "{folder}/disks/disk.qcow2"),
        ("/disks/disk.qcow2", "/disks/disk.qcow2"),
        ("https://example.org/disk.qcow2", "https://example.org/disk.qcow2"),
        ("file:///disks/disk.qcow2", "file:///disks/disk.qcow2"),
    ],
)
def test_a_path_is_relative_to_the_matrix_file(tmp_path: Path, location: str, found: str) -> None:
    (tmp_path / "matrix.yaml").write_text(text(location))
    matrix = load(tmp_path / "matrix.yaml").matrix
    images = [image_for(matrix, Placement(cell=cell)) for cell in expansion(matrix).cells]
    assert [image.cloud for image in images] == [
        CloudSpec(location=found.format(folder=tmp_path), sha256=SHA256),
        None,
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (text(sha256="AB" * 32), "m.yaml:3:39: images.mine.sha256: "),
        (text(location=" "), "m.yaml:3:17: images.mine.cloud: ' ' is not a path or a URL"),
        (text().replace("sha256:", "sha265:"), "m.yaml:3:31: unknown key 'sha265'; did you mean 'sha256'?"),
        (text().replace("mine:", "my disk:"), "m.yaml:3:3: "),
    ],
    ids=["sha256", "location", "key", "name"],
)
def test_every_mistake_has_its_position(wrong: str, message: str) -> None:
    with pytest.raises(MatrixError) as caught:
        loads(wrong, file="m.yaml")
    assert any(str(problem).startswith(message) for problem in caught.value.problems), caught.value.problems
