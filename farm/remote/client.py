"""What a server can be asked for, as the farm's own types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from farm.errors import BusyError, NotFoundError, ServerError
from farm.explain import Explanation
from farm.model import (
    AttemptKey,
    ExtendRequest,
    HostLook,
    Plan,
    RerunRequest,
    Reservation,
    ReservationRequest,
    ResolvedSource,
    RunQuery,
    RunRequest,
    RunSummary,
    State,
)
from farm.remote.wire import Request, Wire, path_of
from farm.report.overview import Overview
from farm.sources.cached import BLOCK_BYTES
from farm.text import shorten

_LONG_S = 3600.0
"""Images may be built before a run is stored."""
_BUSY_S = 5.0
_BUSY_TRIES = 360
_LONGEST_NAME = 200

_T = TypeVar("_T")


class Client:
    """A farm on a server. Every method raises ServerError, and what the server raised."""

    def __init__(self, wire: Wire, pause: Callable[[float], None]) -> None:
        self.wire = wire
        self.pause = pause

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wire.close()

    # --- runs ---------------------------------------------------------------------------------------

    def submit(self, request: RunRequest, *, key: str) -> Overview:
        """Submit a run; the same key again is the same run, also where the first answer was lost."""
        body = request.model_dump(mode="json", exclude_defaults=True)
        asked = Request("POST", "/runs", json=body, headers={"Idempotency-Key": key}, answer_s=_LONG_S)
        return self._patient(Overview, asked)

    def plan(self, request: RunRequest) -> PlannedRun:
        """What a run would do."""
        body = request.model_dump(mode="json", exclude_defaults=True)
        return self._read(PlannedRun, Request("POST", "/plan", json=body))

    def run(self, run: str) -> Overview:
        """A run at a glance; `latest` is the newest."""
        return self._read(Overview, Request("GET", path_of("runs", run)))

    def runs(self, query: RunQuery) -> tuple[RunSummary, ...]:
        """The runs that are asked for, the newest first, a page at a time."""
        found: list[RunSummary] = []
        params = query.model_dump(mode="json", exclude={"labels", "limit", "before"}, exclude_none=True)
        params["label"] = [f"{key}={value}" for key, value in query.labels.items()]
        before = query.before
        while len(found) < query.limit:
            page = params | {"limit": min(query.limit - len(found), 500)} | ({"before": before} if before else {})
            answer = self._read(_RunPage, Request("GET", "/runs", params=page))
            found += answer.runs
            before = answer.next
            if before is None:
                break
        return tuple(found)

    def cancel(self, run: str) -> Overview:
        """Have a run end."""
        return self._read(Overview, Request("POST", path_of("runs", run, "cancel")))

    def cancel_cells(self, run: str, pattern: str) -> Overview:
        """Have cells of a run end."""
        return self._read(Overview, Request("POST", path_of("runs", run, "cells", *pattern.split("/"), "cancel")))

    def explain(self, run: str, cell: str) -> Explanation:
        """Where a cell stands, and why."""
        return self._read(Explanation, Request("GET", path_of("runs", run, "cells", *cell.split("/"), "explain")))

    def rerun(self, run: str, request: RerunRequest) -> Overview:
        """Run cells again, as a run of their own."""
        body = request.model_dump(mode="json", exclude_defaults=True)
        return self._read(Overview, Request("POST", path_of("runs", run, "rerun"), json=body, repeatable=False))

    def report(self, run: str, name: str) -> bytes:
        """A report in one of the formats that the server has."""
        return self.wire.ask(Request("GET", path_of("runs", run, "report", name)))

    # --- logs ---------------------------------------------------------------------------------------

    def logs(self, key: AttemptKey) -> dict[str, int]:
        """The logs of an attempt in the order of its phases, and how many bytes each has by now."""
        found = self._read(_LogList, Request("GET", _attempt(key) + "/logs"))
        return {log.name: log.bytes for log in found.logs}

    def log(self, key: AttemptKey, name: str, start: int = 0) -> bytes:
        """A log as it is now, from a byte on that there is."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        return self.wire.ask(Request("GET", _attempt(key) + path_of("logs", name), headers=headers))

    def attempt(self, key: AttemptKey) -> State:
        """How far an attempt has come."""
        return self._read(_Attempt, Request("GET", _attempt(key))).state

    # --- sources ------------------------------------------------------------------------------------

    def has_source(self, digest: str) -> bool:
        """Whether a source need not be uploaded."""
        try:
            self.wire.ask(Request("GET", path_of("sources", digest)))
        except NotFoundError:
            return False
        return True

    def upload(self, source: ResolvedSource) -> None:
        """Upload a source. Raises ServerError also where something else has arrived."""
        told = self._read(
            _Uploaded,
            Request(
                "POST",
                "/sources",
                params={"name": shorten(source.description, limit=_LONGEST_NAME)},
                content=lambda: _blocks(Path(source.archive)),
                headers={"Content-Type": "application/x-tar"},
                answer_s=_LONG_S,
            ),
        )
        if told.digest != source.digest:
            raise ServerError(f"cannot upload {source.description}: what arrived has another digest, {told.digest}")

    # --- reservations -------------------------------------------------------------------------------

    def reserve(self, request: ReservationRequest, *, key: str) -> Reservation:
        """Reserve a guest; the same key again is the same guest, also where the first answer was lost."""
        body = request.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        asked = Request("POST", "/reservations", json=body, headers={"Idempotency-Key": key}, answer_s=_LONG_S)
        return self._patient(Reservation, asked)

    def reservations(self) -> tuple[Reservation, ...]:
        """One's own that have not ended; for operators everybody's."""
        return self._read(_ReservationList, Request("GET", "/reservations")).reservations

    def reservation(self, id_: str) -> Reservation:
        """One of them, also one that has ended."""
        return self._read(Reservation, Request("GET", _reservation(id_)))

    def extend(self, id_: str, request: ExtendRequest) -> Reservation:
        """Give one another end."""
        return self._read(Reservation, Request("PATCH", _reservation(id_), json=request.model_dump(mode="json")))

    def release(self, id_: str) -> Reservation:
        """End one."""
        return self._read(Reservation, Request("DELETE", _reservation(id_)))

    # --- hosts --------------------------------------------------------------------------------------

    def hosts(self) -> tuple[HostLook, ...]:
        """The hosts: what each can run, what runs there, and whether it gets anything new."""
        return self._read(_HostList, Request("GET", "/hosts")).hosts

    def drain(self, host: str, reason: str) -> HostLook:
        """Give a host nothing new."""
        return self._read(HostLook, Request("POST", path_of("hosts", host, "drain"), json={"reason": reason}))

    def resume(self, host: str) -> HostLook:
        """Give a host work again."""
        return self._read(HostLook, Request("POST", path_of("hosts", host, "enable")))

    # ------------------------------------------------------------------------------------------------

    def _patient(self, kind: type[_T], request: Request) -> _T:
        """The answer to a request with a key, also where an earlier one with it is still being worked on."""
        for _ in range(_BUSY_TRIES):
            try:
                return self._read(kind, request)
            except BusyError:
                self.pause(_BUSY_S)
        return self._read(kind, request)

    def _read(self, kind: type[_T], request: Request) -> _T:
        return self.read(kind, self.wire.ask(request))

    def read(self, kind: type[_T], data: bytes | str) -> _T:
        """An answer as a type; what a newer server adds to it is left out. Raises ServerError."""
        try:
            return TypeAdapter(kind).validate_json(data, extra="ignore")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ServerError(
                f"cannot understand the answer of {self.wire.url}: {place or 'it'}: {first['msg']}",
                hint="is the server's farm older than this one?",
            ) from error


class ForecastPart(BaseModel):
    """How long a run will take."""

    work_s: float
    wall_s: float
    known: int
    unknown: int


class PlannedRun(BaseModel):
    """What a run would do."""

    plan: Plan
    slots: int
    forecast: ForecastPart


class _RunPage(BaseModel):
    runs: tuple[RunSummary, ...]
    next: str | None


class _Uploaded(BaseModel):
    digest: str


class _Log(BaseModel):
    name: str
    bytes: int


class _LogList(BaseModel):
    logs: tuple[_Log, ...]


class _Attempt(BaseModel):
    state: State


class _HostList(BaseModel):
    hosts: tuple[HostLook, ...]


class _ReservationList(BaseModel):
    reservations: tuple[Reservation, ...]


def _reservation(id_: str) -> str:
    return path_of("reservations", *id_.split("/"))


def _attempt(key: AttemptKey) -> str:
    return path_of("runs", key.run, "cells", *key.cell.split("/"), "attempts", str(key.number))


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
