"""What `farm images` prints. Pure: images in, rich's renderables out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from farm.images import Change, ImageFacts, ImageLine
from farm.report.words import size

if TYPE_CHECKING:  # what they are for is loaded by commands that need it
    from runners.images import Manifest
    from runners.images.prune import Thing

_SHORT = 12
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def title(image: ImageLine | Manifest) -> str:
    """`debian-13/riscv64`."""
    return f"{image.name}/{image.arch}"


def ago(then: float, now: float) -> str:
    """`3 hours ago`; both are seconds since 1970."""
    seconds = max(0.0, now - then)
    for unit, name in _UNITS:
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "just now"


def images_table(images: Sequence[ImageLine], now: float) -> Table:
    """A line for each image."""
    table = _table("image", "digest", "kind", "packages", "added", "size", "built", "last used")
    table.columns[3].justify = table.columns[5].justify = "right"
    for image in images:
        added = " ".join([*image.requested, *(f"+{name}" for name in image.layers)])
        used = "in use" if image.in_use else ago(image.used_at.timestamp(), now)
        built = ago(image.built_at.timestamp(), now)
        kind, count = image.kind, str(image.package_count or "not known")
        table.add_row(title(image), image.digest[:_SHORT], kind, count, added, size(image.size_bytes), built, used)
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


def image_facts(image: ImageFacts, more: Mapping[str, str], now: float) -> Table:
    """All that is known of an image, a fact a line; `more`: what is known only where it lies."""
    line, count = image.image, image.image.package_count
    facts = {
        "image": title(line),
        "kind": f"{line.kind}, of Debian {line.release}" if line.release else line.kind,
        "digest": line.digest,
        "packages": f"{count}, each with its version by --packages" if count else "not known",
        "added": " ".join(line.requested),
        "layers": ", ".join(line.layers),
        "disk": f"{image.disk_mib} MiB, {image.disk_format}: the least that guest.disk may say",
        "command line": image.cmdline,
        "mirror": image.mirror,
        "made with": ", ".join(f"{name} ({version})" for name, version in image.tools.items()),
        "built": _moment(line.built_at.timestamp(), now),
        "last used": "in use now" if line.in_use else _moment(line.used_at.timestamp(), now),
        "size": f"{size(line.size_bytes)} on its host",
        **more,
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    return table


def difference_tables(packages: Mapping[str, Change], facts: Mapping[str, Change]) -> Iterable[Table]:
    """What else differs, then the packages."""
    if facts:
        table = _table("", "before", "after")
        for name, (before, after) in facts.items():
            table.add_row(name, Text(before or "–"), Text(after or "–"))
        yield table
    if packages:
        table = _table("", "package", "before", "after")
        for name, (before, after) in packages.items():
            sign, style = ("+", "green") if not before else ("-", "red") if not after else ("~", "yellow")
            table.add_row(Text(sign, style=style), name, before or "–", after or "–")
        yield table


def difference_sentence(packages: Mapping[str, Change] | None) -> str:
    """`packages: 1 added, 2 removed, 3 changed`."""
    if packages is None:
        return "packages: not known"
    pairs = packages.values()
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
