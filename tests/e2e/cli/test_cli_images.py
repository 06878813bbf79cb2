"""`farm images`: built, looked at, compared, checked and removed, in a cache of its own."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from runners.images import Image
from runners.images.digest import file_digests
from runners.images.shelf import Shelf
from tests.e2e.cli.conftest import Ended, Farm, fake, real
from tests.unit.test_images_disk import make_image
from tests.unit.test_images_process import finish

NOWHERE = "http://127.0.0.1:9/debian"
TITLE = "debian-13/s390x"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that the program uses."""
    monkeypatch.setenv("FARM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def image(cache: Path, digest: str, *, age_s: float = 0, **changes: object) -> Image:
    """An image of which the manifest is true."""
    made = make_image(cache / "images" / f"image-{digest}", digest=digest.ljust(64, "0"), disk_mib=1, **changes)
    _, files = finish(file_digests(made.folder, ["disk"]))
    manifest = made.manifest.model_copy(update={"files": files})
    path = made.folder / "manifest.json"
    path.write_text(manifest.model_dump_json())
    when = time.time() - age_s
    os.utime(path, (when, when))
    return made.model_copy(update={"manifest": manifest})


def damage(damaged: Image) -> None:
    with damaged.disk.open("r+b") as disk:
        disk.write(b"\x01")


def refused(ended: Ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.startswith("error: ")
    assert all(word in ended.err for word in words), ended.err


# --- a real one -------------------------------------------------------------------------------------


def test_an_image_is_built_and_shown_and_is_what_was_built(farm: Farm, cache: Path) -> None:
    built = farm("images", "build", "debian-13/riscv64")
    assert built.status == 0, built.err
    assert "unpacking the packages of debian-13/riscv64" in built.err
    title, digest, rest = built.out.split(maxsplit=2)
    assert title == "debian-13/riscv64"
    assert len(digest) == 64
    assert "MiB, built in " in rest

    again = farm("images", "build", "debian-13/riscv64")
    assert again.out.startswith(f"{title}  {digest}  ")
    assert "was there already" in again.out
    assert again.err == ""

    assert digest[:12] in farm("images").out
    facts = json.loads(farm("images", "show", digest[:12], "--json").out)
    assert facts["image"]["digest"] == digest
    assert set(facts["files"]) == {"disk", "initrd", "kernel"}
    packages = dict(line.split() for line in farm("images", "show", title, "--packages").out.splitlines())
    assert packages == facts["packages"]
    assert "busybox-static" in packages
    shown = farm("images", "show", title).out
    for word in (title, "unpacked, of Debian trixie", digest, facts["mirror"], facts["cmdline"], str(cache)):
        assert word in shown.replace("\n", " ")
    assert farm("images", "verify").status == 0


def test_an_image_that_is_built_again_from_the_same_archive_is_the_same(farm: Farm, cache: Path) -> None:
    first = farm("images", "build", "debian-13/riscv64", "--with", "hello")
    again = farm("images", "build", "debian-13/riscv64", "--with", "hello", "--again")
    assert (first.status, again.status) == (0, 0), first.err + again.err
    assert again.out.split()[1] == first.out.split()[1]
    assert "the same as before" in again.out
    assert len(Shelf(cache / "images").names()) == 1


def test_what_cannot_be_built_is_an_error_in_time(farm: Farm, cache: Path) -> None:
    refused(farm("images", "build", "debian-13"), "IMAGE/ARCH", "debian-13/riscv64")
    refused(farm("images", "build", "debian-99/amd64"), "debian-99", "debian-13")
    refused(farm("images", "build", "debian/stabel/amd64"), "did you mean debian/stable?")
    late = farm("images", "build", "debian-13/riscv64", "--timeout", "1s")
    assert late.status == 2
    assert "cannot build debian-13/riscv64: not done within 1 s" in late.err
    assert Shelf(cache / "images").names() == ()


# --- lists and names --------------------------------------------------------------------------------


def test_where_nothing_was_built_the_list_says_how_to(farm: Farm, cache: Path) -> None:
    for command in (("images",), ("images", "list")):
        ended = farm(*command)
        assert ended.status == 0
        assert "No image has been built here yet" in ended.out
    assert farm("images", "verify").status == 0
    assert "freed 0 bytes" in farm("images", "prune").out


def test_the_list_has_every_image_and_tells_of_what_cannot_be_read(farm: Farm, cache: Path) -> None:
    image(cache, "aaaa", age_s=7200, requested=("gcc",))
    image(cache, "bbbb", arch="amd64")
    (image(cache, "cccc").folder / "manifest.json").write_text("{")
    ended = farm("images")
    assert ended.status == 0
    assert [line.split()[1] for line in ended.out.splitlines()[1:3]] == ["a" * 4 + "0" * 8, "b" * 4 + "0" * 8]
    assert "2 hours ago" in ended.out
    assert "damaged: image-cccc" in ended.err


def test_an_image_is_named_in_three_ways_and_has_to_be_the_only_one(farm: Farm, cache: Path) -> None:
    image(cache, "aaaa1")
    image(cache, "aaaa2")
    for name in ("image-aaaa1", "aaaa1", "sha256:aaaa10"):
        assert json.loads(farm("images", "show", name, "--json").out)["image"]["digest"].startswith("aaaa1")
    refused(farm("images", "show", "aaaa"), "2 images match", "image-aaaa1", "image-aaaa2")
    refused(farm("images", "show", TITLE), "2 images match")
    refused(farm("images", "show", "dddd"), "cannot find the image 'dddd'")


def test_an_alias_names_an_image_also_where_the_archive_cannot_be_asked(
    farm: Farm, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(cache, "aaaa")
    monkeypatch.setenv("FARM_MIRROR", NOWHERE)
    ended = farm("images", "show", "debian/stable/s390x", "--json")
    assert json.loads(ended.out)["image"]["name"] == "debian-13"
    assert "warning: debian/stable is taken for debian-13, as this farm knows it: cannot ask" in ended.err


# --- differences ------------------------------------------------------------------------------------


def test_a_difference_is_shown_and_is_the_exit_status(farm: Farm, cache: Path) -> None:
    image(cache, "aaaa", packages={"gcc": "4:14", "sed": "4.9"})
    image(cache, "bbbb", packages={"gcc": "4:15", "tar": "1.35"}, cmdline="quiet")
    ended = farm("images", "diff", "aaaa", "bbbb")
    assert ended.status == 1
    lines = [line.split() for line in ended.out.splitlines()]
    assert ["~", "gcc", "4:14", "4:15"] in lines
    assert ["-", "sed", "4.9", "–"] in lines
    assert ["+", "tar", "–", "1.35"] in lines
    assert ["command", "line", "–", "quiet"] in lines
    assert "packages: 1 added, 1 removed, 1 changed" in ended.out
    same = farm("images", "diff", "aaaa", "image-aaaa")
    assert (same.status, same.out) == (0, f"the same: {TITLE}, digest aaaa00000000\n")
    assert farm("images", "diff", "aaaa", "none").status == 2


# --- damage -----------------------------------------------------------------------------------------


def test_a_damaged_image_is_told_and_removed_on_request(farm: Farm, cache: Path) -> None:
    good, bad = image(cache, "aaaa"), image(cache, "bbbb")
    assert farm("images", "verify").status == 0
    damage(bad)
    ended = farm("images", "verify")
    assert ended.status == 1
    assert f"{TITLE}  aaaa00000000  as it was built" in ended.out
    assert "damaged: image-bbbb: its disk has changed: sha256 " in ended.err
    assert "farm images verify --remove" in ended.err
    assert farm("images", "verify", "aaaa").status == 0

    fd = Shelf(cache / "images").hold(bad.folder.name)
    assert "not removed: it is in use" in farm("images", "verify", "--remove").err
    os.close(fd)
    assert "image-bbbb: removed" in farm("images", "verify", "--remove").err
    assert farm("images", "verify").status == 0
    assert Shelf(cache / "images").names() == (good.folder.name,)


def test_an_image_whose_manifest_is_broken_is_damaged(farm: Farm, cache: Path) -> None:
    (image(cache, "aaaa").folder / "manifest.json").write_text("{")
    ended = farm("images", "verify", "--remove")
    assert ended.status == 1
    assert "damaged: image-aaaa: cannot read the image image-aaaa" in ended.err
    assert Shelf(cache / "images").names() == ()


# --- pruning ----------------------------------------------------------------------------------------


def test_pruning_shows_what_would_go_and_then_lets_it_go(farm: Farm, cache: Path) -> None:
    for digest, days in (("aaaa", 40), ("bbbb", 10), ("cccc", 0)):
        image(cache, digest, age_s=days * 86400)
    fd = Shelf(cache / "images").hold("image-aaaa")
    os.utime(cache / "images/image-aaaa/manifest.json", (1, 1))
    told = farm("images", "prune", "--older-than", "5d", "--dry-run")
    assert told.status == 0
    assert [line.split()[1] for line in told.out.splitlines()[:-1]] == ["image-bbbb"]
    assert "would free" in told.out
    assert len(Shelf(cache / "images").names()) == 3
    done = farm("images", "prune", "--older-than", "5d")
    assert "image  image-bbbb" in done.out
    assert "not used for long" in done.out
    assert Shelf(cache / "images").names() == ("image-aaaa", "image-cccc")
    os.close(fd)
    assert "beyond the limit" in farm("images", "prune", "--keep", "0").out
    assert Shelf(cache / "images").names() == ()


@pytest.mark.parametrize("options", [("--older-than", "long ago"), ("--keep", "little")])
def test_a_limit_that_is_none_is_refused(farm: Farm, cache: Path, options: tuple[str, str]) -> None:
    image(cache, "aaaa", age_s=10**8)
    ended = farm("images", "prune", *options)
    assert ended.status == 2
    assert options[1] in ended.err
    assert len(Shelf(cache / "images").names()) == 1


# --- aliases in a run -------------------------------------------------------------------------------


def test_a_plan_shows_what_an_alias_means_and_asks_nobody(
    farm: Farm, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARM_MIRROR", NOWHERE)
    ended = farm("plan", farm.matrix(axes=fake(image=["debian/stable", "debian-12"])))
    assert ended.status == 0, ended.err
    assert "debian_stable/amd64/fake" in ended.out
    assert "debian/stable is debian-13 as far as this farm knows" in ended.out
    assert not (cache / "images").exists()
    assert not (cache / "aliases").exists()


def test_a_run_with_an_alias_that_is_none_starts_nothing(farm: Farm) -> None:
    refused(farm("run", farm.matrix(axes=fake(image=["debian/stabel"]))), "there is no such alias")
    assert "e2e-1" not in farm("runs").out


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_run_settles_an_alias_once_and_runs_on_exactly_that(farm: Farm) -> None:
    packages = ["gcc", "libc6-dev", "make"]
    matrix = farm.matrix(axes=real("riscv64", image=["debian/stable"]), guest={"packages": packages})
    ended = farm("run", matrix, timeout_s=500)
    assert ended.status == 0, ended.out + ended.err
    (cell,) = farm.report()["cells"]
    pinned = cell["pinned"]
    assert cell["values"]["image"] == "debian/stable"
    assert (pinned["name"], pinned["arch"]) == ("debian-13", "riscv64")
    assert cell["image_digest"] == pinned["digest"]
    assert f"debian/stable/riscv64 is debian-13, digest {pinned['digest'][:12]}" in ended.out
    assert pinned["digest"] in (farm.folder / "farm-report/index.html").read_text()
