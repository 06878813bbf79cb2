from datetime import UTC, datetime
from pathlib import Path

import pytest

from farm.cli.image_tables import difference_sentence
from runners.images import Manifest
from runners.images.diff import compare
from tests.unit.test_images_disk import make_image

PACKAGES = {"gcc": "4:14", "make": "4.4", "sed": "4.9"}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_image(tmp_path / "image", packages=PACKAGES, files={"disk": "1", "kernel": "2", "initrd": "3"}).manifest


def test_an_image_does_not_differ_from_itself_built_again(manifest: Manifest) -> None:
    again = manifest.model_copy(
        update={
            "built_at": datetime(2020, 1, 1, tzinfo=UTC),
            "files": {**manifest.files, "disk": "other bytes"},
            "tools": {"mke2fs": "newer"},
        }
    )
    found = compare(manifest, again)
    assert not found.any
    assert difference_sentence(found.packages) == "packages: the same"


def test_packages_are_added_removed_and_changed(manifest: Manifest) -> None:
    packages = {"gcc": "4:15", "make": "4.4", "tar": "1.35"}
    found = compare(manifest, manifest.model_copy(update={"packages": packages}))
    assert found.packages == {"gcc": ("4:14", "4:15"), "sed": ("4.9", ""), "tar": ("", "1.35")}
    assert found.facts == {}
    assert found.any
    assert difference_sentence(found.packages) == "packages: 1 added, 1 removed, 1 changed"


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({}, PACKAGES), (PACKAGES, {})])
def test_packages_that_are_not_known_are_not_the_same(
    manifest: Manifest, before: dict[str, str], after: dict[str, str]
) -> None:
    one = manifest.model_copy(update={"packages": before})
    other = manifest.model_copy(update={"packages": after, "digest": "f" * 64})
    found = compare(one, other)
    assert found.packages is None
    assert found.any
    assert difference_sentence(found.packages) == "packages: not known"


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"kind": "installed"}, "kind"),
        ({"release": "sid"}, "release"),
        ({"cmdline": "quiet"}, "command line"),
        ({"mirror": "http://mirror.example/debian"}, "mirror"),
        ({"files": {"kernel": "9"}}, "kernel"),
        ({"digest": "f" * 64}, "digest"),
        ({"layers": ("database",)}, "layers"),
        ({"disk_mib": 128}, "disk"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_facts_are_told_as_well(manifest: Manifest, change: dict[str, object], fact: str) -> None:
    found = compare(manifest, manifest.model_copy(update=change))
    assert fact in found.facts
    assert found.any
