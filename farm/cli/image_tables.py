"""What `farm images` prints. Pure: images in, rich's renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from farm.report.words import size

if TYPE_CHECKING:  # what they are for is loaded by commands that need it
    from runners.images import Image
    from runners.images.diff import Difference
    from runners.images.prune import Thing

_SHORT = 12
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def title(image: Image) -> str:
    """`debian-13/riscv64`."""
    return f"{image.manifest.name}/{image.manifest.arch}"


def ago(then: float, now: float) -> str:
    """`3 hours ago`; both are seconds since 1970."""
    seconds = max(0.0, now - then)
    for unit, name in _UNITS:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def images_table(images: Sequence[Image], things: Mapping[str, Thing], now: float) -> Table:
    """A line for each image; `things`: by the names of their folders."""
    table = _table("image", "digest", "kind", "packages", "added", "size", "built", "last used")
    table.columns[3].justify = table.columns[5].justify = "right"
    for image in images:
        manifest, thing = image.manifest, things[image.folder.name]
        added = " ".join([*manifest.requested, *(f"+{name}" for name in manifest.layers)])
        used = "in use" if thing.in_use else ago(thing.used_at, now)
        built = ago(manifest.built_at.timestamp(), now)
        kind, count = manifest.kind, str(manifest.package_count or "not known")
        table.add_row(title(image), image.digest[:_SHORT], kind, count, added, size(thing.size_bytes), built, used)
    return table


def total(things: Iterable[Thing], limit_mib: int, folder: str) -> str:
    """`3 images, 1.1 GiB, and 2 snapshots, 0.5 GiB, of at most 40.0 GiB in FOLDER`."""
    things = list(things)
    parts = []
    for kind in ("image", "snapshot"):
        sizes = [thing.size_bytes for thing in things if thing.kind == kind]
        if sizes:
            parts.append(f"{len(sizes)} {kind}{'' if len(sizes) == 1 else 's'}, {size(sum(sizes))}")
    most = f" of at most {size(limit_mib * 1024 * 1024)}" if limit_mib else ""
    return f"{', and '.join(parts) or 'nothing'}{',' if parts and most else ''}{most} in {folder}"


def image_facts(image: Image, things: Sequence[Thing], now: float) -> Table:
    """All that is known of an image, a fact a line."""
    manifest = image.manifest
    own = next(thing for thing in things if thing.kind == "image" and thing.name == image.folder.name)
    snapshots = [thing for thing in things if thing.image == image.folder.name]
    count = manifest.package_count
    facts = {
        "image": title(image),
        "kind": f"{manifest.kind}, of Debian {manifest.release}" if manifest.release else manifest.kind,
        "digest": manifest.digest,
        "packages": f"{count}, each with its version by --packages" if count else "not known",
        "added": " ".join(manifest.requested),
        "layers": ", ".join(manifest.layers),
        "disk": f"{manifest.disk_mib} MiB, {manifest.disk_format}: the least that guest.disk may say",
        "command line": manifest.cmdline,
        "mirror": manifest.mirror,
        "made with": ", ".join(f"{name} ({version})" for name, version in manifest.tools.items()),
        "built": _moment(manifest.built_at.timestamp(), now),
        "last used": "in use now" if own.in_use else _moment(own.used_at, now),
        "size": f"{size(own.size_bytes)} on this host",
        "snapshots": f"{len(snapshots)}, {size(sum(one.size_bytes for one in snapshots))}" if snapshots else "",
        "folder": str(image.folder),
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    return table


def difference_tables(found: Difference) -> Iterable[Table]:
    """What else differs, then the packages."""
    if found.facts:
        table = _table("", "before", "after")
        for name, (before, after) in found.facts.items():
            table.add_row(name, Text(before or "–"), Text(after or "–"))
        yield table
    if found.packages:
        table = _table("", "package", "before", "after")
        for name, (before, after) in found.packages.items():
            sign, style = ("+", "green") if not before else ("-", "red") if not after else ("~", "yellow")
            table.add_row(Text(sign, style=style), name, before or "–", after or "–")
        yield table


def difference_sentence(found: Difference) -> str:
    """`packages: 1 added, 2 removed, 3 changed`."""
    if found.packages is None:
        return "packages: not known"
    pairs = found.packages.values()
    counts = {
        "added": sum(not before for before, _ in pairs),
        "removed": sum(not after for _, after in pairs),
        "changed": sum(bool(before and after) for before, after in pairs),
    }
    return f"packages: {', '.join(f'{count} {word}' for word, count in counts.items() if count) or 'the same'}"


def _moment(then: float, now: float) -> str:
    return f"{datetime.fromtimestamp(then, UTC):%Y-%m-%d %H:%M:%S} UTC, {ago(then, now)}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in {"image", "package", "digest", "size"})
    return table
