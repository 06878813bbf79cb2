"""Disks: an ext4 from a folder, and the overlay that a guest writes to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from farm.errors import ConfigError, FullError, HostError, ImageError
from runners.deadline import Deadline
from runners.guest import Work
from runners.images import space
from runners.images.process import run
from runners.images.space import BLOCK, Usage
from runners.images.spec import Image

_MIB = 1024 * 1024
_INODE = 256
_BYTES_PER_INODE = 16384
_SPARE_BLOCKS = 16 * _MIB // BLOCK

# Named one by one, so that every version of mke2fs makes the same disk, and one that the oldest guest's
# kernel mounts. No journal: an overlay that was not unmounted is thrown away. `uninit_bg` and
# `resize_inode` let the guest grow it without writing much.
_FEATURES = (
    "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize"
    ",resize_inode,uninit_bg"
)
_UUID = "6661726d-0000-4000-8000-000000000000"  # the same in every image: one difference less between builds
_FULL = "No space left on device"


def disk_size_mib(need: Usage) -> int:
    """The size of the smallest disk that takes a tree with a little room to spare."""
    inode_blocks = need.inodes * _INODE // BLOCK
    for_content = (need.blocks + inode_blocks + _SPARE_BLOCKS) * 1.03 * BLOCK
    for_inodes = (need.inodes + 1024) * _BYTES_PER_INODE
    return int(max(for_content, for_inodes) / _MIB) + 1


def as_root(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line to which this user's files look as if they were root's: a user namespace, see unshare(1)."""
    return tuple(argv) if os.geteuid() == 0 else ("unshare", "--map-root-user", *argv)


def make_disk(
    tree: Path,
    disk: Path,
    *,
    created_s: int,
    deadline: Deadline,
    keep_fds: Sequence[int] = (),
    wrap: Callable[[Sequence[str]], tuple[str, ...]] = as_root,
) -> Work[int]:
    """Make an ext4 disk from a tree; comes to its size in MiB.

    `created_s` is the time that the file system says it was made (seconds since 1970). `keep_fds`: see `run`.
    `wrap` makes of a command line one to which the tree's files have the owners that they are to have in the guest.
    Raises DeadlineError, FullError and ImageError.
    """
    asked = yield from run(wrap((sys.executable, "-I", space.__file__, str(tree))), deadline=deadline)
    if asked.status:
        raise ImageError(f"cannot see how large a disk has to be: {' '.join(asked.lines[-1:])}", hint=_mke2fs_hint())
    size_mib = disk_size_mib(Usage(*map(int, asked.lines[-1].split())))
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", str(_INODE), "-i", str(_BYTES_PER_INODE)]
    argv += ["-O", _FEATURES, "-E", f"root_owner=0:0,nodiscard,hash_seed={_UUID}", "-U", _UUID, "-m", "0"]
    argv += ["-d", str(tree), str(disk), f"{size_mib}M"]
    env = {"E2FSPROGS_FAKE_TIME": str(created_s)}
    ended = yield from run(wrap(argv), deadline=deadline, env=env, keep_fds=keep_fds)
    if ended.status:
        said = "\n".join(ended.lines)
        kind = FullError if _FULL in said else ImageError
        raise kind(f"cannot make the disk of an image: mke2fs ended with {ended.status}: {said}", hint=_mke2fs_hint())
    return size_mib


def _mke2fs_hint() -> str:
    return "" if os.geteuid() == 0 else "without root it needs user namespaces: try `unshare --map-root-user true`"


def check_size(image: Image, disk_mib: int) -> None:
    """Raise ConfigError where a guest's disk of this size cannot hold the image."""
    least = image.manifest.disk_mib
    if disk_mib < least:
        raise ConfigError(
            f"cannot make a disk of {disk_mib} MiB:"
            f" the image {image.manifest.name}/{image.manifest.arch} needs {least} MiB",
            hint=f"set guest.disk to {least + 256}M or more",
        )


def guest_disk(image: Image, path: Path, disk_mib: int) -> None:
    """Make the disk of one guest: an overlay on the image, which stays as it is; the guest grows its file system.

    Raises ConfigError where `disk_mib` is smaller than the image's own disk, FullError, ImageError.
    """
    check_size(image, disk_mib)
    overlay(image.disk, image.manifest.disk_format, path, disk_mib)


def raw_disk(image: Image, path: Path, disk_mib: int) -> None:
    """Make the disk of one guest whose hypervisor knows raw files only: a sparse copy. Raises as `guest_disk`."""
    check_size(image, disk_mib)
    argv = ["qemu-img", "convert", "-q", "-f", image.manifest.disk_format, "-O", "raw", str(image.disk), str(path)]
    _make(argv, path)
    os.truncate(path, disk_mib * _MIB)


def overlay(base: Path, base_format: str, path: Path, disk_mib: int) -> None:
    """Make a qcow2 over another disk (`raw` or `qcow2`), which must not be written again. Raises FullError, ImageError.

    The format is always said: a raw disk that a guest has written could claim to be something else.
    """
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base.absolute()), "-F", base_format, str(path)]
    _make([*argv, f"{disk_mib}M"], path)


def _make(argv: Sequence[str], path: Path) -> None:
    try:
        subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    except subprocess.CalledProcessError as error:
        raise _disk_error(path, error.stderr.strip()) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _disk_error(path, str(error)) from error


def _disk_error(path: Path, cause: str) -> HostError:
    kind = FullError if _FULL in cause else ImageError
    return kind(f"cannot make the disk {path}: {cause}")
