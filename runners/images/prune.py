"""Keeping the cache small: images and snapshots that nobody has used for long are removed.

A snapshot is of no use without its image. So an image counts as used when one of its snapshots was, and goes after
them. What somebody uses is never removed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from farm.config import Settings
from farm.errors import FarmError, NotFoundError
from farm.model import Stream
from runners.guest import Chunk, Work
from runners.images.shelf import MANIFEST, Shelf, doomed

KINDS = {"snapshots": "snapshot", "images": "image"}
"""The shelves in the cache, what needs another thing before that -> what is on them."""

_MIB = 1024 * 1024
_SPARED_S = 3600.0
_STAMP = ".tidied"


class Thing(NamedTuple):
    """An image or a snapshot on this host."""

    kind: str
    """One of KINDS."""
    name: str
    """Of its folder."""
    used_at: float
    """Seconds since 1970."""
    size_bytes: int
    in_use: bool = False
    digest: str = ""
    """Of an image; of a snapshot, the one that its image had."""
    image: str = ""
    """The folder of the image that a snapshot needs."""


class Removed(NamedTuple):
    """Something that was removed, or would be."""

    kind: str
    name: str
    size_bytes: int
    why: str


class Limits(NamedTuple):
    """What is to be kept."""

    older_than_s: float = 0.0
    """What was last used before this goes: seconds since 1970."""
    keep_bytes: float = float("inf")
    """The longest unused goes until the rest is no larger."""


def survey(cache: Path) -> tuple[Thing, ...]:
    """What is in the cache; snapshots first."""
    return tuple(thing for folder, kind in KINDS.items() for thing in _on_shelf(Shelf(cache / folder), kind))


def prune(cache: Path, limits: Limits, *, dry_run: bool = False) -> Iterator[Removed]:
    """Remove leftovers of killed processes, snapshots whose image is gone, and what is beyond the limits.

    Gives each as it goes; in a dry run, what would go. Raises ImageError where something cannot be removed.
    """
    yield from _swept(cache, dry_run=dry_run)
    shelves = {kind: Shelf(cache / folder) for folder, kind in KINDS.items()}
    for thing, why in chosen(survey(cache), limits):
        if dry_run or _remove(shelves[thing.kind], thing.name):
            yield Removed(thing.kind, thing.name, thing.size_bytes, why)


def chosen(things: Sequence[Thing], limits: Limits) -> tuple[tuple[Thing, str], ...]:
    """What is to be removed, in this order, and why. Pure."""
    images = {thing.name: thing.digest for thing in things if thing.kind == "image"}
    widows = [thing for thing in things if thing.image and images.get(thing.image) != thing.digest and not thing.in_use]
    others = [thing for thing in things if thing not in widows]
    keep_bytes = limits.keep_bytes - sum(thing.size_bytes for thing in others if thing.in_use)
    free = {f"{thing.kind} {thing.name}": thing for thing in _with_their_images(others) if not thing.in_use}
    names = doomed(
        ((name, thing.used_at, thing.size_bytes) for name, thing in free.items()),
        older_than_s=limits.older_than_s,
        keep_bytes=keep_bytes,
    )
    gone = [free[name] for name in names]
    return (
        *((thing, "its image is gone") for thing in widows),
        *(
            (thing, "not used for long" if thing.used_at < limits.older_than_s else "beyond the limit")
            for thing in gone
        ),
    )


def tidy(settings: Settings) -> Work[None]:
    """Keep the cache within its limit, and free of what was left half made.

    It costs next to nothing where nothing came into it since the last time. What was used within the hour stays: a run
    shall not lose what it has just built. What cannot be removed is told, and no reason to fail.
    """
    if not _has_changed(settings.cache):
        return
    try:
        (settings.cache / _STAMP).touch()  # before looking: what comes meanwhile is seen the next time
        for gone in _swept(settings.cache):
            yield _say(f"removed the {gone.kind} {gone.name} from the cache: {gone.why}")
        if not settings.cache_limit:
            return
        recent = time.time() - _SPARED_S
        things = [thing._replace(in_use=thing.in_use or thing.used_at > recent) for thing in survey(settings.cache)]
        shelves = {kind: Shelf(settings.cache / folder) for folder, kind in KINDS.items()}
        for thing, why in chosen(things, Limits(keep_bytes=settings.cache_limit * _MIB)):
            if _remove(shelves[thing.kind], thing.name):
                yield _say(f"removed the {thing.kind} {thing.name} from the cache: {why}")
    except (FarmError, OSError) as error:
        yield _say(f"cannot tidy the cache: {error}")


def _swept(cache: Path, *, dry_run: bool = False) -> Iterator[Removed]:
    for folder, kind in KINDS.items():
        for name, size in Shelf(cache / folder).sweep(dry_run=dry_run).items():
            yield Removed(kind, name, size, "left half made by a process that was killed")


def _say(text: str) -> Chunk:
    return Chunk(Stream.FARM, f"[farm: {text}]\n".encode())


def _has_changed(cache: Path) -> bool:
    """Whether a shelf has been written to since the last time it was tidied."""
    try:
        tidied_at = (cache / _STAMP).stat().st_mtime_ns
    except FileNotFoundError:
        return cache.exists()
    folders = (cache / folder for folder in KINDS)
    return any(folder.stat().st_mtime_ns >= tidied_at for folder in folders if folder.exists())


def _on_shelf(shelf: Shelf, kind: str) -> Iterator[Thing]:
    for name in shelf.names():
        with contextlib.suppress(NotFoundError, FileNotFoundError):  # somebody else has removed it meanwhile
            values = _manifest(shelf.folder / name)
            yield Thing(
                kind,
                name,
                used_at=shelf.used_at(name),
                size_bytes=shelf.size_bytes(name),
                in_use=shelf.in_use(name),
                digest=str(values.get("digest") or values.get("image_digest") or ""),
                image=str(values.get("image", "")),
            )


def _manifest(place: Path) -> dict[str, Any]:
    try:
        values = json.loads((place / MANIFEST).read_bytes())
    except ValueError:  # broken: `farm images verify` tells, and whoever needs it makes it anew
        return {}
    return values if isinstance(values, dict) else {}


def _with_their_images(things: Iterable[Thing]) -> list[Thing]:
    """The same, an image counting as used when the last of its snapshots was."""
    things = list(things)
    used: dict[str, float] = defaultdict(float)
    for thing in things:
        if thing.image:
            used[thing.image] = max(used[thing.image], thing.used_at)
    return [
        thing._replace(used_at=max(thing.used_at, used[thing.name])) if thing.kind == "image" else thing
        for thing in things
    ]


def _remove(shelf: Shelf, name: str) -> bool:
    """Whether it was removed by us: not where somebody uses it by now, or was quicker."""
    try:
        return shelf.remove(name)
    except NotFoundError:
        return False
