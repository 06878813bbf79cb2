"""A cloud image for the tests: Debian with cloud-init and an SSH server on a partition, started by GRUB.

As an image of a distribution would be, and made without mounting anything: the file system is filled by mke2fs,
the boot loader's two parts are written to where the firmware and they themselves look. Made once and kept:
`python -m tests.guests.cloud_image` says where.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
from pathlib import Path

from farm.config import load_settings
from farm.errors import ImageError
from runners.deadline import Deadline
from runners.guest import Work, wait_for
from runners.images.installed import check_rights
from runners.images.mirror import machine_mirror
from runners.images.owner import as_owner, remove_tree
from runners.images.process import run
from runners.images.shelf import MANIFEST, Shelf

_PACKAGES = (
    *(
        "cloud-init",
        "cloud-guest-utils",
        "fdisk",
        "grub-pc-bin",
        "ifupdown",
        "isc-dhcp-client",
        "linux-image-cloud-amd64",
    ),
    *("openssh-server", "perl-base", "systemd-sysv", "udev"),
)
_SECTOR = 512
_PARTITION_AT = 2048
"""The sector at which the partition begins; the boot loader lies before it."""
_SIZE_MIB = 1200
_PARTITION = struct.Struct("<B3sB3sII")  # status, first CHS, type, last CHS, first sector, sectors
_LINUX = 0x83
_BOOT_CODE = 440
_GRUB = """\
set root=(hd0,msdos1)
linux /vmlinuz root=LABEL=farm-cloud console=ttyS0 net.ifnames=0 rw
initrd /initrd.img
boot
"""
_CORE = (
    "grub-mkimage -O i386-pc -p /boot/grub -c /boot/farm.cfg -o /boot/core.img"
    " biosdisk part_msdos ext2 linux echo normal boot"
)
_FILES = {
    "etc/fstab": "LABEL=farm-cloud / ext4 defaults 0 1\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "etc/initramfs-tools/conf.d/farm": "MODULES=list\n",
    "boot/farm.cfg": _GRUB,
}
_VERSION = hashlib.sha256(repr((_PACKAGES, _GRUB, _CORE, _FILES, _SIZE_MIB)).encode()).hexdigest()[:16]


def cloud_image() -> Path:
    """The path of the image, a qcow2; it is made if need be, once however many ask for it at a time."""
    shelf = Shelf(load_settings().cache / "test-images")
    place = wait_for(shelf.ensure(f"cloud-{_VERSION}", _make, deadline=Deadline.after(900, "make the test's image")))
    return place / "disk.qcow2"


def _make(folder: Path, fd: int) -> Work[None]:
    check_rights()
    tree, raw = folder / "tree", folder / "disk.raw"
    deadline = Deadline.after(900, "make the test's image")
    try:
        yield from _step(as_owner(_mmdebstrap(folder, tree)), deadline, fd)
        partition_mib = _SIZE_MIB - _PARTITION_AT * _SECTOR // 1024 // 1024
        offset = f"offset={_PARTITION_AT * _SECTOR},root_owner=0:0"
        argv = ("mke2fs", "-q", "-F", "-t", "ext4", "-L", "farm-cloud", "-E", offset, "-d", str(tree), str(raw))
        yield from _step(as_owner((*argv, f"{partition_mib}M")), deadline, fd)
        _install_boot_loader(tree, raw, partition_mib * 1024 * 1024 // _SECTOR)
    finally:
        remove_tree(tree)
    argv = ("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", str(raw), str(folder / "disk.qcow2"))
    yield from _step(argv, deadline, fd)
    raw.unlink()
    (folder / MANIFEST).write_text("{}")


def _step(argv: tuple[str, ...], deadline: Deadline, fd: int) -> Work[None]:
    ended = yield from run(argv, deadline=deadline, keep_fds=(fd,))
    if ended.status:
        raise ImageError(f"cannot make the test's image: {argv[0]} ended with {ended.status}: {ended.lines}")


def _mmdebstrap(folder: Path, tree: Path) -> tuple[str, ...]:
    for name, text in _FILES.items():
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / name).write_text(text)
    return (
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=minbase",
        "--architectures=amd64",
        f"--include={','.join(_PACKAGES)}",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        # Before the kernel comes, whose scripts make the initramfs.
        f"--essential-hook=copy-in {folder}/files/etc {folder}/files/boot /",
        f'--customize-hook=chroot "$1" {_CORE}',
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/resolv.conf',
        "trixie",
        str(tree),
        f"deb {machine_mirror()} trixie main",
    )


def _install_boot_loader(tree: Path, raw: Path, sectors: int) -> None:
    """GRUB as its own installer leaves it: the first part looks for the second in the sectors behind it."""
    boot = (tree / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:_BOOT_CODE]
    core = (tree / "boot/core.img").read_bytes()
    assert len(core) < (_PARTITION_AT - 1) * _SECTOR
    table = _PARTITION.pack(0x80, b"\xfe\xff\xff", _LINUX, b"\xfe\xff\xff", _PARTITION_AT, sectors)
    first = boot.ljust(446, b"\0") + table.ljust(64, b"\0") + b"\x55\xaa"
    with raw.open("r+b") as disk:
        disk.write(first + core)
        disk.truncate((_PARTITION_AT + sectors) * _SECTOR)


def sha256(path: Path) -> str:
    """Of a file, as the matrix asks for it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    made = cloud_image()
    print(made, sha256(made))
    subprocess.run(["qemu-img", "info", str(made)], check=True)
