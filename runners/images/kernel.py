"""Kernels: from the file in Debian's package to what QEMU boots fastest."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

from farm.errors import ImageError
from runners.machines import Machine

# Offsets into a bzImage: Documentation/arch/x86/boot.rst of the kernel, "The Real-Mode Kernel Header".
_SETUP_SECTS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248  # payload_offset, payload_length: since boot protocol 2.08

_SECTOR = 512
_ELF = b"\x7fELF"
_GZIP = b"\x1f\x8b"
_SIZE_LENGTH = 4
_GZIP = b"\x1f\x8b"
_SIZE_BYTES = 4


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def _lz4(data: bytes) -> bytes:
    return subprocess.run(["lz4", "-dcq"], input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def _xz(data: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(data)


_DECOMPRESSORS = (
    (b"\xfd7zXZ\0", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (_GZIP, gzip.decompress),
    (b"\x02\x21\x4c\x18", _lz4),
)


def decompress(data: bytes) -> bytes:
    """The content of data compressed by xz, zstd, gzip or lz4, by its first bytes; else the data. Raises ImageError."""
    for magic, decompressor in _DECOMPRESSORS:
        if data.startswith(magic):
            try:
                return decompressor(data)
            except (OSError, EOFError, lzma.LZMAError, subprocess.SubprocessError) as error:
                raise ImageError(f"cannot decompress a kernel or a module: {error}") from error
    return data


def extract_vmlinux(bzimage: bytes) -> bytes:
    """The ELF kernel inside a bzImage, which QEMU enters directly by PVH. Raises ImageError."""
    if bzimage[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ImageError("cannot take the kernel out of its bzImage: it has no boot header")
    offset, length = struct.unpack_from("<II", bzimage, _PAYLOAD)
    start = ((bzimage[_SETUP_SECTS] or 4) + 1) * _SECTOR + offset
    payload = bzimage[start : start + length]
    if not payload.startswith(_GZIP):
        # The kernel's build appends the size of the content (scripts/Makefile.lib, size_append), which is
        # no part of the stream; gzip has it anyway.
        payload = payload[:-_SIZE_BYTES]
    vmlinux = decompress(payload)
    if not vmlinux.startswith(_ELF):
        raise ImageError("cannot take the kernel out of its bzImage: what it holds is no ELF file")
    return vmlinux


def find_kernel(tree: Path, machine: Machine) -> Path:
    """The kernel's file in an unpacked tree. Raises ImageError."""
    found = sorted(tree.glob(machine.kernel_glob))
    if len(found) != 1:
        raise ImageError(f"cannot find the kernel of {machine.arch}: {len(found)} files match {machine.kernel_glob}")
    return found[0]


def bootable(kernel: bytes, machine: Machine) -> bytes:
    """The kernel as it is handed to QEMU. Raises ImageError."""
    return extract_vmlinux(kernel) if machine.kernel_kind == "bzimage" else kernel


def command_line(machine: Machine) -> str:
    """The kernel's command line; a panic is shown on the console and ends the machine."""
    return f"console={machine.console} root=/dev/vda rw panic=-1 net.ifnames=0 loglevel=4"
