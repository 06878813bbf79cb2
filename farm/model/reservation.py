"""Guests that are kept for a person: reserved ones, and those of cells that failed."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from farm.model.attempt import AttemptKey, Evidence
from farm.model.axes import NO_LAYER
from farm.model.base import Model
from farm.model.fields import LayerName, Name
from farm.model.matrix import CloudImage, GuestSpec, Layer
from farm.model.request import Labels, Seconds
from farm.model.sshkey import SshKey

RESERVATION = "reservation"
"""The label of a run that is a reservation."""

Word = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]*$")]


class WebImage(CloudImage):
    """A disk that others have made, from the web: not a file of the machine that the farm runs on."""

    cloud: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2000)]
    """An https: or http: URL."""


class ReservationRequest(Model):
    """A clean guest that somebody wants for a while."""

    image: Word
    """`debian-13`, or a name of `images`."""
    arch: Word
    hypervisor: Word = "auto"
    for_s: Annotated[Seconds, Field(gt=0)] = Field(alias="for")
    """How long it is wanted from when it is there: seconds, or `2h`."""
    ssh_key: SshKey
    """Whose owner gets in, as root."""
    guest: GuestSpec = GuestSpec()
    """The machine, with the packages that its image has to hold."""
    with_: Annotated[str, Field(alias="with", min_length=1, max_length=128)] = NO_LAYER
    """Names of `layers`, joined by `+`."""
    layers: Annotated[dict[LayerName, Layer], Field(max_length=32)] = Field(default_factory=dict)
    images: Annotated[dict[Name, WebImage], Field(max_length=32)] = Field(default_factory=dict)
    labels: Labels = Field(default_factory=dict)
    priority: Annotated[int, Field(ge=0, le=100)] = 50


class ExtendRequest(Model):
    """Another end for a guest that is kept."""

    until: AwareDatetime


class HoldState(StrEnum):
    """Where a guest for a person is in its life."""

    WAITING = "waiting"
    """It is not there yet."""
    READY = "ready"
    ENDING = "ending"
    """It is being destroyed."""
    ENDED = "ended"


class HoldRecord(Model):
    """That the guest of an attempt is, or was, kept."""

    key: AttemptKey
    owner: str
    command: str
    since: datetime
    until: datetime
    ended: datetime | None = None
    evidence: Evidence
    """What was known when it began: the verdict rests on it, whatever ends the attempt."""


class Reservation(Model):
    """A guest for a person: one that was reserved, or that of a cell that failed."""

    id: str
    """Of a reserved one its run, of a cell `RUN/CELL`."""
    run: str
    cell: str
    attempt: int | None
    """None while there is none."""
    reserved: bool
    """False: its cell failed, and it was kept."""
    owner: str
    state: HoldState
    hypervisor: str
    host: str
    """Where it runs; empty while that is not known."""
    command: str
    """How to get in, on its host; empty while it is not there."""
    since: datetime | None
    """When it was there."""
    until: datetime | None
    """When it ends, if nobody ends it earlier or extends it."""
    at_most: datetime | None
    """The latest end that it can get."""
    ended: datetime | None
    summary: str
    """What the cell came to, of an ended one."""
