"""What the maintainer scripts of Debian's packages would have made, and the farm's own files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from farm.errors import ConfigError, ImageError
from farm.model.image import path_problem
from runners.images.spec import guest_file

MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32")
"""Folders that are links into /usr in Debian's merged layout."""

BASE_PACKAGES = (
    *("base-files", "base-passwd", "bash", "busybox-static", "coreutils", "dash", "debianutils", "diffutils"),
    *("dropbear-bin", "e2fsprogs", "findutils", "grep", "gzip", "hostname", "libc-bin", "mawk", "netbase"),
    *("perl-base", "sed", "tar"),
)
"""In every image: what scripts take for granted, and what the farm itself needs."""

_TRIMMED = (
    "boot",
    "usr/lib/modules",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)

# What update-alternatives would have linked: name -> the first of these that is there.
_ALTERNATIVES = {
    "awk": ("gawk", "mawk"),
    "nawk": ("gawk", "mawk"),
    "cc": ("gcc", "clang"),
    "c89": ("c89-gcc",),
    "c99": ("c99-gcc",),
    "c++": ("g++", "clang++"),
    "editor": ("vim.basic", "nano"),
    "fakeroot": ("fakeroot-sysv",),
    "faked": ("faked-sysv",),
    "nc": ("nc.openbsd", "nc.traditional"),
    "pager": ("less", "more"),
    "sh": ("dash",),
    "which": ("which.debianutils",),
    "x86_64-linux-gnu-cc": ("x86_64-linux-gnu-gcc",),
}

# Applets that would pass for a program they are not.
_NO_APPLETS = frozenset({"dpkg", "dpkg-deb", "rpm", "rpm2cpio", "sh", "init", "linuxrc", "busybox"})
_APPLETS = re.compile(rb"\[\0\[\[\0(?:[a-z0-9_.+-]+\0)+", re.IGNORECASE)

_MOST_LINKS = 40
"""On the way to a file: as many as the kernel follows, see path_resolution(7)."""

SHELL = "/usr/sbin/guest-shell"
"""The login shell of root."""
_FOLDERS = {"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "root": 0o700, "work": 0o755, "tmp": 0o1777}


def prepare_tree(tree: Path) -> None:
    """Make an empty tree into which packages of the merged and of the older layout unpack alike."""
    tree.mkdir()
    for name in MERGED:
        (tree / "usr" / name).mkdir(parents=True)
        (tree / name).symlink_to(f"usr/{name}")


def finish_tree(tree: Path) -> dict[str, str]:
    """Make unpacked packages into a system that starts; gives every package with its version. Raises ImageError."""
    packages = register_packages(tree)
    for name in _TRIMMED:
        shutil.rmtree(tree / name, ignore_errors=True)
    _drop_unused_links(tree)
    for name, mode in _FOLDERS.items():
        (tree / name).mkdir(exist_ok=True)
        (tree / name).chmod(mode)
    _write_accounts(tree)
    _write_settings(tree)
    link_alternatives(tree)
    link_applets(tree)
    return packages


def register_packages(tree: Path) -> dict[str, str]:
    """Tell the guest's dpkg what is unpacked; gives every package with its version. Raises ImageError.

    One of another architecture than the guest's is called `NAME:ARCH`.
    """
    known = tree / "var/lib/dpkg/arch"
    foreign = known.read_text().split()[1:] if known.exists() else []
    stanzas = {}
    for archive in sorted((tree / "var/cache/apt/archives").glob("*.deb")):
        try:
            asked = subprocess.run(["dpkg-deb", "--field", str(archive)], capture_output=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            raise ImageError(f"cannot read the package {archive.name}: {error}") from error
        stanza = asked.stdout.decode(errors="replace").strip()
        name, arch = _field(stanza, "Package"), _field(stanza, "Architecture")
        stanzas[f"{name}:{arch}" if arch in foreign else name] = stanza
    status = "".join(f"{text}\nStatus: install ok installed\n\n" for text in stanzas.values())
    (tree / "var/lib/dpkg/status").write_text(status)
    return {name: _field(text, "Version") for name, text in stanzas.items()}


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}: *(.*)$", stanza, re.MULTILINE)
    if not found:
        raise ImageError(f"cannot read a package: it has no field {name}")
    return found[1]


def _drop_unused_links(tree: Path) -> None:
    for name in MERGED:
        if not any((tree / "usr" / name).iterdir()):
            (tree / "usr" / name).rmdir()
            (tree / name).unlink()


def _write_accounts(tree: Path) -> None:
    masters = tree / "usr/share/base-passwd"
    passwd = (masters / "passwd.master").read_text()
    passwd = re.sub(r"^root:.*$", f"root:*:0:0:root:/root:{SHELL}", passwd, flags=re.MULTILINE)
    write_file(tree, "etc/passwd", passwd)
    write_file(tree, "etc/group", (masters / "group.master").read_text())
    write_file(tree, "etc/shells", f"/bin/sh\n/bin/bash\n/bin/dash\n{SHELL}\n")


def _write_settings(tree: Path) -> None:
    write_file(tree, "etc/hostname", "guest\n")
    write_file(tree, "etc/hosts", "127.0.0.1 localhost guest\n::1 localhost ip6-localhost\n")
    write_file(tree, "etc/resolv.conf", "nameserver 10.0.2.3\n")
    write_file(tree, "etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    write_file(tree, "etc/fstab", "/dev/farm-root / ext4 rw 0 0\n")
    write_file(tree, "usr/sbin/init", guest_file("init"), mode=0o755)
    write_programs(tree)
    certificates = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    if certificates:
        write_file(tree, "etc/ssl/certs/ca-certificates.crt", "".join(path.read_text() for path in certificates))


def write_programs(tree: Path) -> None:
    """Write the farm's own programs that every guest has."""
    for name in ("identity", "setup", "dhcp", "shell"):
        write_file(tree, f"usr/sbin/guest-{name}", guest_file(name), mode=0o755)


def write_files(tree: Path, files: Mapping[str, str]) -> None:
    """Write the files of layers (`LayerSpec.files`). Raises ConfigError, OSError where the host is at fault."""
    for path, content in files.items():
        try:
            _write_in_guest(tree, PurePosixPath(path), content)
        except (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise ConfigError(
                f"cannot put the layer's file {path} into the image: {error.strerror}",
                hint="a folder of the image cannot become a file, nor a file a folder",
            ) from error


def _write_in_guest(tree: Path, path: PurePosixPath, content: str) -> None:
    parts = _followed(tree, path.parent)
    if why := path_problem("/" + "/".join([*parts, path.name])):
        raise ConfigError(f"cannot put the layer's file {path} into the image: {why}")
    folder = tree
    for part in parts:
        folder /= part
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(0o755)
    write_file(tree, "/".join([*parts, path.name]), content, mode=file_mode(content))


def _followed(tree: Path, folder: PurePosixPath) -> list[str]:
    """Where a folder of the guest really is: links are followed as in the guest, never out of the tree."""
    waiting, really, links = list(folder.parts), list[str](), 0
    while waiting:
        part = waiting.pop(0)
        if part == "/":
            really = []
        elif part == "..":
            really = really[:-1]
        elif (here := tree.joinpath(*really, part)).is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise ConfigError(f"cannot put a layer's file into {folder} of the image: its links lead in a circle")
            waiting = [*PurePosixPath(here.readlink()).parts, *waiting]
        else:
            really.append(part)
    return really


def file_mode(content: str) -> int:
    """The mode of a layer's file: a script can be run."""
    return 0o755 if content.startswith("#!") else 0o644


def write_file(tree: Path, name: str, text: str, *, mode: int = 0o644) -> None:
    """Write a file; what was there, be it a link, is replaced."""
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)


def link_alternatives(tree: Path) -> None:
    """Make the links of update-alternatives that programs rely on."""
    folder = tree / "usr/bin"
    for name, candidates in _ALTERNATIVES.items():
        there = [candidate for candidate in candidates if _is_there(folder / candidate)]
        if there and not _is_there(folder / name):
            (folder / name).symlink_to(there[0])


def link_applets(tree: Path) -> None:
    """Link every applet of busybox for which there is no real program."""
    busybox = tree / "usr/bin/busybox"
    for name in applets(busybox.read_bytes()):
        if not any(_is_there(tree / folder / name) for folder in ("usr/bin", "usr/sbin")):
            (busybox.parent / name).symlink_to("busybox")


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def applets(busybox: bytes) -> tuple[str, ...]:
    """The names of the applets in a busybox of any architecture: its table of names begins with `[` and `[[`."""
    found = _APPLETS.search(busybox)
    if not found:
        raise ImageError("cannot read the names of busybox's applets: the table is not there")
    return tuple(name for name in found[0].decode().split("\0") if name and name not in _NO_APPLETS)
