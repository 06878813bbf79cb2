"""What the farm keeps on a host, and what of it may go. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from runners.images.shelf import doomed

SPARED_S = 3600.0
"""What was used so recently is never pruned: somebody may be about to rest a guest on it."""
_KIB = 1024


class Kept(NamedTuple):
    """An image in a host's pool."""

    digest: str
    used_at: float
    """Seconds since 1970, by the host's clock."""
    size_bytes: int
    in_use: bool
    """A guest rests on it, of this farm or of another."""


def read_kept(said: str) -> tuple[Kept, ...]:
    """What `scripts/kept.sh` says."""
    lines = [line.split() for line in said.splitlines()]
    used = {words[1] for words in lines if words[0] == "used"}
    return tuple(
        Kept(words[1], float(words[2]), int(words[3]) * _KIB, words[1] in used)
        for words in lines
        if words[0] == "image"
    )


def chosen(images: Collection[Kept], *, older_than_s: float, keep_bytes: float, now: float) -> tuple[Kept, ...]:
    """Those of a pool's images that are to be removed, in this order; see `Pool.prune`."""
    free = {one.digest: one for one in images if not one.in_use and one.used_at < now - SPARED_S}
    kept_anyway = sum(one.size_bytes for one in images if one.digest not in free)
    names = doomed(
        ((one.digest, one.used_at, one.size_bytes) for one in free.values()),
        older_than_s=older_than_s,
        keep_bytes=keep_bytes - kept_anyway,
    )
    return tuple(free[name] for name in names)
