import subprocess
from pathlib import Path

import pytest

from farm.errors import ImageError
from runners.images.rootfs import applets, finish_tree, link_alternatives, link_applets, prepare_tree

TABLE = b"rodata\0\0[\0[[\0ash\0cp\0dpkg\0ip\0sh\0zcat\0\0more"


def make_package(archives: Path, name: str, version: str) -> None:
    """A package that holds nothing."""
    control = archives / name / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "--build", str(archives / name)], capture_output=True, check=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What unpacking leaves, in small."""
    tree = tmp_path / "tree"
    prepare_tree(tree)
    (tree / "usr/bin/busybox").write_bytes(TABLE)
    for name in ("bash", "cp", "dash", "gcc", "mawk"):
        (tree / "usr/bin" / name).touch()
    (tree / "usr/sbin/ip").touch()
    (tree / "usr/lib/libc.so").touch()
    masters = tree / "usr/share/base-passwd"
    masters.mkdir(parents=True)
    (masters / "passwd.master").write_text("root:*:0:0:root:/root:/bin/bash\ndaemon:*:1:1::/:/usr/sbin/nologin\n")
    (masters / "group.master").write_text("root:*:0:\n")
    archives = tree / "var/cache/apt/archives"
    archives.mkdir(parents=True)
    make_package(archives, "gcc", "4:14.2.0-1")
    (tree / "var/lib/dpkg").mkdir(parents=True)
    (tree / "etc").mkdir()
    return tree


def test_a_new_tree_has_the_merged_layout(tmp_path: Path) -> None:
    prepare_tree(tmp_path / "tree")
    assert (tmp_path / "tree/lib64").readlink() == Path("usr/lib64")
    assert (tmp_path / "tree/bin").resolve() == tmp_path / "tree/usr/bin"


def test_finishing_registers_the_packages_and_removes_their_archives(tree: Path) -> None:
    assert finish_tree(tree) == {"gcc": "4:14.2.0-1"}
    status = (tree / "var/lib/dpkg/status").read_text()
    assert "Package: gcc\nVersion: 4:14.2.0-1\n" in status
    assert "Status: install ok installed\n" in status
    assert not (tree / "var/cache/apt").exists()


def test_finishing_drops_the_links_that_lead_to_nothing(tree: Path) -> None:
    finish_tree(tree)
    assert (tree / "lib").is_symlink()
    assert not (tree / "lib64").is_symlink()
    assert not (tree / "usr/lib64").exists()


def test_finishing_makes_root_log_in_with_the_farms_shell_without_a_password_to_guess(tree: Path) -> None:
    finish_tree(tree)
    root = (tree / "etc/passwd").read_text().splitlines()[0].split(":")
    assert root == ["root", "*", "0", "0", "root", "/root", "/usr/sbin/guest-shell"]
    assert "/usr/sbin/guest-shell" in (tree / "etc/shells").read_text().splitlines()


@pytest.mark.parametrize("name", ["usr/sbin/init", "usr/sbin/guest-shell"])
def test_the_farms_own_programs_are_there_and_can_be_run(tree: Path, name: str) -> None:
    finish_tree(tree)
    assert (tree / name).stat().st_mode & 0o777 == 0o755
    assert (tree / name).read_text().startswith("#!/usr/bin/busybox sh\n")


def test_what_the_host_left_in_a_setting_is_replaced_and_never_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("the host's")
    (tree / "etc/resolv.conf").symlink_to(outside)
    finish_tree(tree)
    assert outside.read_text() == "the host's"
    assert (tree / "etc/resolv.conf").read_text() == "nameserver 10.0.2.3\n"


def test_folders_have_their_modes(tree: Path) -> None:
    finish_tree(tree)
    modes = {name: (tree / name).stat().st_mode & 0o7777 for name in ("tmp", "root", "work")}
    assert modes == {"tmp": 0o1777, "root": 0o700, "work": 0o755}


def test_certificates_are_joined_into_one_bundle(tree: Path) -> None:
    certificates = tree / "usr/share/ca-certificates/mozilla"
    certificates.mkdir(parents=True)
    (certificates / "b.crt").write_text("B\n")
    (certificates / "a.crt").write_text("A\n")
    finish_tree(tree)
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text() == "A\nB\n"


def test_alternatives_link_the_first_program_that_is_there(tree: Path) -> None:
    link_alternatives(tree)
    links = {name: (tree / "usr/bin" / name).readlink().name for name in ("awk", "cc", "sh")}
    assert links == {"awk": "mawk", "cc": "gcc", "sh": "dash"}
    assert not (tree / "usr/bin/c++").is_symlink()


def test_an_alternative_never_replaces_what_is_there(tree: Path) -> None:
    (tree / "usr/bin/awk").write_text("real")
    link_alternatives(tree)
    assert (tree / "usr/bin/awk").read_text() == "real"


def test_the_table_of_applets_is_read_without_running_busybox() -> None:
    assert applets(TABLE) == ("[", "[[", "ash", "cp", "ip", "zcat")


def test_a_busybox_without_a_table_is_an_error() -> None:
    with pytest.raises(ImageError, match="applets"):
        applets(b"\x7fELF no table")


def test_applets_stand_in_only_for_programs_that_are_not_there(tree: Path) -> None:
    link_applets(tree)
    bin_ = tree / "usr/bin"
    assert (bin_ / "zcat").readlink() == Path("busybox")
    assert not (bin_ / "cp").is_symlink()
    assert not (bin_ / "ip").is_symlink()  # the real one is in usr/sbin
    assert not (bin_ / "dpkg").is_symlink()


def test_a_package_that_cannot_be_read_is_named(tree: Path) -> None:
    (tree / "var/cache/apt/archives/broken.deb").write_bytes(b"rubbish")
    with pytest.raises(ImageError, match=r"cannot read the package broken\.deb"):
        finish_tree(tree)
