import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import ImageError
from runners.images.initramfs import Modules, cpio, depends, file, find_modules, folder, load_order, make_initramfs


def unpack(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a newc archive: name -> mode and content."""
    entries = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[position + 110 : position + 110 + name_size - 1].decode()
        start = position + 110 + name_size
        start += -start % 4
        position = start + size
        position += -position % 4
        if name == "TRAILER!!!":
            assert position == len(archive)
            return entries
        entries[name] = (mode, archive[start : start + size])


def test_an_archive_is_what_the_kernel_documents_byte_by_byte() -> None:
    expected = (
        b"070701" b"00000001" b"000081A4" b"00000000" b"00000000" b"00000001" b"00000000" b"00000003"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000005" b"00000000" b"name\0" b"\0" b"abc" b"\0"
        b"070701" b"00000002" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0" b"\0\0\0"
    )  # fmt: skip
    assert cpio([file("name", b"abc")]) == expected


@given(st.dictionaries(st.text("abcdef/._-", min_size=1, max_size=9), st.binary(max_size=9), max_size=6))
def test_an_archive_holds_what_was_put_in_whatever_the_lengths(content: dict[str, bytes]) -> None:
    packed = cpio([file(name, data) for name, data in content.items()])
    assert unpack(packed) == {name: (0o100644, data) for name, data in content.items()}


def test_folders_and_programs_have_their_modes() -> None:
    assert unpack(cpio([folder("bin"), file("bin/sh", b"#!", executable=True)])) == {
        "bin": (0o040755, b""),
        "bin/sh": (0o100755, b"#!"),
    }


def module(*needs: str) -> bytes:
    return b"\x7fELF....\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


@pytest.mark.parametrize(
    ("content", "needs"),
    [
        (module("mbcache", "crc32c-intel"), ("mbcache", "crc32c_intel")),
        (module(), ()),
        (b"\x7fELF\0softdepends=no\0", ()),
    ],
)
def test_a_module_says_what_it_needs(content: bytes, needs: tuple[str, ...]) -> None:
    assert depends(content) == needs


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        (("ext4",), ("crc16", "jbd2", "ext4")),
        (("net", "ext4"), ("failover", "net", "crc16", "jbd2", "ext4")),
        (("jbd2", "ext4", "jbd2"), ("jbd2", "crc16", "ext4")),
        (("built-in", "net"), ("failover", "net")),
    ],
)
def test_modules_load_after_what_they_need_and_once(wanted: tuple[str, ...], order: tuple[str, ...]) -> None:
    needs = {"ext4": ("crc16", "jbd2"), "jbd2": (), "crc16": (), "net": ("failover",), "failover": ()}
    assert load_order(wanted, needs) == order


def put_modules(tree: Path, modules: dict[str, bytes]) -> None:
    for name, data in modules.items():
        path = tree / "usr/lib/modules/6.12/kernel" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(data) if name.endswith(".xz") else data)


def test_modules_are_found_decompressed_in_their_order(tmp_path: Path) -> None:
    ext4 = module("jbd2")
    put_modules(tmp_path, {"fs/ext4.ko.xz": ext4, "fs/jbd2.ko": module(), "drivers/virtio-rng.ko.xz": module()})
    found = find_modules(tmp_path, ("virtio_rng", "ext4", "virtio_pci"))
    assert found.orders["virtio"] == ("virtio_rng", "jbd2", "ext4")
    assert found.content["ext4"] == ext4


def test_a_guest_whose_devices_are_not_virtio_s_loads_what_those_need_and_no_more(tmp_path: Path) -> None:
    names = ("virtio_blk", "xen-blkfront", "ext4", "ata_piix")
    put_modules(
        tmp_path, {f"{name}.ko": module() for name in names} | {"sd_mod.ko": module("scsi"), "scsi.ko": module()}
    )
    found = find_modules(tmp_path, ("virtio_blk", "ext4"))
    assert found.orders["xen"] == ("xen_blkfront", "ext4")
    assert found.orders["pc"] == ("ata_piix", "scsi", "sd_mod", "ext4")


def test_a_kernel_without_any_modules_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no modules"):
        find_modules(tmp_path, ("ext4",))


def test_the_initramfs_lists_its_modules_in_their_order() -> None:
    files = unpack(make_initramfs(b"busybox", Modules({"jbd2": b"1", "ext4": b"2"}, {"xen": ("jbd2", "ext4")})))
    assert files["modules/xen"][1] == b"jbd2.ko\next4.ko\n"
    assert files["modules/ext4.ko"][1] == b"2"
    assert files["bin/busybox"] == (0o100755, b"busybox")
    assert files["init"][0] == 0o100755
    assert files["init"][1].startswith(b"#!/bin/busybox sh\n")
