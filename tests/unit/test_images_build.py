from pathlib import Path

import pytest

from farm.errors import ConfigError, FarmError, FullError, ImageError, PackageError
from farm.model import ImageSpec
from runners.images.bootstrap import bootstrap_error, gives_release
from runners.images.unpacked import mmdebstrap

SPEC = ImageSpec(name="debian-13", arch="s390x", packages=("make", "gcc"))

# What mmdebstrap and apt were seen to say.
SAID = [
    ("E: Unable to locate package gccc", PackageError, "no package 'gccc' for s390x"),
    ("E: Package 'rust' has no installation candidate", PackageError, "no package 'rust' for s390x"),
    (
        "E: apt-get update did not find any indices for architecture 's390x' in suite 'trixie'",
        ConfigError,
        "trixie is not made for s390x",
    ),
    ("tar: usr/bin/x: Cannot write: No space left on device", FullError, "the disk is full"),
    ("E: You don't have enough free space in /x/var/cache/apt/archives/.", FullError, "the disk is full"),
    ("E: Failed to fetch http://mirror.example/x  Hash Sum mismatch", ImageError, "Hash Sum mismatch"),
    ("E: something new", ImageError, "ended with 25"),
]


@pytest.mark.parametrize(("line", "kind", "message"), SAID, ids=[line[:40] for line, _, _ in SAID])
def test_what_a_failed_build_said_becomes_an_error(line: str, kind: type[FarmError], message: str) -> None:
    error = bootstrap_error(SPEC, 25, ("I: running apt-get update...", line, "E: mmdebstrap failed to run"))
    assert type(error) is kind
    assert error.message.startswith("cannot build debian-13/s390x: ")
    assert message in error.message
    assert error.hint


def test_a_mirror_that_is_out_of_date_is_told_from_others_by_the_hint() -> None:
    line = "E: Release file for http://mirror.example/InRelease is expired (invalid since 17d)."
    assert "out of date" in bootstrap_error(SPEC, 25, (line,)).hint


def test_an_error_shows_the_last_lines_without_progress() -> None:
    lines = (*tuple(f"W: line {number}" for number in range(40)), "I: success is near")
    message = bootstrap_error(SPEC, 25, lines).message
    assert "line 39" in message
    assert "line 20\n" not in message
    assert "success" not in message


def test_the_command_asks_for_the_packages_the_kernel_and_the_base_of_one_suite() -> None:
    argv = mmdebstrap(SPEC, Path("/tree"), "http://mirror.example/debian", "trixie")
    include = next(word for word in argv if word.startswith("--include=")).partition("=")[2].split(",")
    assert {"gcc", "make", "linux-image-s390x", "busybox-static", "dropbear-bin", "e2fsprogs"} <= set(include)
    assert include == sorted(set(include))
    assert argv[-3:] == ("trixie", "/tree", "deb http://mirror.example/debian trixie main")
    assert "--variant=extract" in argv


@pytest.mark.parametrize(
    ("name", "text", "given"),
    [
        ("mirror_dists_stable_InRelease", "Origin: Debian\nSuite: stable\nCodename: trixie\n", True),
        ("mirror_dists_stable_InRelease", "Origin: Debian\nSuite: stable\nCodename: forky\n", False),
        ("mirror_dists_stable_Packages", "Origin: Debian\nCodename: trixie\n", False),
    ],
)
def test_a_name_that_moved_on_does_not_give_the_release(tmp_path: Path, name: str, text: str, given: bool) -> None:
    lists = tmp_path / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    (lists / name).write_text(text)
    assert gives_release(tmp_path, "trixie") is given


def test_nothing_fetched_gives_no_release(tmp_path: Path) -> None:
    assert not gives_release(tmp_path, "trixie")
