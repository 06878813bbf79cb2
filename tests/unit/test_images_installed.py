"""What is done to a tree in which packages have been installed, and who may install them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from farm.errors import ImageError
from farm.model import ImageSpec
from runners.images import installed
from runners.images.bootstrap import bootstrap_error
from runners.images.installed import finish, installed_packages, mmdebstrap
from runners.images.owner import remove_tree
from runners.images.spec import GUEST_FILES, guest_file

SPEC = ImageSpec(name="debian-13-installed", arch="riscv64", packages=("make", "gcc"))
STATUS = """\
Package: dash
Status: install ok installed
Architecture: riscv64
Maintainer: nobody
Version: 0.5.12-12
Description: a shell

Package: gone
Status: deinstall ok config-files
Architecture: riscv64
Maintainer: nobody
Version: 1.0
Description: removed, its configuration is left

"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("etc/systemd/system", "usr/lib/systemd/system/multi-user.target.wants", "usr/sbin", "var/cache/apt",
                 "var/lib/apt/lists", "var/lib/dpkg/updates", "var/lib/dpkg/info"):  # fmt: skip
        (tree / name).mkdir(parents=True)
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n")
    (tree / "etc/shadow").write_text("root:*:20782:0:99999:7:::\ndaemon:*::0:99999:7:::\n")
    (tree / "usr/lib/os-release").write_text("ID=debian\n")
    os.utime(tree / "usr/lib/os-release", (0, 20000 * 24 * 3600))
    (tree / "etc/shells").write_text("/bin/sh\n")
    (tree / "etc/resolv.conf").symlink_to("/run/of/the/host")
    (tree / "var/lib/dpkg/status").write_text(STATUS)
    (tree / "usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service").symlink_to("../x")
    return tree


def test_a_tree_becomes_a_guest(tree: Path) -> None:
    assert finish(tree) == {"dash": "0.5.12-12"}
    assert (tree / "etc/passwd").read_text().splitlines() == [
        "root:x:0:0:root:/root:/usr/sbin/guest-shell",
        "nobody:x:65534:65534::/:/usr/sbin/nologin",
    ]
    assert (tree / "etc/resolv.conf").read_text() == "nameserver 10.0.2.3\n"
    assert not (tree / "etc/resolv.conf").is_symlink()
    assert (tree / "work").is_dir()
    assert (tree / "etc/shadow").read_text() == "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n"
    assert (tree / "usr/sbin/guest-identity").stat().st_mode & 0o777 == 0o755
    system = tree / "etc/systemd/system"
    assert (system / "multi-user.target.wants/farm-guest.service").resolve() == system / "farm-guest.service"
    assert (system / "apt-daily.timer").readlink() == Path("/dev/null")
    assert not (tree / "usr/lib/systemd/system/multi-user.target.wants/systemd-logind.service").is_symlink()


def test_what_is_put_into_a_guest_counts_for_the_key_of_its_image() -> None:
    assert {"setup", "identity", "shell", *installed._UNITS} <= {*GUEST_FILES}
    assert all("[Unit]" in guest_file(unit) for unit in installed._UNITS)


def test_a_list_of_packages_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot read the list of installed packages"):
        installed_packages(tmp_path)


def test_the_command_installs_the_packages_and_the_kernel_from_one_suite() -> None:
    argv = mmdebstrap(SPEC, Path("/tree"), "http://mirror.example/debian", "trixie")
    include = next(word for word in argv if word.startswith("--include=")).partition("=")[2].split(",")
    assert {"gcc", "make", "linux-image-riscv64", "systemd-sysv", "dropbear-bin"} <= set(include)
    assert argv[-3:] == ("trixie", "/tree", "deb http://mirror.example/debian trixie main")


def without_rights(_: Sequence[str]) -> tuple[str, ...]:
    return ("sh", "-c", "echo not here >&2; false")


def test_without_rights_it_is_said_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "as_owner", without_rights)
    with pytest.raises(ImageError, match="takes root, or a user namespace with sub-ids: not here") as caught:
        installed.check_rights()
    assert "/etc/subuid" in caught.value.hint


def test_scripts_that_cannot_run_here_are_told_from_other_trouble() -> None:
    said = "E: riscv64 can neither be executed natively nor via qemu user emulation with binfmt_misc"
    error = bootstrap_error(SPEC, 25, (said,))
    assert type(error) is ImageError
    assert "cannot be run here, they are for riscv64" in error.message
    assert "qemu-user-binfmt" in error.hint


def test_a_tree_is_removed_or_it_is_said_why_not(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    (tmp_path / "tree/folder").mkdir(parents=True)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_the_units_of_a_guest_are_right(tmp_path: Path) -> None:
    for unit in installed._UNITS:
        text = guest_file(unit).replace("/usr/sbin/guest-", "/usr/bin/true --")
        (tmp_path / unit).write_text(text)
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
        assert all("=" in line for line in lines)
    if not Path("/usr/bin/systemd-analyze").exists():
        return
    argv = ["systemd-analyze", "verify", "--recursive-errors=no", *(str(tmp_path / unit) for unit in installed._UNITS)]
    checked = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
