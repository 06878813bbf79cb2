"""Numbers as a person reads them."""

from __future__ import annotations

from datetime import datetime

from farm.model import State
from farm.report.parts import CellPart, TestCounts

_MINUTE_S = 60
_HOUR_S = 3600
_KIB = 1024
_EXACT_BELOW_S = 10


def duration(seconds: float | None) -> str:
    """`0.25 s`, `12 s`, `3 min 05 s`, `1 h 02 min`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < _EXACT_BELOW_S:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"


def size(count: int) -> str:
    """`812 bytes`, `1.5 KiB`, `2.0 MiB`."""
    if count < _KIB:
        return f"{count} bytes"
    return f"{count / _KIB:.1f} KiB" if count < _KIB * _KIB else f"{count / _KIB / _KIB:.1f} MiB"


def moment(time: datetime | None) -> str:
    """`2025-01-31 14:05:09 UTC`; nothing for None."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC") if time else ""


def tests(counts: TestCounts) -> str:
    """`42 tests`, `2 of 42 tests failed`, `no tests`."""
    if not counts.all:
        return "no tests"
    bad = counts.failed + counts.error
    noun = "test" if counts.all == 1 else "tests"
    return f"{bad} of {counts.all} {noun} failed" if bad else f"{counts.all} {noun}"


def verdict(cell: CellPart) -> str:
    """The verdict in one word; without one `queued`, `running` or `unknown`."""
    if cell.verdict:
        return cell.verdict.value
    return "unknown" if cell.state is State.FINISHED else cell.state.value
