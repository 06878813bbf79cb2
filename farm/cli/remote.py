"""The farm on a server."""

from __future__ import annotations

import ipaddress
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.markup import escape

from farm.cli.farms import Planned, Wanted
from farm.cli.screen import err, print_warnings
from farm.config import Settings
from farm.estimate import Forecast
from farm.explain import Explanation
from farm.matrix import load
from farm.model import (
    AttemptKey,
    EventRecord,
    ExtendRequest,
    HostLook,
    RerunRequest,
    Reservation,
    ReservationRequest,
    RunQuery,
    RunRequest,
    RunSummary,
    State,
    UploadedSource,
    version_of,
)
from farm.remote import Client
from farm.remote.archive import RemoteArchive
from farm.remote.images import RemoteImages
from farm.remote.listen import Listener
from farm.remote.tokens import RemoteTokens
from farm.remote.wire import Wire
from farm.report.overview import Overview
from farm.sources import resolve


@contextmanager
def remote_farm(settings: Settings, url: str, token: str) -> Iterator[RemoteFarm]:
    """A server's farm for as long as this lasts. Raises ConfigError."""
    with Client(Wire(url, token), time.sleep) as client:
        if token and _in_the_clear(url):
            print_warnings(["the token is sent unencrypted: the server's URL is no https one"])
        yield RemoteFarm(settings, client)


class RemoteFarm:
    """A Farm."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client

    @property
    def archive(self) -> RemoteArchive:
        """As Farm."""
        return RemoteArchive(self._client)

    @property
    def images(self) -> RemoteImages:
        """The images of its machine."""
        return RemoteImages(self._client)

    @property
    def tokens(self) -> RemoteTokens:
        """Who may use it."""
        return RemoteTokens(self._client)

    def plan(self, file: Path, only: tuple[str, ...]) -> Planned:
        """As Farm."""
        load(file)  # a mistake is told with its position without asking anybody
        found = self._client.plan(_request(file, RunRequest(only=only)))
        told = Forecast(**found.forecast.model_dump())
        return Planned(found.plan, found.slots, told, probed=True)

    def hosts(self) -> tuple[HostLook, ...]:
        """As Farm."""
        return self._client.hosts()

    def drain(self, host: str, reason: str) -> HostLook:
        """As Farm."""
        return self._client.drain(host, reason)

    def resume(self, host: str) -> HostLook:
        """As Farm."""
        return self._client.resume(host)

    def submit(self, wanted: Wanted) -> Overview:
        """As Farm; the source is uploaded where the server does not have it."""
        matrix = load(wanted.file).matrix
        base = wanted.file.absolute().parent
        source = resolve(matrix.source, base=base, cache=self._settings.cache / "sources")
        if not self._client.has_source(source.digest):
            with err.status(f"uploading {escape(source.description)} …"):
                self._client.upload(source)
        request = _request(wanted.file, wanted.request)
        version = request.version or version_of(matrix.source)
        request = request.model_copy(update={"source": UploadedSource(upload=source.digest), "version": version})
        return self._client.submit(request, key=wanted.key or str(uuid.uuid4()))

    def cancel(self, run: str) -> Overview:
        """As Farm."""
        return self._client.cancel(run)

    def rerun(self, run: str, request: RerunRequest) -> Overview:
        """As Farm."""
        return self._client.rerun(run, request)

    def runs(self, limit: int) -> tuple[RunSummary, ...]:
        """As Farm."""
        return self._client.runs(RunQuery(limit=limit))

    def look(self, run: str) -> Overview:
        """As Farm."""
        return self._client.run(run)

    def files(self, run: str, formats: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """As Farm."""
        for name in formats:
            yield name, self._client.report(run, name)

    def events(self, run: str, after: int = 0) -> Iterator[EventRecord]:
        """As Farm; goes on where the server is away for a while."""
        return Listener(self._client, run, lost=_tell, last=str(after or "")).events()

    def logs(self, run: str, cell: str, number: int) -> Mapping[str, int]:
        """As Farm."""
        return self._client.logs(AttemptKey(run=run, cell=cell, number=number))

    def log(self, run: str, cell: str, number: int, name: str, start: int = 0) -> bytes:
        """As Farm."""
        return self._client.log(AttemptKey(run=run, cell=cell, number=number), name, start)

    def has_ended(self, run: str, cell: str, number: int) -> bool:
        """As Farm."""
        return self._client.attempt(AttemptKey(run=run, cell=cell, number=number)) is State.FINISHED

    def explain(self, run: str, cell: str) -> Explanation:
        """As Farm."""
        return self._client.explain(run, cell)

    def cancel_cells(self, run: str, pattern: str) -> Overview:
        """As Farm."""
        return self._client.cancel_cells(run, pattern)

    def reserve(self, request: ReservationRequest) -> Reservation:
        """As Farm."""
        return self._client.reserve(request, key=str(uuid.uuid4()))

    def reservations(self) -> tuple[Reservation, ...]:
        """As Farm."""
        return self._client.reservations()

    def reservation(self, id_: str) -> Reservation:
        """As Farm."""
        return self._client.reservation(id_)

    def extend(self, id_: str, until: datetime) -> Reservation:
        """As Farm."""
        return self._client.extend(id_, ExtendRequest(until=until))

    def release(self, id_: str) -> Reservation:
        """As Farm."""
        return self._client.release(id_)

    def unserved(self) -> str:
        """As Farm."""
        return ""


def _request(file: Path, request: RunRequest) -> RunRequest:
    text = file.read_text(encoding="utf-8-sig")
    return request.model_copy(update={"matrix": text, "matrix_file": str(file)})


def _tell(why: str) -> None:
    print_warnings([f"{why}; trying again"])


def _in_the_clear(url: str) -> bool:
    """Whether others may read what is sent."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return parts.scheme == "http" and not local
