"""Numbers as a person reads them."""

from __future__ import annotations

from datetime import datetime

from farm.model import Start, State
from farm.report.parts import CellPart, GuestPart, LimitsPart, SlownessPart, TestCounts, UsagePart

FLAKY = "flaky"
"""The word for a cell that passed only after a failure."""

_MINUTE_S = 60
_HOUR_S = 3600
_KIB = 1024
_EXACT_BELOW = 10
_STARTS = {Start.COLD: "cold boot", Start.RESTORED: "restored from a snapshot"}


def duration(seconds: float | None) -> str:
    """`0.25 s`, `12 s`, `3 min 05 s`, `1 h 02 min`; nothing for None."""
    if seconds is None:
        return ""
    if seconds < _EXACT_BELOW:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"


def size(count: float | None) -> str:
    """`812 bytes`, `1.5 KiB`, `2.0 MiB`; nothing for None."""
    if count is None:
        return ""
    if count < _KIB:
        return f"{count} bytes"
    for unit in ("KiB", "MiB"):
        count /= _KIB
        if count < _KIB:
            return f"{count:.1f} {unit}"
    return f"{count / _KIB:.1f} GiB"


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


def start(guest: GuestPart) -> str:
    """`cold boot`, `restored from a snapshot (shared)`."""
    note = f" ({guest.start_note})" if guest.start_note else ""
    return _STARTS[guest.start] + note


def slowness(found: SlownessPart) -> str:
    """`computing 8.1×, starting programs 19×, disk 3.2×`."""
    return f"computing {_times(found.cpu)}, starting programs {_times(found.fork)}, disk {_times(found.disk)}"


def _times(factor: float) -> str:
    return f"{factor:.0f}×" if factor >= _EXACT_BELOW else f"{factor:.1f}×"


def limits(found: LimitsPart) -> str:
    """`50% of a CPU, disk 20.0 MiB/s`; nothing where none was asked for."""
    words = [f"{found.cpu_percent}% of a CPU"] if found.cpu_percent else []
    words += [f"disk {size(found.disk_bytes_per_s)}/s"] if found.disk_bytes_per_s else []
    words += [f"network {size(found.network_bytes_per_s)}/s"] if found.network_bytes_per_s else []
    return ", ".join(words)


def disk(used: UsagePart) -> str:
    """`1.2 MiB read, 20.0 MiB written`; nothing where it is not known."""
    return _pair(used.disk_read_bytes, "read", used.disk_written_bytes, "written")


def network(used: UsagePart) -> str:
    """`14.6 KiB received, 5.7 KiB sent`; nothing where it is not known."""
    return _pair(used.network_received_bytes, "received", used.network_sent_bytes, "sent")


def _pair(one: int | None, what: str, other: int | None, what_other: str) -> str:
    words = ((one, what), (other, what_other))
    return ", ".join(f"{size(count)} {word}" for count, word in words if count is not None)


def verdict(cell: CellPart) -> str:
    """The verdict in one word, `flaky` for a pass after a failure; without one `queued`, `running` or `unknown`."""
    if cell.outcome and cell.outcome.flaky:
        return FLAKY
    if cell.verdict:
        return cell.verdict.value
    return "unknown" if cell.state is State.FINISHED else cell.state.value
