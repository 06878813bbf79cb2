"""The hosts, the images, and what waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Form, Query, Response

from api import hosts as api
from api.apart import apart
from dashboards.route import router as new_router
from dashboards.visit import Operating, Reading, see
from farm.explain import GONE, NO_HOST, nowhere, refusal
from farm.fleet import looks
from farm.model import Host, HostMark, Matrix, Placement, RunRecord, State
from farm.places import Places

router = new_router()

_MOST_RUNS = 50
_MOST_CELLS = 30
"""Of a run, on the page of the queue."""


@dataclass(frozen=True)
class Waiting:
    """A cell that has not begun, and why."""

    cell: str
    why: str
    expected_s: float | None


@dataclass(frozen=True)
class RunLine:
    """An unfinished run: what of it waits, and what runs."""

    run: RunRecord
    counts: Mapping[State, int]
    waiting: tuple[Waiting, ...]
    left: int
    """How many more cells wait than are shown."""


@router.get("/hosts")
def hosts(visit: Reading) -> Response:
    """The hosts."""
    found = looks(visit.server.store, visit.server.fleet.hosts())
    return visit.page(
        "hosts.html", lines=[one for one in found if one.host], gone=[one for one in found if not one.host]
    )


@router.post("/hosts/{host}/drain")
def drain(visit: Operating, host: str, reason: Annotated[str, Form(max_length=500, pattern=r"\S")]) -> Response:
    """It gets nothing new from now on."""
    api.drain_host(host, api.DrainRequest(reason=reason.strip()), visit.server, visit.identity)
    return see("/hosts")


@router.post("/hosts/{host}/enable")
def enable(visit: Operating, host: str) -> Response:
    """It gets work again."""
    api.enable_host(host, visit.server, visit.identity)
    return see("/hosts")


@router.get("/images")
async def images(visit: Reading) -> Response:
    """The images of this host."""
    found = await apart(visit.request, visit.server.images.all)
    return visit.page("images.html", images=found)


@router.get("/images/diff")
async def image_diff(
    visit: Reading, before: Annotated[str, Query(max_length=300)], after: Annotated[str, Query(max_length=300)]
) -> Response:
    """From one image to another."""
    found = await apart(visit.request, lambda: visit.server.images.diff(before, after))
    return visit.page("image_diff.html", found=found)


@router.get("/images/{name:path}")
async def image(visit: Reading, name: str) -> Response:
    """One image: `debian-13/riscv64`, or the first digits of its digest."""
    facts = await apart(visit.request, lambda: visit.server.images.show(name))
    return visit.page("image.html", facts=facts, image=facts.image)


@router.get("/queue")
def queue(visit: Reading) -> Response:
    """What waits, in the order in which it gets its turn, and why."""
    store = visit.server.store
    ids = store.served()
    every, marks = visit.server.fleet.hosts(), store.hosts.all()
    farm = _Farm(every, {mark.name: mark for mark in marks}, Places(every, {mark.name for mark in marks}))
    guests = Counter(guest.host for guest in visit.server.details.guests())
    lines = [_line(store.outline(run), farm, first=run == ids[0]) for run in ids[:_MOST_RUNS]]
    return visit.page("queue.html", lines=lines, left=max(0, len(ids) - _MOST_RUNS), guests=guests, hosts=every)


@dataclass(frozen=True)
class _Farm:
    """What decides whether a cell can begin."""

    hosts: Sequence[Host]
    marks: Mapping[str, HostMark]
    places: Places
    """Where cells may go, as the hosts are now."""


def _line(run: RunRecord, farm: _Farm, *, first: bool) -> RunLine:
    queued = [cell for cell in run.cells if cell.state is State.QUEUED]
    counts = Counter(cell.state for cell in run.cells)
    common = _why(run, counts[State.RUNNING], first=first)
    waiting = [
        Waiting(
            cell=cell.id,
            why=cell.placement.problem or _nowhere(cell.placement, run.submission.plan.matrix, farm) or common,
            expected_s=cell.placement.expected_s,
        )
        for cell in queued[:_MOST_CELLS]
    ]
    return RunLine(run, counts, tuple(waiting), max(0, len(queued) - _MOST_CELLS))


def _nowhere(placement: Placement, matrix: Matrix, farm: _Farm) -> str:
    """Why no host takes a cell, as `farm explain` says it; empty where one may."""
    if farm.places.of(placement, matrix):
        return ""
    now, there = datetime.now(UTC), {host.name for host in farm.hosts}
    lines = [
        (host.name, refusal(host, farm.marks.get(host.name), placement, matrix, now))
        for host in sorted(farm.hosts, key=lambda one: one.name)
    ]
    lines += [(name, GONE) for name in sorted(set(placement.hosts) - there)]
    return nowhere(lines) if lines else NO_HOST


def _why(run: RunRecord, running: int, *, first: bool) -> str:
    """Why a cell that could run does not."""
    limits = [limit for limit in (run.submission.plan.matrix.max_parallel, run.submission.max_parallel) if limit]
    if limits and running >= min(limits):
        return f"the run may have {min(limits)} cells at once"
    return "waits for room on a host" + ("" if first else "; the runs above it come first")
