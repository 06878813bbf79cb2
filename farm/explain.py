"""Why a cell is not running yet, or what its verdict rests on, in sentences for a tired engineer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from farm.capacity import Size
from farm.lifecycle import CellState, RunState, due, failed_hosts
from farm.model import (
    CellRecord,
    Host,
    HostMark,
    Mark,
    Matrix,
    Placement,
    State,
    Submission,
)
from farm.places import size_of
from farm.planner import misfit
from farm.report.parts import Line, Name, OutcomePart, Part, Time
from farm.report.words import duration
from farm.schedule import Queue
from farm.tried import AttemptLine, attempts_of, rests_on, under_way, verdict_words
from farm.turns import Situation, ahead, expected_start

_MOST_REFUSALS = 5
"""Hosts that are named where none takes a cell."""


class HostLine(Part):
    """What a host has to do with a cell that waits."""

    name: Line
    may: bool
    """Whether the cell may go there, as soon as there is room."""
    why: Line


class Explanation(Part):
    """Where a cell stands, and why."""

    run: Name
    cell: Name
    state: State | None
    """null: it was excluded, and is no cell of the run."""
    headline: Line
    """One sentence for a person."""
    reasons: tuple[Line, ...]
    """Of a cell that waits: what keeps it from starting, what weighs most first. Of another: what decided."""
    hosts: tuple[HostLine, ...]
    """Of a cell that waits: every host."""
    place: int | None
    """Among all cells that wait, from 1; null where it does not wait, or very far behind."""
    starts_in_s: float | None
    """When it is expected to start, by how long cells took before; null where that cannot be told."""
    expected: Time | None
    """The same as a time."""
    outcome: OutcomePart | None
    attempts: tuple[AttemptLine, ...]


def excluded(run: str, cell: str, reason: str) -> Explanation:
    """Of a combination that was left out."""
    return _explanation(
        run, cell, state=None, headline="It was left out, and never was a cell of this run."
    ).model_copy(update={"reasons": (reason,)})


def explain(run: str, submission: Submission, record: CellRecord, state: RunState, farm: Situation) -> Explanation:
    """Where a cell of a run stands."""
    attempts = tuple(attempts_of(record, submission))
    outcome = OutcomePart.model_validate(record.outcome) if record.outcome else None
    found = _explanation(run, record.id, state=record.state, headline="").model_copy(
        update={"attempts": attempts, "outcome": outcome}
    )
    if record.outcome:
        return found.model_copy(
            update={"headline": verdict_words(record.outcome), "reasons": tuple(rests_on(record.outcome, record))}
        )
    last = record.last
    if last and last.state is not State.FINISHED:
        return found.model_copy(update={"headline": under_way(last, farm.now)})
    cell = next(one for one in state.cells if one.id == record.id)
    return _waits(found, Case(run, submission, record.placement, cell, state, farm))


def _explanation(run: str, cell: str, *, state: State | None, headline: str) -> Explanation:
    return Explanation(
        run=run,
        cell=cell,
        state=state,
        headline=headline,
        reasons=(),
        hosts=(),
        place=None,
        starts_in_s=None,
        expected=None,
        outcome=None,
        attempts=(),
    )


# --- a cell that waits ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A cell that waits, and all that has to do with it."""

    run: str
    submission: Submission
    placement: Placement
    cell: CellState
    state: RunState
    farm: Situation


def _waits(found: Explanation, case: Case) -> Explanation:
    hosts = tuple(what_hosts_say(case))
    reasons = tuple(reasons_of(case, hosts))
    starts_in_s = expected_start(case.farm, case.run, case.cell.id)
    again = f" for attempt {len(case.cell.attempts) + 1}" if case.cell.attempts else ""
    return found.model_copy(
        update={
            "headline": f"It waits{again}: {reasons[0]}."
            if reasons
            else f"It starts now{again}: nothing is in its way.",
            "reasons": reasons,
            "hosts": hosts,
            "place": case.farm.turns.get((case.run, case.cell.id)),
            "starts_in_s": starts_in_s,
            "expected": None if starts_in_s is None else case.farm.now + timedelta(seconds=starts_in_s),
        }
    )


def reasons_of(case: Case, hosts: Sequence[HostLine]) -> Iterator[str]:
    """What keeps a cell from starting, by what hosts say of it; the first alone would be enough."""
    if case.placement.problem:
        yield case.placement.problem
        return
    if case.state.cancel_requested or case.cell.cancel_requested:
        yield "it was cancelled, and is about to be concluded"
        return
    if case.farm.nobody and case.submission.served:
        yield case.farm.nobody
    if (wait_s := (due(case.cell) - case.farm.now).total_seconds()) > 0:
        spoilt = case.cell.attempts[-1].number
        yield f"infrastructure spoilt attempt {spoilt}, and it is tried again in {duration(wait_s)} (back-off)"
    yield from _limits(case)
    yield from _room(case, hosts)
    yield from _others(case)


def _limits(case: Case) -> Iterator[str]:
    """Whether its run or its user has as much under way as may be."""
    most = case.state.max_parallel
    if most is not None and (under_way := sum(1 for one in case.state.cells if one.running)) >= most:
        yield f"its run may have {_count(most, 'cell')} under way at once, and has {under_way} (max-parallel)"
    owner = case.submission.owner
    limit = case.farm.limits.limit(owner)
    if limit is not None and (mine := sum(1 for one in case.farm.guests if one.owner == owner)) >= limit:
        yield f"{owner} may have {_count(limit, 'guest')} at once, and has {mine} (user limit)"


def _room(case: Case, hosts: Sequence[HostLine]) -> Iterator[str]:
    """Whether any host takes it, and has room."""
    able = [line.name for line in hosts if line.may]
    if not hosts:
        yield "there is no host"
        return
    if not able:
        said = "; ".join(f"{line.name} {line.why}" for line in hosts[:_MOST_REFUSALS])
        yield f"no host takes it now: {said}"
        return
    if not any(case.farm.left[host].holds(size_of(case.submission.plan.matrix.guest)) for host in able):
        yield f"there is no room now on {_named(able)} (capacity)"


def _others(case: Case) -> Iterator[str]:
    """Whose turn comes before, and why."""
    by_run = {queue.run: queue for queue in case.farm.queues}
    kinds: dict[str, Counter[str]] = {}
    for run, count in ahead(case.farm, case.run, case.cell.id).items():
        kinds.setdefault(_why_before(by_run[run], case.run, case.submission), Counter())[run] = count
    for why, runs in kinds.items():
        count = sum(runs.values())
        yield f"{_count(count, 'cell')} of {_named(list(runs))} {'comes' if count == 1 else 'come'} before it: {why}"


def _why_before(other: Queue, run: str, submission: Submission) -> str:
    if other.run == run:
        return "they stand before it in the order of the run, in which the longest come first"
    if other.priority > submission.priority:
        return f"their priority is higher than its own, {submission.priority}"
    if other.owner != submission.owner:
        return "users take turns, and who has less under way comes first"
    return "an older run of the same user comes first"


def what_hosts_say(case: Case) -> Iterator[HostLine]:
    """Whether each host takes a cell, and why or why not."""
    placement, farm = case.placement, case.farm
    matrix, failed = case.submission.plan.matrix, failed_hosts(case.cell)
    marks, left = {mark.name: mark for mark in farm.marks}, farm.left
    fitting = {host.name for host in farm.hosts if host.name in left and not misfit(placement, matrix, host)}
    for host in sorted(farm.hosts, key=lambda one: one.name):
        if why := _refusal(host, marks.get(host.name), placement, matrix, farm.now):
            yield HostLine(name=host.name, may=False, why=why)
        elif host.name in failed and fitting - failed:
            yield HostLine(name=host.name, may=False, why="has failed it before; it goes elsewhere first")
        else:
            yield HostLine(name=host.name, may=True, why=_left(left[host.name], host, size_of(matrix.guest)))
    there = {host.name for host in farm.hosts}
    for name in sorted(set(placement.hosts) - there):
        yield HostLine(name=name, may=False, why="was there when the run was planned, and is gone")


def _refusal(host: Host, mark: HostMark | None, placement: Placement, matrix: Matrix, now: datetime) -> str:
    """Why a host takes a cell neither now nor when it has room; empty: it may."""
    return (mark and _mark_words(mark, now)) or host.shortage or misfit(placement, matrix, host) or ""


def _mark_words(mark: HostMark, now: datetime) -> str:
    """Why a host takes no work, and when that may change: `has failed: …; tested again in 40 s`."""
    words = {Mark.DRAINED: "is drained", Mark.FAILED: "was taken out", Mark.FULL: "is full"}[mark.mark]
    if mark.due is None:
        return f"{words}: {mark.reason}"
    wait_s = (mark.due - now).total_seconds()
    return f"{words}: {mark.reason}; it is tested {f'in {duration(wait_s)}' if wait_s > 0 else 'now'}"


def _left(left: Size, host: Host, size: Size) -> str:
    taken = f"{host.vcpus - left.vcpus} of {host.vcpus} vCPUs and {host.memory_mib - left.memory_mib} of"
    taken += f" {host.memory_mib} MiB are taken"
    return f"has room: {taken}" if left.holds(size) else f"has no room: {taken}"


def _named(names: Sequence[str]) -> str:
    most = 4
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
