"""The disks of a guest in Bochs, which knows raw files only and boots from what a BIOS can read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from farm.errors import ImageError
from runners.bochs.settings import boot_menu
from runners.images import Image

ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
LDLINUX = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")

SEED_BYTES = 16 * 63 * 512 * 2
"""Bochs counts in tracks: what is smaller is no disk."""


def boot_cd(image: Image, cmdline: str, path: Path) -> None:
    """Make a CD from which a BIOS starts the kernel of an image. Raises ImageError where it has none, OSError."""
    if image.packed_kernel is None:
        raise ImageError(
            f"cannot make a boot CD of the image {image.manifest.name}: it has no kernel of its own",
            hint="Bochs runs Debian's unpacked and installed images only",
        )
    content: Mapping[str, bytes] = {
        "ISOLINUX.BIN": ISOLINUX.read_bytes(),
        "LDLINUX.C32": LDLINUX.read_bytes(),
        "ISOLINUX.CFG": boot_menu(cmdline).encode(),
        "KERNEL.": image.packed_kernel.read_bytes(),
        "INITRD.": image.initrd.read_bytes(),
    }
    try:
        cd = pycdlib.PyCdlib()
        cd.new(interchange_level=3)
        for name, data in content.items():
            cd.add_fp(io.BytesIO(data), len(data), f"/{name};1")
        cd.add_eltorito("/ISOLINUX.BIN;1", "/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
        cd.write(str(path))
        cd.close()
    except PyCdlibException as error:
        raise ImageError(f"cannot make a boot CD of the image {image.manifest.name}: {error}") from error
