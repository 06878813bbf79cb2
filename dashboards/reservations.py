"""Guests for people: those that there are, and a form for another one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Form, Query, Response
from pydantic import BaseModel

from api import reservations as api
from dashboards.forms import Refusal, refused
from dashboards.route import router as new_router
from dashboards.visit import Reading, Submitting, Visit, see
from farm.errors import ConflictError
from farm.model import AUTO, ExtendRequest, HoldState, Reservation, ReservationRequest, Scope

router = new_router()

_LONGER = {"30 minutes": 1_800, "1 hour": 3_600, "4 hours": 14_400, "1 day": 86_400, "3 days": 259_200}
"""How much later a guest may end; seconds."""
_ANSWERED = frozenset({HoldState.WAITING, HoldState.ENDING})
"""What becomes of them is not up to who looks at them: the page looks again."""

Line = Annotated[str, Form(max_length=200)]
Seconds = Annotated[int, Form(ge=60, le=604_800)]


class Wish(BaseModel):
    """The form for a guest, as it was filled in."""

    image: Line = ""
    arch: Line = ""
    hypervisor: Line = AUTO
    time: Line = "2h"
    vcpus: Annotated[int, Form(ge=1, le=64)] = 1
    memory: Line = "512M"
    disk: Line = "2G"
    packages: Annotated[str, Form(max_length=4_000)] = ""
    network: Line = "isolated"
    ssh_key: Annotated[str, Form(max_length=8_000)] = ""
    key: Line = ""
    """Of the form itself: sent twice, it makes one guest."""

    def request(self) -> ReservationRequest:
        """What is asked for. Raises ValidationError."""
        sizes = {"memory": self.memory.strip(), "disk": self.disk.strip()}
        guest = {name: value for name, value in sizes.items() if value} | {"vcpus": self.vcpus}
        wanted = {
            "image": self.image.strip(),
            "arch": self.arch,
            "hypervisor": self.hypervisor,
            "for": self.time.strip(),
            "ssh_key": self.ssh_key.strip(),
            "guest": {**guest, "packages": self.packages.split(), "network": self.network},
        }
        return ReservationRequest.model_validate(wanted)


@dataclass(frozen=True)
class GuestLine:
    """A guest, and what may be done with it."""

    guest: Reservation
    anchor: str
    """The id of its part of the page; ids of cells may hold anything."""
    left_s: float | None
    """Until its end."""
    moves: bool
    """It is not what it will be."""


@router.get("/reservations")
def reservations(visit: Reading, whose: Annotated[str, Query(max_length=10)] = "") -> Response:
    """The visitor's own; for operators everybody's."""
    return _page(visit, Wish(), whose=whose)


@router.post("/reservations")
def reserve(visit: Submitting, wish: Annotated[Wish, Form()]) -> Response:
    """Reserve a guest."""
    refusal = refused(
        lambda: api.reserve_guest(wish.request(), visit.server, visit.identity, Response(), wish.key or None)
    )
    return _page(visit, wish, refusal) if refusal else see("/reservations")


@router.post("/reservations/{reservation:path}/extend")
def extend(visit: Submitting, reservation: str, more: Seconds) -> Response:
    """Have it end so much later."""
    found = api.show_reservation(reservation, visit.server, visit.identity)
    if found.until is None:
        raise ConflictError(f"cannot extend {reservation}: its guest is not there", hint="its time begins when it is")
    request = ExtendRequest(until=found.until + timedelta(seconds=more))
    api.extend_reservation(reservation, request, visit.server, visit.identity)
    return see("/reservations")


@router.post("/reservations/{reservation:path}/release")
def release(visit: Submitting, reservation: str) -> Response:
    """End it."""
    api.end_reservation(reservation, visit.server, visit.identity)
    return see("/reservations")


def _page(visit: Visit, wish: Wish, refusal: Refusal | None = None, whose: str = "") -> Response:
    everybody = visit.identity.may(Scope.OPERATE)
    own = whose == "own" or not everybody
    found = visit.server.reservations.open(visit.identity.name if own else None, now=visit.now)
    return visit.page(
        "reservations.html",
        status=refusal.status if refusal else HTTPStatus.OK,
        lines=[_line(one, visit.now) for one in found],
        own=own,
        everybody=everybody,
        longer=_LONGER,
        wish=wish.model_copy(update={"key": secrets.token_hex(8)}),
        problem=refusal.why if refusal else "",
        limit_s=visit.server.config.hold_limit,
        **_choices(visit),
    )


def _line(one: Reservation, now: datetime) -> GuestLine:
    digest = hashlib.sha256(one.id.encode()).hexdigest()[:12]
    left_s = max(0.0, (one.until - now).total_seconds()) if one.until else None
    return GuestLine(one, f"guest-{digest}", left_s, one.state in _ANSWERED)


def _choices(visit: Visit) -> dict[str, Any]:
    """What hosts can run, for the lists of the form."""
    offers = [offer for host in visit.server.fleet.hosts() for offer in host.offers if not offer.problem]
    parts: dict[str, Callable[[Any], str]] = {"arches": lambda one: one.arch, "hypervisors": lambda one: one.hypervisor}
    found = {name: sorted({part(offer) for offer in offers}) for name, part in parts.items()}
    return found | {"hypervisors": [AUTO, *found["hypervisors"]]}
