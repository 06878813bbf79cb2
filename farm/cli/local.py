"""The farm of this machine: its store, and `farm serve` on the same store for what is submitted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from farm import fleet
from farm.cancelling import cancel_cells
from farm.cli.archives import LocalArchive
from farm.cli.farms import Planned, Wanted
from farm.cli.here import probe, settled
from farm.config import Settings
from farm.estimate import capacity, forecast
from farm.explain import Explanation
from farm.explainer import Explainer
from farm.intake import Fleet, Intake
from farm.matrix import load
from farm.model import (
    COMMAND_LINE,
    AttemptKey,
    EventRecord,
    Host,
    HostLook,
    RerunRequest,
    Reservation,
    ReservationRequest,
    RunQuery,
    RunSummary,
    State,
    UploadedSource,
    version_of,
)
from farm.model.attempt import LONGEST_HOLD_S
from farm.references import References
from farm.report import FORMATS, document
from farm.report.overview import Overview, overview
from farm.reservations import Reservations
from farm.schedule import Limits
from farm.serverconfig import load_config
from farm.service import Service
from farm.store import Store
from farm.store.access import Access
from farm.store.details import Details
from farm.store.leases import SERVING

_LOOK_S = 0.3
_OWNER = ""
"""Whoever may start programs on this machine."""


def _limits() -> Limits:
    """The server's: as far as this process knows them, from the same farm.toml. Raises ConfigError."""
    named = os.environ.get("FARM_CONFIG")
    return load_config(Path(named) if named else None).limits


@dataclass(frozen=True)
class _Here:
    """A Fleet of one."""

    settings: Settings

    def hosts(self) -> tuple[Host, ...]:
        """This machine, as far as it is known without trying."""
        return (probe().known_host(self.settings),)


class LocalFarm:
    """A Farm."""

    def __init__(self, settings: Settings, cluster: Fleet | None = None) -> None:
        """Its hosts are this machine, or those of a cluster."""
        self._settings = settings
        self._service = Service(settings)
        self._fleet = cluster or _Here(settings)
        self._looked: Callable[[], Iterable[Host]] = cluster.hosts if cluster else self._here_with_room

    @property
    def archive(self) -> LocalArchive:
        """As Farm."""
        return LocalArchive(self._settings, self._store)

    @property
    def _store(self) -> Store:
        return self._service.store

    @property
    def _details(self) -> Details:
        return Details(self._store.engine)

    @property
    def _reservations(self) -> Reservations:
        return Reservations(self._store)

    @property
    def _intake(self) -> Intake:
        return Intake(self._settings, self._store, self._fleet, lambda plan: settled(self._settings, plan))

    def plan(self, file: Path, only: tuple[str, ...]) -> Planned:
        """As Farm."""
        matrix, cells = self._service.read(file)
        hosts = self._fleet.hosts()
        plan = self._service.plan(matrix, cells, hosts, only=only)
        slots = capacity(hosts, matrix.guest)
        slots = min(slots, matrix.max_parallel) if matrix.max_parallel else slots
        return Planned(plan, slots, forecast(plan.placements, slots), all(host.probed for host in hosts))

    def hosts(self) -> tuple[HostLook, ...]:
        """As Farm."""
        return fleet.looks(self._store, self._looked())

    def drain(self, host: str, reason: str) -> HostLook:
        """As Farm; whoever carries runs out finds it in the store."""
        look = fleet.drain(self._store, self._fleet.hosts(), host, reason)
        self._note("host.drain", host, reason=reason)
        return look

    def resume(self, host: str) -> HostLook:
        """As Farm."""
        look = fleet.resume(self._store, self._fleet.hosts(), host)
        self._note("host.enable", host)
        return look

    def _here_with_room(self) -> Iterator[Host]:
        """This machine, which is asked what it has left; those of a cluster say it themselves."""
        from runners.hosts.node import with_room  # noqa: PLC0415 - only where it is asked for

        return (with_room(host, self._settings) for host in self._fleet.hosts())

    def submit(self, wanted: Wanted) -> Overview:
        """As Farm; `farm serve` finds it in the store."""
        read = load(wanted.file)
        source = self._intake.sources.keep(self._service.resolve(read.matrix, wanted.file))
        request = wanted.request.model_copy(
            update={
                "matrix_file": str(wanted.file),
                "source": UploadedSource(upload=source.digest),
                "version": wanted.request.version or version_of(read.matrix.source),
            }
        )
        run = self._intake.take(read, request, owner=_OWNER, key=wanted.key)
        return overview(run, {})

    def cancel(self, run: str) -> Overview:
        """As Farm; whoever carries the run out finds the wish in the store."""
        found = self._service.run(run)
        if self._store.request_cancel(found.id, now=datetime.now(UTC)):
            self._note("run.cancel", found.id)
        return self.look(found.id)

    def rerun(self, run: str, request: RerunRequest) -> Overview:
        """As Farm."""
        return overview(self._intake.rerun(self._service.run(run), request, owner=_OWNER), {})

    def runs(self, limit: int) -> tuple[RunSummary, ...]:
        """As Farm."""
        return self._service.runs(RunQuery(limit=limit))

    def look(self, run: str) -> Overview:
        """As Farm."""
        found = self._service.run(run)
        return overview(found, self._store.test_counts(found.id))

    def files(self, run: str, formats: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """As Farm."""
        report = document(self._service.run(run))
        for name in formats:
            yield name, FORMATS[name].render(report, self._store.files.log).encode()

    def events(self, run: str, after: int = 0) -> Iterator[EventRecord]:
        """As Farm."""
        while True:
            ended = self._details.run_state(run) is State.FINISHED
            while found := self._store.events(after, run_id=run):
                yield from found
                after = found[-1].id
            if ended:
                return
            time.sleep(_LOOK_S)

    def logs(self, run: str, cell: str, number: int) -> Mapping[str, int]:
        """As Farm."""
        return self._store.files.log_sizes(AttemptKey(run=run, cell=cell, number=number))

    def log(self, run: str, cell: str, number: int, name: str, start: int = 0) -> bytes:
        """As Farm."""
        with self._store.files.open_log(AttemptKey(run=run, cell=cell, number=number), name) as file:
            file.seek(start)
            return file.read()

    def has_ended(self, run: str, cell: str, number: int) -> bool:
        """As Farm."""
        return self._details.state(AttemptKey(run=run, cell=cell, number=number)) is State.FINISHED

    def explain(self, run: str, cell: str) -> Explanation:
        """As Farm."""
        run_id = References(self._store).resolve(run)
        return Explainer(self._store, self._fleet, _limits(), self.unserved).explain(run_id, cell)

    def cancel_cells(self, run: str, pattern: str) -> Overview:
        """As Farm; whoever carries the run out finds the wish in the store."""
        run_id = References(self._store).resolve(run)
        if cancelled := cancel_cells(self._store, run_id, pattern, now=datetime.now(UTC)):
            self._note("cell.cancel", run_id, cells=len(cancelled), pattern=pattern)
        return self.look(run_id)

    def reserve(self, request: ReservationRequest) -> Reservation:
        """As Farm; `farm serve` finds it in the store."""
        return self._reservations.reserve(
            request,
            hosts=self._fleet.hosts(),
            settle=lambda plan: settled(self._settings, plan),
            limit_s=LONGEST_HOLD_S,
            owner=_OWNER,
            now=datetime.now(UTC),
        )

    def reservations(self) -> tuple[Reservation, ...]:
        """As Farm."""
        return self._reservations.open(now=datetime.now(UTC))

    def reservation(self, id_: str) -> Reservation:
        """As Farm."""
        return self._reservations.find(id_, now=datetime.now(UTC))

    def extend(self, id_: str, until: datetime) -> Reservation:
        """As Farm; whoever carries it out finds the new end in the store."""
        made = self._reservations.extend(id_, until, now=datetime.now(UTC))
        self._note("reservation.extend", made.id, until=until.isoformat())
        return made

    def release(self, id_: str) -> Reservation:
        """As Farm."""
        made = self._reservations.release(id_, now=datetime.now(UTC))
        self._note("reservation.release", made.id)
        return made

    def unserved(self) -> str:
        """As Farm."""
        if self._store.leases.held(SERVING, now=datetime.now(UTC)):
            return ""
        return f"nobody carries it out: there is no `farm serve` on {self._settings.state}"

    def _note(self, action: str, target: str, **detail: object) -> None:
        Access(self._store.engine).note(COMMAND_LINE, action, target, detail, now=datetime.now(UTC))
