from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.errors import ConfigError, ImageError
from farm.model import CloudSpec, ImageSpec, LayerSpec
from runners.deadline import Deadline
from runners.guest import TICK, Work
from runners.images import Catalogue, Image, key
from runners.images.made import Made
from runners.images.rootfs import write_files
from runners.images.spec import all_files, all_packages, base, needs_guest
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish

TOOLS = LayerSpec(name="tools", packages=("make", "gcc"), files={"/etc/tool": "1\n"})
SETUP = LayerSpec(name="setup", packages=("tar",), files={"/etc/setup": "1\n"}, script="touch /done")
OTHER = LayerSpec(name="other", script="rm -f /done")
CLOUD = CloudSpec(location="/x.qcow2", sha256="0" * 64)


def spec(*layers: LayerSpec, packages: Sequence[str] = (), cloud: CloudSpec | None = None) -> ImageSpec:
    return ImageSpec(name="debian-13", arch="amd64", packages=tuple(packages), layers=layers, cloud=cloud)


def renamed(layer: LayerSpec) -> LayerSpec:
    return layer.model_copy(update={"name": "renamed"})


def test_the_packages_and_files_of_all_layers_are_the_images() -> None:
    later = LayerSpec(name="later", files={"/etc/tool": "2\n"})
    assert all_packages(spec(TOOLS, SETUP, packages=["make", "awk"])) == ("awk", "gcc", "make", "tar")
    assert all_files(spec(TOOLS, SETUP, later)) == {"/etc/tool": "2\n", "/etc/setup": "1\n"}


SAME: dict[str, tuple[ImageSpec, ImageSpec]] = {
    "two layers with the same content": (spec(SETUP), spec(renamed(SETUP))),
    "packages of the image, of a layer": (spec(packages=["gcc"]), spec(LayerSpec(name="gcc", packages=("gcc",)))),
    "an empty layer": (spec(), spec(LayerSpec(name="nothing"))),
    "files in another order": (
        spec(LayerSpec(name="x", files={"/a": "1", "/b": "2"})),
        spec(LayerSpec(name="x", files={"/b": "2", "/a": "1"})),
    ),
    "where a cloud image is": (
        spec(OTHER, cloud=CLOUD),
        spec(OTHER, cloud=CLOUD.model_copy(update={"location": "https://example.org/x.qcow2"})),
    ),
}
DIFFERENT: dict[str, tuple[ImageSpec, ImageSpec]] = {
    "a script": (spec(SETUP), spec(SETUP.model_copy(update={"script": "touch /undone"}))),
    "the scripts in another order": (spec(SETUP, OTHER), spec(OTHER, SETUP)),
    "a script twice": (spec(OTHER), spec(OTHER, renamed(OTHER))),
    "a file": (spec(SETUP), spec(SETUP.model_copy(update={"files": {"/etc/setup": "2\n"}}))),
    "a file's path": (spec(SETUP), spec(SETUP.model_copy(update={"files": {"/etc/set-up": "1\n"}}))),
    "of two files the later": (
        spec(TOOLS, LayerSpec(name="x", files={"/etc/tool": "2\n"})),
        spec(LayerSpec(name="x", files={"/etc/tool": "2\n"}), TOOLS),
    ),
    "a layer's package": (spec(SETUP), spec(SETUP.model_copy(update={"packages": ("tar", "xz-utils")}))),
    "the architecture": (spec(SETUP), spec(SETUP).model_copy(update={"arch": "s390x"})),
}


@pytest.mark.parametrize("case", SAME)
def test_what_comes_to_the_same_has_one_key(case: str) -> None:
    one, two = SAME[case]
    assert key(one, "") == key(two, "")


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_comes_to_something_else_has_another_key(case: str) -> None:
    one, two = DIFFERENT[case]
    assert key(one, "") != key(two, "")


def test_only_a_script_needs_a_guest_and_in_a_cloud_image_everything() -> None:
    assert not needs_guest(spec())
    assert not needs_guest(spec(TOOLS))
    assert needs_guest(spec(TOOLS, SETUP))
    assert needs_guest(spec(TOOLS, cloud=CLOUD))
    assert not needs_guest(spec(cloud=CLOUD))


def test_images_with_the_same_packages_and_files_have_the_same_under_their_scripts() -> None:
    one, two = spec(TOOLS, SETUP), spec(TOOLS, SETUP.model_copy(update={"script": "something else"}), OTHER)
    assert key(base(one), "") == key(base(two), "") != key(one, "")
    assert not needs_guest(base(one))
    assert all_packages(base(one)) == all_packages(one)
    assert all_files(base(one)) == all_files(one)


def test_a_cloud_image_has_nothing_on_it_before_its_guest_boots() -> None:
    made = base(spec(TOOLS.model_copy(update={"packages": ()}), OTHER, cloud=CLOUD))
    assert made == spec(cloud=CLOUD)


def test_files_are_written_with_the_modes_of_what_they_are(tmp_path: Path) -> None:
    write_files(tmp_path, {"/etc/deep/er/plain": "grüße\n", "/usr/bin/run": "#!/bin/sh\n"})
    assert (tmp_path / "etc/deep/er/plain").read_bytes() == "grüße\n".encode()
    expected = {"etc/deep": 0o755, "etc/deep/er/plain": 0o644, "usr/bin/run": 0o755}
    assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in expected} == expected


def test_a_file_replaces_what_is_there_be_it_a_link(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "etc").mkdir(parents=True)
    outside.write_text("the host's")
    (tree / "etc/x").symlink_to(outside)
    write_files(tree, {"/etc/x": "the guest's"})
    assert (tree / "etc/x").read_text() == "the guest's"
    assert outside.read_text() == "the host's"


@pytest.mark.parametrize("target", ["/srv/real", "../srv/real", "../../../srv/real"])
def test_links_to_folders_are_followed_as_in_the_guest_and_never_out_of_the_tree(tmp_path: Path, target: str) -> None:
    tree = tmp_path / "tree"
    (tree / "opt").mkdir(parents=True)
    (tree / "opt/link").symlink_to(target)
    write_files(tree, {"/opt/link/x": "y"})
    assert (tree / "srv/real/x").read_text() == "y"
    assert {path.name for path in tmp_path.iterdir()} == {"tree"}


BAD: dict[str, tuple[str, str]] = {
    "a folder would become a file": ("/etc/folder", "cannot put the layer's file /etc/folder into the image"),
    "a file would become a folder": ("/etc/file/x", "cannot put the layer's file /etc/file/x into the image"),
    "links in a circle": ("/etc/circle/x", "its links lead in a circle"),
    "a link into memory": ("/etc/run/x", "/run is in memory"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_does_not_fit_the_image_is_a_mistake_of_the_matrix(tmp_path: Path, case: str) -> None:
    path, message = BAD[case]
    (tmp_path / "etc/folder").mkdir(parents=True)
    (tmp_path / "etc/file").touch()
    (tmp_path / "etc/circle").symlink_to("circle")
    (tmp_path / "etc/run").symlink_to("/run")
    with pytest.raises(ConfigError) as caught:
        write_files(tmp_path, {path: "y"})
    assert message in caught.value.message


class Recorder:
    """Puts layers on an image without a guest, and says what it was asked for."""

    def __init__(self, disk_mib: int = 2048, error: Exception | None = None) -> None:
        self.disk_mib = disk_mib
        self.asked: list[tuple[ImageSpec, Image]] = []
        self.error = error

    def __call__(
        self, spec: ImageSpec, base: Image, folder: Path, *, deadline: Deadline, keep_fds: Sequence[int]
    ) -> Work[Made]:
        assert deadline.remaining
        assert keep_fds
        self.asked.append((spec, base))
        (folder / "disk").write_text(f"number {len(self.asked)}")
        yield TICK
        if self.error:
            raise self.error
        return Made(files=(folder / "disk",), disk_mib=self.disk_mib, disk_format="qcow2", mirror="", base=base.digest)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """It holds what is under SETUP's script."""
    made = Catalogue(tmp_path)
    make_image(tmp_path / made.name(base(spec(SETUP))))
    return made


def soon() -> Deadline:
    return Deadline.after(60, "build an image")


def test_layers_are_put_on_once_and_the_manifest_names_them(catalogue: Catalogue) -> None:
    configure = Recorder()
    _, image = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))
    (under,) = [found for found in catalogue.list() if found != image]
    assert configure.asked == [(spec(SETUP), under)]
    assert (image.manifest.layers, image.manifest.base, image.manifest.requested) == (
        ("setup",),
        under.digest,
        ("tar",),
    )
    assert (image.manifest.disk_mib, image.manifest.disk_format) == (2048, "qcow2")
    _, again = finish(catalogue.ensure(spec(renamed(SETUP)), deadline=soon(), configure=configure))
    assert again == image
    assert len(configure.asked) == 1


def test_a_disk_of_another_size_is_another_image(catalogue: Catalogue) -> None:
    images = [
        finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=Recorder(size)))[1] for size in (2048, 1024)
    ]
    assert [image.manifest.disk_mib for image in images] == [2048, 1024]


def test_what_a_guest_wrote_is_named_by_its_content(catalogue: Catalogue) -> None:
    configure = Recorder()
    _, image = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))
    catalogue.remove(image)
    _, again = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))
    assert again.folder == image.folder
    assert again.digest != image.digest


def test_layers_are_put_on_again_when_what_is_under_them_is_another(catalogue: Catalogue) -> None:
    configure = Recorder()
    _, image = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))
    under = catalogue.shelf.folder / catalogue.name(base(spec(SETUP)))
    shutil.rmtree(under)
    assert finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))[1] == image  # it is not needed
    make_image(under, digest="1" * 64)
    descriptor = catalogue.shelf.hold(image.folder.name)
    assert finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))[1] == image  # a guest uses it
    os.close(descriptor)
    _, again = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=configure))
    assert again.manifest.base == "1" * 64
    assert len(configure.asked) == 2


def test_layers_that_cannot_be_put_on_leave_nothing_and_the_next_tries_again(catalogue: Catalogue) -> None:
    before = catalogue.list()
    with pytest.raises(ConfigError, match="it failed"):
        finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=Recorder(error=ConfigError("it failed"))))
    assert catalogue.list() == before
    assert not list(catalogue.shelf.folder.glob(".*.partial"))
    _, image = finish(catalogue.ensure(spec(SETUP), deadline=soon(), configure=Recorder()))
    assert image in catalogue.list()


def test_who_has_no_guests_says_that_one_is_needed(catalogue: Catalogue) -> None:
    with pytest.raises(ConfigError, match="with setup: its script has to be run in a guest"):
        finish(catalogue.ensure(spec(SETUP), deadline=soon()))


def test_a_digest_that_is_asked_for_is_that_of_the_image_under_the_scripts(catalogue: Catalogue) -> None:
    under = catalogue.find(spec(SETUP))
    assert under
    pinned = spec(SETUP).model_copy(update={"digest": under.digest})
    _, image = finish(catalogue.ensure(pinned, deadline=soon(), configure=Recorder()))
    assert image.manifest.base == under.digest != image.digest
    with pytest.raises(ImageError, match="and the run was submitted with"):
        other = spec(SETUP).model_copy(update={"digest": "1" * 64})
        finish(catalogue.ensure(other, deadline=soon(), configure=Recorder()))


def test_nothing_is_made_in_a_guest_that_needs_none(catalogue: Catalogue) -> None:
    with contextlib.closing(catalogue.ensure(base(spec(SETUP)), deadline=soon(), configure=Recorder())) as work:
        _, image = finish(work)
    assert image.manifest.base == ""
