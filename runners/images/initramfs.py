"""The initramfs: busybox, the modules that lead to the disk, and a script."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from farm.errors import ImageError
from runners.images.kernel import decompress
from runners.images.spec import guest_file

_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


_FILE_SYSTEM = ("ext4", "crc32c_generic")
_OTHER_BUSES = {
    "xen": ("xen_blkfront", "xen_netfront", *_FILE_SYSTEM),
    "pc": ("ata_piix", "sd_mod", "e1000", *_FILE_SYSTEM),
}
"""How devices may be attached other than as a machine's own row says -> the modules for them."""


class Modules(NamedTuple):
    """What an initramfs may load."""

    content: dict[str, bytes]
    """Every module, not compressed."""
    orders: dict[str, tuple[str, ...]]
    """How the devices are attached, `farm_bus` of the kernel's command line -> what to load, in this order."""


class Entry(NamedTuple):
    """A folder (without data) or a file of an archive; `mode` is st_mode's."""

    name: str
    mode: int
    data: bytes = b""


def folder(name: str) -> Entry:
    """A folder that all may enter."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, *, executable: bool = False) -> Entry:
    """A file that all may read."""
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)


def cpio(entries: Iterable[Entry]) -> bytes:
    """An archive in the "newc" format, everything root's and from 1970.

    The format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
    """
    whole = [*entries, Entry(_TRAILER, 0)]
    return b"".join(_record(number, entry) for number, entry in enumerate(whole, start=1))


def _record(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)


def depends(module: bytes) -> tuple[str, ...]:
    """The modules that a module (not compressed) says it needs, in the `.modinfo` section's words."""
    found = _DEPENDS.search(module)
    return tuple(_plain(name) for name in found[1].decode().split(",") if name) if found else ()


def load_order(wanted: Sequence[str], needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The wanted modules and all that they need, each after its own needs. `needs` holds every module there is."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order and name in needs:
            for need in needs[name]:
                visit(need)
            order[name] = None

    for name in wanted:
        visit(_plain(name))
    return tuple(order)


def _plain(name: str) -> str:
    """A module's name as the kernel has it: `crc32c-intel` and `crc32c_intel` are one."""
    return name.replace("-", "_")


def find_modules(tree: Path, wanted: Sequence[str]) -> Modules:
    """The modules of an unpacked tree for every way to attach devices; `wanted` are those of virtio.

    A wanted module that is no file is taken to be built in. Raises ImageError where there are none at all.
    """
    paths = {_plain(path.name.split(".")[0]): path for path in tree.glob("usr/lib/modules/*/kernel/**/*.ko*")}
    if not paths:
        raise ImageError("cannot make the initramfs: the kernel's package has no modules")
    buses = {"virtio": tuple(wanted), **_OTHER_BUSES}
    content: dict[str, bytes] = {}
    needs: dict[str, tuple[str, ...]] = dict.fromkeys(paths, ())
    waiting = [_plain(name) for names in buses.values() for name in names if _plain(name) in paths]
    while waiting:
        name = waiting.pop()
        if name not in content:
            content[name] = decompress(paths[name].read_bytes())
            needs[name] = depends(content[name])
            waiting += [need for need in needs[name] if need in paths]
    return Modules(content, {bus: load_order(names, needs) for bus, names in buses.items()})


def make_initramfs(busybox: bytes, modules: Modules) -> bytes:
    """The initramfs, not compressed: an emulated CPU takes longer to unpack than the host to read."""
    return cpio(
        [
            *map(folder, ("bin", "dev", "modules", "root")),
            file("bin/busybox", busybox, executable=True),
            file("init", guest_file("initramfs-init").encode(), executable=True),
            *(file(f"modules/{bus}", _lines(names)) for bus, names in modules.orders.items()),
            *(file(f"modules/{name}.ko", data) for name, data in modules.content.items()),
        ]
    )


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}.ko\n" for name in names).encode()
