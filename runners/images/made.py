"""What the kinds of image have in common: what each comes to, and how they tell."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from farm.model import ImageSpec, Stream
from runners.deadline import Deadline
from runners.guest import Chunk, Work
from runners.images.initramfs import find_modules, make_initramfs
from runners.images.kernel import bootable, find_kernel
from runners.machines import machine_for


@dataclass(frozen=True)
class Made:
    """What a kind of image has made in the image's folder."""

    files: tuple[Path, ...]
    """`disk` first, then `initrd`, `kernel`, `packed-kernel` and `firmware` where it has them."""
    disk_mib: int
    mirror: str
    """Where it came from."""
    content: str = ""
    """Names what is in the disk, see `tree_digest`; empty: the disk is always the same to the last byte."""
    disk_format: Literal["raw", "qcow2"] = "raw"
    packages: dict[str, str] = field(default_factory=dict)
    """As far as they are known."""
    cmdline: str = ""
    tools: dict[str, str] = field(default_factory=dict)
    base: str = ""
    """The digest of the image in a guest of which scripts were run for it; empty: none were."""


class Kind(Protocol):
    """A kind of image: makes one in an empty folder."""

    def __call__(
        self, spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int]
    ) -> Work[Made]:
        """`mirror` is the setting. Raises ConfigError, PackageError, FullError, DeadlineError, ImageError."""


def say(text: str) -> Chunk:
    """A line of the farm's own in the log."""
    return Chunk(Stream.FARM, f"{text}\n".encode())


def boot_files(spec: ImageSpec, tree: Path, folder: Path) -> tuple[Path, ...]:
    """Write what a guest boots with, from a tree with Debian's packages; gives the paths. Raises ImageError."""
    machine = machine_for(spec.arch)
    initrd, kernel, packed, firmware = (folder / name for name in ("initrd", "kernel", "packed-kernel", "firmware"))
    modules = find_modules(tree, machine.modules)
    initrd.write_bytes(make_initramfs((tree / "usr/bin/busybox").read_bytes(), modules))
    kernel.write_bytes(bootable(find_kernel(tree).read_bytes()))
    if machine.is_pc:
        shutil.copyfile(find_kernel(tree), packed)
        return initrd, kernel, packed
    if not machine.firmware:
        return initrd, kernel
    shutil.copyfile(tree / machine.firmware.path, firmware)
    return initrd, kernel, firmware


def released_s(tree: Path) -> int:
    """When the release in a tree was made: seconds since 1970."""
    return int((tree / "usr/lib/os-release").stat().st_mtime)


def versions(*programs: tuple[str, str]) -> dict[str, str]:
    """The versions of the programs that make an image; each with the flag that asks for it."""
    return {name: _version(name, flag) for name, flag in programs}


def _version(name: str, flag: str) -> str:
    answer = subprocess.run([name, flag], capture_output=True, text=True, check=False, timeout=30)
    return (answer.stdout or answer.stderr).partition("\n")[0].strip()
