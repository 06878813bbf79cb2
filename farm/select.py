"""Cells by glob: `debian-13/*/qemu`, as `--only` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from farm.errors import NotFoundError, PlanError
from farm.matrix.near import nearest
from farm.model import Cell


def matches(cell_id: str, pattern: str) -> bool:
    """Whether a pattern names a cell.

    It goes segment by segment (`*`, `?`, `[…]` within one, `**` for any number of them, case-sensitive).
    One with fewer segments than the id names everything below it: `debian-13/riscv64` is enough for
    `debian-13/riscv64/qemu/bug=on`.
    """
    segments = cell_id.split("/")
    reached = {0}  # how many segments the pattern may have used up so far
    for part in pattern.strip("/").split("/"):
        if part == "**":
            reached = set(range(min(reached), len(segments) + 1)) if reached else set()
        else:
            reached = {at + 1 for at in reached if at < len(segments) and fnmatchcase(segments[at], part)}
    return bool(reached)


def select(cells: Sequence[Cell], patterns: Sequence[str]) -> tuple[Cell, ...]:
    """The cells that any of the patterns names, in their own order; without patterns all of them.

    Raises PlanError where a pattern names none: what was asked for by name would silently not run.
    """
    for pattern in patterns:
        if not any(matches(cell.id, pattern) for cell in cells):
            raise _no_match(pattern, [cell.id for cell in cells])
    return tuple(cell for cell in cells if not patterns or any(matches(cell.id, pattern) for pattern in patterns))


def choose(ids: Sequence[str], pattern: str, run: str) -> str:
    """The one cell of a run that a pattern names. Raises NotFoundError."""
    found = [cell for cell in ids if cell == pattern] or [cell for cell in ids if matches(cell, pattern)]
    if len(found) != 1:
        cells = ", ".join((found or list(ids))[:8])
        problem = f"{len(found)} cells match" if found else "no cell matches"
        raise NotFoundError(f"cannot choose a cell of {run} by {pattern!r}: {problem}", hint=f"one of: {cells}")
    return found[0]


def _no_match(pattern: str, ids: Sequence[str]) -> PlanError:
    near = nearest(pattern, ids, count=3) or ids[:3]
    return PlanError(f"cannot select {pattern!r}: no cell matches", hint=f"the nearest cells: {', '.join(near)}")
