"""Reservations: clean guests for people, and failed ones that are kept for them."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from api.auth import Reader, Submitter, TheServer
from api.params import Key
from api.problems import also
from farm.errors import ForbiddenError
from farm.model import ExtendRequest, Identity, Reservation, ReservationRequest, Scope

router = APIRouter(tags=["reservations"])

Id = Annotated[
    str, Path(alias="reservation", max_length=1000, description="`reserve-3`, or `RUN/CELL` of a guest that failed.")
]


class Reservations(BaseModel):
    """The guests for people that there are, or will be."""

    reservations: tuple[Reservation, ...]


@router.post(
    "/reservations", status_code=HTTPStatus.CREATED, summary="Reserve a guest", responses=also(HTTPStatus.CONFLICT)
)
def reserve_guest(
    request: ReservationRequest, server: TheServer, identity: Submitter, response: Response, key: Key = None
) -> Reservation:
    """A clean guest, into which the owner of an SSH key gets as root. It waits for room as a run does.

    Its time begins when it is there (`state` is `ready`); then `command` says how to get in from its `host`. With an
    `Idempotency-Key`, a second request with the same key and body gets the reservation of the first.
    """
    made = server.reservations.reserve(
        request,
        hosts=server.fleet.hosts(),
        settle=server.intake.settle,
        limit_s=server.config.hold_limit,
        owner=identity.name,
        now=_now(),
        key=key,
    )
    server.wake()
    response.headers["Location"] = f"/api/v1/reservations/{made.id}"
    return made


@router.get("/reservations", summary="List reservations")
def list_reservations(server: TheServer, identity: Reader) -> Reservations:
    """One's own that have not ended, failed guests that are kept among them; operators see everybody's."""
    everybody = identity.may(Scope.OPERATE)
    return Reservations(reservations=server.reservations.open(None if everybody else identity.name, now=_now()))


@router.get("/reservations/{reservation:path}", summary="Look at a reservation", responses=also(HTTPStatus.FORBIDDEN))
def show_reservation(reservation: Id, server: TheServer, identity: Reader) -> Reservation:
    """One's own, or anybody's for operators; also one that has ended."""
    return _own(server, reservation, identity)


@router.patch("/reservations/{reservation:path}", summary="Extend a reservation", responses=also(HTTPStatus.CONFLICT))
def extend_reservation(reservation: Id, request: ExtendRequest, server: TheServer, identity: Submitter) -> Reservation:
    """Give its guest another end, later or earlier; at the latest `at_most`."""
    found = _own(server, reservation, identity)
    made = server.reservations.extend(found.id, request.until, now=_now())
    detail = {"until": request.until.isoformat()}
    server.access.note(identity.name, "reservation.extend", found.id, detail, now=_now())
    server.wake()
    return made


@router.delete("/reservations/{reservation:path}", status_code=HTTPStatus.ACCEPTED, summary="End a reservation")
def end_reservation(reservation: Id, server: TheServer, identity: Submitter) -> Reservation:
    """Its guest is destroyed. Nothing happens where it has ended."""
    found = _own(server, reservation, identity)
    made = server.reservations.release(found.id, now=_now())
    server.access.note(identity.name, "reservation.release", found.id, {}, now=_now())
    server.wake()
    return made


def _own(server: TheServer, reservation: str, identity: Identity) -> Reservation:
    found = server.reservations.find(reservation, now=_now())
    if found.owner != identity.name and not identity.may(Scope.OPERATE):
        raise ForbiddenError(
            f"cannot do that with {reservation}: it is somebody else's, which takes the scope {Scope.OPERATE}"
        )
    return found


def _now() -> datetime:
    return datetime.now(UTC)
