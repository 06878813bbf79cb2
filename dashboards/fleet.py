"""The hosts, the images, and what waits for them."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import Form, Query, Response

from api import hosts as api
from api.apart import apart
from dashboards.route import router as new_router
from dashboards.visit import Operating, Reading, see
from farm.fleet import looks

router = new_router()

_MOST_RUNS = 50
_MOST_CELLS = 30
"""Of a run, on the page of the queue."""


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
    runs, count = visit.server.explainer.queue(most_runs=_MOST_RUNS, most_cells=_MOST_CELLS)
    guests = Counter(guest.host for guest in visit.server.details.guests())
    hosts = visit.server.fleet.hosts()
    return visit.page("queue.html", runs=runs, left=count - len(runs), guests=guests, hosts=hosts)
