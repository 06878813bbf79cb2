"""Kernels: from the file in Debian's package to what QEMU boots fastest."""

from __future__ import annotations

import ctypes
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from farm.errors import ImageError
from runners.machines import Machine

# Offsets into a bzImage: Documentation/arch/x86/boot.rst of the kernel, "The Real-Mode Kernel Header".
_SETUP_SECTS = 0x1F1
_MAGIC = 0x202
_PAYLOAD = 0x248  # payload_offset, payload_length: since boot protocol 2.08

# Offsets into an EFI image: drivers/firmware/efi/libstub/zboot-header.S.
_ZBOOT_MAGIC = 4
_ZBOOT_PAYLOAD = 8  # offset, length

_FILES = ("boot/vmlinu?-*", "usr/lib/modules/*/vmlinu?")
"""Where the kernel is in an unpacked package: up to Debian 13, and since."""

_SECTOR = 512
_ELF = b"\x7fELF"
_GZIP = b"\x1f\x8b"
_LZ4 = b"\x02\x21\x4c\x18"
_SIZE_BYTES = 4
_LZ4_BLOCK = 8 * 1024 * 1024


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout


def _lz4(data: bytes) -> bytes:
    """The kernel's builds use lz4's legacy frames: blocks with their length before them (doc/lz4_Frame_format.md).

    The library is there wherever apt is, the program is not.
    """
    library = ctypes.CDLL("liblz4.so.1")
    buffer = ctypes.create_string_buffer(_LZ4_BLOCK)
    whole = bytearray()
    position = len(_LZ4)
    while position + _SIZE_BYTES <= len(data):
        (length,) = struct.unpack_from("<I", data, position)
        block = data[position + _SIZE_BYTES : position + _SIZE_BYTES + length]
        size = library.LZ4_decompress_safe(block, buffer, len(block), _LZ4_BLOCK)
        if size < 0 or len(block) < length:
            raise EOFError("a block of lz4 is damaged")
        whole += ctypes.string_at(buffer, size)
        position += _SIZE_BYTES + length
    return bytes(whole)


_DECOMPRESSORS = (
    (b"\xfd7zXZ\0", lzma.decompress),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (_GZIP, gzip.decompress),
    (_LZ4, _lz4),
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


def extract_zboot(image: bytes) -> bytes:
    """The kernel inside an EFI image that would decompress itself in the guest. Raises ImageError."""
    offset, length = struct.unpack_from("<II", image, _ZBOOT_PAYLOAD)
    payload = image[offset : offset + length]
    if len(payload) < length:
        raise ImageError("cannot take the kernel out of its EFI image: it is cut short")
    return decompress(payload)


_WRAPPINGS: tuple[tuple[int, bytes, Callable[[bytes], bytes]], ...] = (
    (_MAGIC, b"HdrS", extract_vmlinux),
    (_ZBOOT_MAGIC, b"zimg", extract_zboot),
)
"""Where which bytes are in a kernel that is packed -> what unpacks it: the host does so faster than any guest."""


def bootable(kernel: bytes) -> bytes:
    """The kernel as it is handed to QEMU. Raises ImageError."""
    for offset, magic, extract in _WRAPPINGS:
        if kernel.startswith(magic, offset):
            return extract(kernel)
    return kernel


def find_kernel(tree: Path) -> Path:
    """The kernel's file in an unpacked tree. Raises ImageError."""
    found = sorted(path for pattern in _FILES for path in tree.glob(pattern))
    if len(found) != 1:
        raise ImageError(f"cannot find the kernel: {len(found)} files match {' and '.join(_FILES)}")
    return found[0]


def command_line(machine: Machine) -> str:
    """The kernel's command line; a panic is shown on the console and ends the machine."""
    words = ("rw", "panic=-1", "net.ifnames=0", "loglevel=4", *machine.kernel_options.split())
    return f"console={machine.console} {' '.join(words)}"
