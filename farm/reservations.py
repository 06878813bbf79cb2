"""Guests for people: reserved ones, and those of cells that failed. What REST and the command line ask for.

A reservation is a run of a matrix of one cell, so that it waits, takes room, has an owner and is recorded as any other;
only that nothing is tested in its guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

from farm.errors import ConfigError, ConflictError, MatrixError, NotFoundError, PlanError
from farm.matrix import expansion
from farm.model import (
    AUTO,
    NO_LAYER,
    NO_SOURCE,
    RESERVATION,
    CellRecord,
    HoldRecord,
    HoldState,
    Host,
    Matrix,
    Plan,
    Reservation,
    ReservationRequest,
    RunQuery,
    RunRecord,
    State,
    Submission,
)
from farm.once import once
from farm.planner import plan
from farm.report.words import duration
from farm.store import Store
from farm.store.keys import Claim

NAME = "reserve"
"""Of the matrix: reservations are the runs `reserve-1`, `reserve-2` …"""
YES = "yes"
"""The value of their label."""
_NOTHING = ":"
"""A matrix has a test; this one is never run."""
_MOST = 500


def matrix_for(request: ReservationRequest) -> Matrix:
    """The matrix of the one cell that is wanted."""
    axes = {
        "image": (request.image,),
        "arch": (request.arch,),
        "hypervisor": (request.hypervisor,) if request.hypervisor != AUTO else (),
        "with": (request.with_,) if request.with_ != NO_LAYER else (),
    }
    return Matrix(
        name=NAME,
        axes={axis: values for axis, values in axes.items() if values},
        images=dict(request.images),
        layers=request.layers,
        guest=request.guest.model_copy(update={"min_ready": 0}),
        test=_NOTHING,
    )


def planned(request: ReservationRequest, hosts: Sequence[Host]) -> Plan:
    """Where its guest would run. Raises ConfigError for a name that there is not, PlanError where it fits nowhere."""
    matrix = matrix_for(request)
    try:
        found = plan(matrix, expansion(matrix), hosts)
    except MatrixError as error:
        wrong = "; ".join(problem.what for problem in error.problems)
        raise ConfigError(f"cannot reserve {request.image}/{request.arch}: {wrong}") from error
    if problem := found.placements[0].problem:
        raise PlanError(f"cannot reserve {request.image}/{request.arch}: {problem}", hint="see `farm hosts`")
    return found


def submission_of(request: ReservationRequest, settled: Plan, *, limit_s: float) -> Submission:
    """What is stored of a reservation. Raises ConfigError where it is for longer than the limit."""
    if request.for_s > limit_s:
        raise ConfigError(
            f"cannot reserve a guest for {duration(request.for_s)}: {duration(limit_s)} is the longest here",
            hint="reserve it for less; it can be extended up to that",
        )
    return Submission(
        plan=settled,
        source=NO_SOURCE,
        reserved_s=request.for_s,
        ssh_key=request.ssh_key,
        hold_limit_s=limit_s,
        labels={**request.labels, RESERVATION: YES},
        priority=request.priority,
    )


class Reservations:
    """The guests for people of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reserve(
        self,
        request: ReservationRequest,
        *,
        hosts: Sequence[Host],
        settle: Callable[[Plan], Plan],
        limit_s: float,
        owner: str,
        now: datetime,
        key: str | None = None,
    ) -> Reservation:
        """Store a reservation that `farm serve` carries out. With a key of its owner's, the one that it made before.

        Raises ConfigError, PlanError, what `settle` does, and ConflictError for the key.
        """

        def make(claim: Claim | None) -> RunRecord:
            wanted = submission_of(request, settle(planned(request, hosts)), limit_s=limit_s)
            owned = wanted.model_copy(update={"owner": owner, "served": True})
            return self._store.create_run(owned, now=now, claim=claim)

        return self.find(once(self._store, request, make, owner=owner, key=key).id, now=now)

    def open(self, owner: str | None = None, *, now: datetime) -> tuple[Reservation, ...]:
        """Those that have not ended, of somebody or of all: first the guests that are there."""
        held = [self._of(one.key.run, one.key.cell, one, now) for one in self._store.holds.open(owner)]
        there = {one.run for one in held}
        others = (found for found in self._unfinished(owner) if found[0] not in there)
        moving = (self._of(run, cell, self._store.holds.last(run, cell), now) for run, cell in others)
        return (*held, *(one for one in moving if one.state is not HoldState.ENDED))

    def find(self, id_: str, *, now: datetime) -> Reservation:
        """One by its id, `reserve-3` or `demo-7/debian-13/s390x`. Raises NotFoundError."""
        run_id, _, cell = id_.partition("/")
        if not cell:
            run = self._store.outline(run_id)
            if not run.submission.reserved_s:
                raise NotFoundError(
                    f"cannot find the reservation {id_!r}: {run_id} is none",
                    hint="a failed guest that is kept is named RUN/CELL: see `farm reservations`",
                )
            cell = run.cells[0].id
        return self._of(run_id, cell, self._store.holds.last(run_id, cell), now)

    def extend(self, id_: str, until: datetime, *, now: datetime) -> Reservation:
        """Give it another end; one that has passed ends it now.

        Raises NotFoundError, ConflictError, and ConfigError where that is later than may be.
        """
        found = self.find(id_, now=now)
        if found.state is HoldState.WAITING:
            raise ConflictError(f"cannot extend {id_}: its guest is not there yet", hint="its time begins when it is")
        if found.at_most and until > found.at_most:
            raise ConfigError(
                f"cannot extend {id_} to {_time(until)}: it can be kept until {_time(found.at_most)}, no longer",
                hint="reserve another one",
            )
        held = self._store.holds.last(found.run, found.cell)
        if held is None or not self._store.holds.move(held.key, max(until, now), now=now):
            raise ConflictError(f"cannot extend {id_}: it has ended", hint="reserve another one")
        return self.find(id_, now=now)

    def release(self, id_: str, *, now: datetime) -> Reservation:
        """End it; nothing happens where it has ended. Raises NotFoundError."""
        found = self.find(id_, now=now)
        held = self._store.holds.last(found.run, found.cell)
        if found.state is HoldState.READY and held:
            self._store.holds.move(held.key, now, now=now)
        elif found.state is HoldState.WAITING:
            self._store.request_cancel(found.run, now=now)
        return self.find(id_, now=now)

    def _is_being_cancelled(self, run_id: str) -> bool:
        state = self._store.state(run_id)
        return state.cancel_requested or any(cell.cancel_requested for cell in state.cells)

    def _unfinished(self, owner: str | None) -> Iterator[tuple[str, str]]:
        """Runs that are reservations and go on, with their cells; first those that have begun."""
        query = RunQuery(owner=owner, labels={RESERVATION: YES}, limit=_MOST)
        # In the order in which a run goes through them: one that begins between the two is found twice, not never.
        queued, running = (
            [found.id for found in self._store.runs(query.model_copy(update={"state": state}))]
            for state in (State.QUEUED, State.RUNNING)
        )
        for id_ in dict.fromkeys((*running, *queued)):
            run = self._store.outline(id_)
            if run.submission.reserved_s:
                yield run.id, run.cells[0].id

    def _of(self, run_id: str, cell_id: str, held: HoldRecord | None, now: datetime) -> Reservation:
        run = self._store.outline(run_id)
        cell = next((one for one in run.cells if one.id == cell_id), None)
        if cell is None or not (held or run.submission.reserved_s):
            raise NotFoundError(
                f"cannot find a guest of {run_id}/{cell_id} that is kept: there was none",
                hint="see `farm reservations`",
            )
        if run.submission.reserved_s and held and cell.last and held.key != cell.last.key:
            held = None  # that guest was lost, and there will be another
        asked = run.submission.reserved_s > 0 and self._is_being_cancelled(run_id)
        return _part(run, cell, held, ending=asked or (held is not None and held.until <= now))


def _part(run: RunRecord, cell: CellRecord, held: HoldRecord | None, *, ending: bool) -> Reservation:
    submission = run.submission
    attempt = next((one for one in cell.attempts if held and one.key == held.key), cell.last)
    facts = attempt.facts if attempt else None
    outcome = attempt.outcome if held and attempt else cell.outcome
    return Reservation(
        id=run.id if submission.reserved_s else f"{run.id}/{cell.id}",
        run=run.id,
        cell=cell.id,
        attempt=attempt.key.number if attempt else None,
        reserved=submission.reserved_s > 0,
        owner=submission.owner,
        state=_state(held, ending=ending, over=outcome is not None),
        hypervisor=facts.hypervisor if facts else cell.placement.hypervisor,
        host=facts.host if facts else "",
        command=held.command if held and not held.ended else "",
        since=held.since if held else None,
        until=held.until if held else None,
        at_most=held.since + timedelta(seconds=submission.hold_limit_s) if held else None,
        ended=attempt.finished if attempt else run.finished,
        summary=outcome.summary if outcome else "",
    )


def _state(held: HoldRecord | None, *, ending: bool, over: bool) -> HoldState:
    if over:
        return HoldState.ENDED
    if ending or (held and held.ended):
        return HoldState.ENDING
    return HoldState.READY if held else HoldState.WAITING


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}"
