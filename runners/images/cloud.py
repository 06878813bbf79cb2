"""A *cloud* image: a disk that others have made, fetched by its SHA-256; cloud-init in it reads the seed.

The file is somebody else's, and qcow2 is a format in which a disk can say that its content, or what is under
it, is any other file of the host. So the header is read here before any program gets to open the file, and
its format is said to every program that does.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from farm.errors import ConfigError, FarmError, FullError, ImageError
from farm.model import CloudSpec, ImageSpec
from runners.deadline import Deadline
from runners.guest import Work
from runners.images import fetch
from runners.images.made import Made, say, versions
from runners.images.process import run

BOOTABLE = ("amd64", "i386")
"""The architectures of which the farm starts the firmware, SeaBIOS, rather than a kernel."""

_MIB = 1024 * 1024
_QCOW2 = b"QFI\xfb"
_VERSIONS = (2, 3)
_HEADER = struct.Struct(">4sIQIIQI36xQ")
"""magic, version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method, incompatible_features:
docs/interop/qcow2.txt of QEMU."""
_HARMLESS = 1 | 8 | 16
"""Incompatible features: dirty, another compression, extended L2 entries. Not: corrupt (2), data elsewhere (4)."""
_BOOT_SECTOR = 512
_BOOT_MARK = b"\x55\xaa"
_MAGICS = {
    b"\x1f\x8b": "compressed by gzip",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PK": "a zip archive",
    b"KDMV": "in the format vmdk",
    b"vhdxfile": "in the format vhdx",
    b"<": "a page of text",
}


class Header(NamedTuple):
    """What the first bytes of a disk say."""

    disk_format: Literal["raw", "qcow2"]
    trouble: str = ""
    """Why it is not used; empty: nothing stands against it."""


def make(spec: ImageSpec, folder: Path, *, mirror: str, deadline: Deadline, keep_fds: Sequence[int]) -> Work[Made]:  # noqa: ARG001 -- a Kind's own
    """Fetch a cloud image, see `made.Kind`."""
    cloud = wanted(spec)
    disk = folder / "disk"
    yield say(f"fetching {spec.name}/{spec.arch} from {fetch.shown(cloud.location)}")
    env = {"FARM_LOCATION": cloud.location, "FARM_SHA256": cloud.sha256, "FARM_TO": str(disk)}
    ended = yield from run((sys.executable, "-I", fetch.__file__), deadline=deadline, env=env, keep_fds=keep_fds)
    if ended.status:
        raise fetch_error(spec, cloud, ended.status, ended.lines[-1] if ended.lines else "")
    with disk.open("rb") as file:
        header = read_header(file.read(_BOOT_SECTOR))
    if header.trouble:
        raise ConfigError(f"cannot use the image {spec.name}: {header.trouble}", hint="take a plain qcow2 or raw disk")
    return Made(
        files=(disk,),
        disk_mib=-(-virtual_bytes(spec, disk, header.disk_format) // _MIB),
        mirror=fetch.shown(cloud.location),
        disk_format=header.disk_format,
        tools=versions(("qemu-img", "--version")),
    )


def wanted(spec: ImageSpec) -> CloudSpec:
    """What is to be fetched. Raises ConfigError where it cannot be what was asked for."""
    if spec.cloud is None:
        raise ConfigError(f"cannot fetch the image {spec.name}: nothing says from where")
    if spec.arch not in BOOTABLE:
        raise ConfigError(
            f"cannot boot the image {spec.name}: the farm starts no firmware of {spec.arch}",
            hint=f"cloud images are for {' and '.join(BOOTABLE)}; elsewhere take debian-13-installed",
        )
    if spec.packages:
        raise ConfigError(
            f"cannot put the packages {', '.join(spec.packages)} into the cloud image {spec.name}",
            hint="install them by a layer with a script",
        )
    return spec.cloud


def fetch_error(spec: ImageSpec, cloud: CloudSpec, status: int, cause: str) -> FarmError:
    """How a fetch ended, as an error."""
    what = f"cannot fetch the image {spec.name} from {fetch.shown(cloud.location)}"
    if status == fetch.FULL:
        return FullError(f"{what}: the disk is full", hint="`farm images` shows what is kept")
    if status == fetch.WRONG:
        return ConfigError(f"{what}: {cause}", hint="correct its address or its sha256 in `images` of the matrix")
    return ImageError(f"{what}: {cause or f'the program that fetches ended with {status}'}", hint="try again later")


def read_header(first: bytes) -> Header:
    """What the first 512 bytes of a disk say."""
    if first.startswith(_QCOW2):
        return Header("qcow2", _qcow2_trouble(first.ljust(_BOOT_SECTOR, b"\0")))
    if first[_BOOT_SECTOR - 2 :] == _BOOT_MARK:
        return Header("raw")
    known = next((what for magic, what in _MAGICS.items() if first.lstrip().startswith(magic)), "")
    return Header("raw", f"it is {known}" if known else "it is neither a qcow2 nor a disk with a boot sector")


def _qcow2_trouble(first: bytes) -> str:
    _, version, backing_at, backing_size, _, _, encryption, features = _HEADER.unpack_from(first)
    if version not in _VERSIONS:
        return f"it is a qcow2 of version {version}"
    if backing_at or backing_size:
        return "it is a qcow2 on top of another file"
    if encryption:
        return "it is encrypted"
    unknown = features & ~_HARMLESS if version > min(_VERSIONS) else 0
    return (
        f"it needs features of qcow2 that are not allowed, such as data in another file ({unknown:#x})"
        if unknown
        else ""
    )


def virtual_bytes(spec: ImageSpec, disk: Path, disk_format: str) -> int:
    """The size that a guest sees, asked of qemu-img, which has to find the disk as harmless as its header says."""
    argv = ["qemu-img", "info", "--output=json", "-f", disk_format, str(disk)]
    try:
        asked = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        told: dict[str, Any] = json.loads(asked.stdout)
        size = int(told["virtual-size"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise ConfigError(f"cannot use the image {spec.name}: qemu-img does not read it: {said.strip()}") from error
    specific = told.get("format-specific", {}).get("data", {})
    if told.get("backing-filename") or told.get("encrypted") or specific.get("data-file"):
        raise ConfigError(f"cannot use the image {spec.name}: it is encrypted, or its content is in another file")
    return size
