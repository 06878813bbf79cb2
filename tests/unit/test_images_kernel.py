import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.errors import ImageError
from runners.images.kernel import bootable, command_line, decompress, extract_vmlinux, extract_zboot, find_kernel
from runners.machines import MACHINES, machine_for

VMLINUX = b"\x7fELF" + bytes(range(256)) * 40_000  # more than one block of lz4's legacy frames


def by_program(*argv: str) -> Callable[[bytes], bytes]:
    return lambda data: subprocess.run(argv, input=data, stdout=subprocess.PIPE, check=True).stdout


def lz4_stored(data: bytes) -> bytes:
    """A legacy frame with blocks of literals only (lz4_Block_format.md), made without lz4."""
    frame = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), 8 * 1024 * 1024):
        piece = data[start : start + 8 * 1024 * 1024]
        count, rest = divmod(len(piece) - 15, 255)
        block = b"\xf0" + b"\xff" * count + bytes([rest]) + piece
        frame += struct.pack("<I", len(block)) + block
    return frame


# What compresses, and whether the kernel's build puts the size of the content behind it.
FORMATS = {
    "xz": (lambda data: lzma.compress(data, check=lzma.CHECK_CRC32), True),
    "zstd": (by_program("zstd", "-q"), True),
    "gzip": (gzip.compress, False),
    "lz4": (lz4_stored, True),
    "not compressed": (bytes, True),
}


def bzimage(payload: bytes, *, sectors: int = 2, offset: int = 100) -> bytes:
    """A file with the fields of the boot protocol that lead to its payload."""
    image = bytearray((sectors + 1) * 512 + offset)
    image[0x1F1] = sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, offset, len(payload))
    return bytes(image) + payload + b"behind the payload"


@pytest.mark.parametrize("name", FORMATS)
def test_the_kernel_comes_out_of_a_bzimage_in_every_format(name: str) -> None:
    compress, size_behind = FORMATS[name]
    payload = compress(VMLINUX) + (struct.pack("<I", len(VMLINUX)) if size_behind else b"")
    assert extract_vmlinux(bzimage(payload)) == VMLINUX


def test_a_bzimage_that_names_no_sectors_has_four() -> None:
    image = bytearray(bzimage(gzip.compress(VMLINUX), sectors=4))
    image[0x1F1] = 0
    assert extract_vmlinux(bytes(image)) == VMLINUX


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (b"\x7fELF" + bytes(4096), "no boot header"),
        (b"", "no boot header"),
        (bzimage(gzip.compress(b"no kernel")), "no ELF file"),
        (bzimage(gzip.compress(VMLINUX)[:-2000]), "cannot decompress"),
        (bzimage(lzma.compress(VMLINUX)[:500]), "cannot decompress"),
        (bzimage(b"\x28\xb5\x2f\xfd" + b"rubbish" * 20), "cannot decompress"),
        (bzimage(lz4_stored(VMLINUX)[:-2000]), "cannot decompress"),
        (bzimage(b"\x02\x21\x4c\x18\x08\0\0\0\x0fxxxxxxx\0\0\0\0"), "cannot decompress"),
    ],
    ids=["ELF", "empty", "no kernel", "short gzip", "short xz", "broken zstd", "short lz4", "broken lz4"],
)
def test_a_bzimage_that_is_none_or_is_broken_is_an_error(image: bytes, cause: str) -> None:
    with pytest.raises(ImageError, match=cause):
        extract_vmlinux(image)


def zboot(payload: bytes, *, length: int | None = None, compressor: bytes = b"gzip") -> bytes:
    """A file with the header of an EFI image that decompresses itself."""
    head = struct.pack(
        "<4s4sIIII32s", b"MZ\0\0", b"zimg", 512, len(payload) if length is None else length, 0, 0, compressor
    )
    return head.ljust(512, b"\0") + payload + b"behind the payload"


@pytest.mark.parametrize("name", FORMATS)
def test_the_kernel_comes_out_of_an_efi_image_in_every_format(name: str) -> None:
    compress, size_behind = FORMATS[name]
    payload = compress(VMLINUX)
    behind = struct.pack("<I", len(VMLINUX)) if size_behind else b""
    assert extract_zboot(zboot(payload + behind, length=len(payload))) == VMLINUX


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (zboot(gzip.compress(VMLINUX))[:1000], "cut short"),
        (zboot(gzip.compress(VMLINUX)[:-2000]), "cannot decompress"),
        (zboot(b"\x28\xb5\x2f\xfd" + b"rubbish" * 20), "cannot decompress"),
    ],
    ids=["short file", "short gzip", "broken zstd"],
)
def test_an_efi_image_that_is_broken_is_an_error(image: bytes, cause: str) -> None:
    with pytest.raises(ImageError, match=cause):
        extract_zboot(image)


@pytest.mark.parametrize(
    ("packed", "kernel"),
    [
        (bzimage(gzip.compress(VMLINUX)), VMLINUX),
        (zboot(gzip.compress(VMLINUX)), VMLINUX),
        (VMLINUX, VMLINUX),
        (b"MZ@\xfa" + bytes(1024), b"MZ@\xfa" + bytes(1024)),
        (b"zimg", b"zimg"),
        (b"", b""),
    ],
    ids=["bzImage", "EFI zboot", "ELF", "EFI stub, not packed", "almost nothing", "nothing"],
)
def test_what_a_kernel_is_packed_in_is_seen_in_the_file(packed: bytes, kernel: bytes) -> None:
    assert bootable(packed) == kernel


def test_what_is_not_compressed_stays_as_it_is() -> None:
    assert decompress(b"\x7fELF module") == b"\x7fELF module"


@pytest.mark.parametrize("place", ["boot/vmlinuz-6.12", "boot/vmlinux-6.12", "usr/lib/modules/7.2/vmlinuz"])
def test_the_kernel_is_found_where_old_and_new_packages_have_it(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    assert find_kernel(tmp_path) == tmp_path / place


@pytest.mark.parametrize("names", [[], ["vmlinuz-1", "vmlinuz-2"]], ids=["none", "two"])
def test_no_kernel_or_two_are_an_error(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "boot").mkdir()
    for name in names:
        (tmp_path / "boot" / name).touch()
    with pytest.raises(ImageError, match=f"{len(names)} files"):
        find_kernel(tmp_path)


@pytest.mark.parametrize("arch", MACHINES)
def test_the_command_line_shows_a_panic_on_the_machines_console_and_ends_it(arch: str) -> None:
    words = command_line(machine_for(arch)).split()
    assert f"console={machine_for(arch).console}" in words
    assert "panic=-1" in words
    assert set(machine_for(arch).kernel_options.split()) <= set(words)
