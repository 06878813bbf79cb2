"""What has to hold whatever was broken. Each check gives what is wrong, a line each."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from farm.model import EventRecord, RunRecord, State
from runners.ledger import Entry, is_owned, read
from runners.reaper import orphans
from tests.chaos.acts import untruths
from tests.chaos.processes import Process, processes
from tests.chaos.rebuilt import differences

GONE_S = 30.0
"""By when the reaper has to be done; it looks several times a second, on a machine that may be busy."""
_LASTING = frozenset({"ledger", "reaper.lock", "reaper.log"})

Check = Callable[[RunRecord, tuple[EventRecord, ...]], Iterator[str]]


def one_verdict(run: RunRecord, events: tuple[EventRecord, ...]) -> Iterator[str]:
    """Every cell has exactly one final verdict."""
    told = Counter(event.cell for event in events if event.kind == "cell-finished")
    if run.state is not State.FINISHED:
        yield f"{run.id} has not ended"
    for cell in run.cells:
        if cell.state is not State.FINISHED or cell.outcome is None:
            yield f"{run.id} {cell.id} has no verdict"
        elif told[cell.id] != 1:
            yield f"{run.id} {cell.id} was concluded {told[cell.id]} times"


def true_verdicts(run: RunRecord, _events: tuple[EventRecord, ...]) -> Iterator[str]:
    """No verdict differs from what the script really does, except an error that the infrastructure is blamed for.

    A failure that an attempt came to is not forgotten by its cell.
    """
    for cell in run.cells:
        yield from (f"{run.id} {cell.id}: {line}" for line in untruths(cell))


def attempts_end(run: RunRecord, events: tuple[EventRecord, ...]) -> Iterator[str]:
    """Every attempt that was started has an end, and one only."""
    begun = Counter((event.cell, event.number) for event in events if event.kind == "attempt-started")
    ended = Counter((event.cell, event.number) for event in events if event.kind == "attempt-finished")
    for cell in run.cells:
        for attempt in cell.attempts:
            which = (cell.id, attempt.key.number)
            if attempt.state is not State.FINISHED or attempt.outcome is None:
                yield f"{attempt.key} has no end"
            elif (begun[which], ended[which]) != (1, 1):
                yield f"{attempt.key} began {begun[which]} and ended {ended[which]} times"


def replays(run: RunRecord, events: tuple[EventRecord, ...]) -> Iterator[str]:
    """The event log, played again, gives what the store says, and tells nothing that may not happen."""
    yield from (f"{run.id}: {line}" for line in differences(run, events))


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "one verdict": one_verdict,
        "true verdicts": true_verdicts,
        "attempts end": attempts_end,
        "events replay": replays,
    }
)
"""Of a run that has ended."""


def wrong_with(run: RunRecord, events: tuple[EventRecord, ...]) -> tuple[str, ...]:
    """What is wrong with a run, the name of the check first."""
    return tuple(f"{name}: {line}" for name, check in CHECKS.items() for line in check(run, events))


def leaks(runtime: Path, *, serving: bool, within_s: float = GONE_S) -> tuple[str, ...]:
    """What is there and belongs to nobody who lives, once the reaper has had its time."""
    until = time.monotonic() + within_s
    while (found := tuple(_left(runtime, serving=serving))) and time.monotonic() < until:
        time.sleep(0.1)
    return tuple(f"no leak: {line}" for line in found)


def _left(runtime: Path, *, serving: bool) -> Iterator[str]:
    yield from (f"{orphan.entry.kind} {orphan.entry.value}" for orphan in orphans(runtime))
    owned = {entry.value for path in (runtime / "ledger").glob("*.jsonl") if is_owned(path) for entry in _read(path)}
    for path in runtime.iterdir():
        if path.name not in _LASTING and not any(str(path).startswith(one) for one in owned):
            yield f"the file {path}"
    found = {process.pid: process for process in processes(runtime)}
    for process in found.values():
        if not (serving and (_is_of_the_farm(process, found) or any(one in process.words for one in owned))):
            yield f"the process {process.pid}, {process.kind} {process.words[:200]}"


def _is_of_the_farm(process: Process, others: Mapping[int, Process]) -> bool:
    """A server or a reaper, or something that one has made and waits for."""
    while process.kind not in ("controller", "reaper"):
        if process.parent not in others:
            return False
        process = others[process.parent]
    return True


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        return read(path)
    except FileNotFoundError:
        return ()
