"""What happens in a run on a server, until its end: a stream of events that is taken up again wherever it breaks.

Where something between here and the server keeps streams back, the run is looked at every few seconds instead;
then its cells are told when they have their verdict, and their phases are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from farm.errors import ForbiddenError, NotFoundError, ServerError
from farm.model import EventRecord, State
from farm.remote.client import Client
from farm.remote.sse import Sent, events
from farm.remote.wire import Request, path_of
from farm.report.overview import CellBrief, Overview

SILENCE_S = 60.0
"""The server says something every few seconds; after so long without a word the connection is taken for dead."""
PATIENCE_S = 600.0
"""How long a server may be away."""
_LOOK_S = 2.0
_PAUSE_S = 1.0
_END = "end"


@dataclass
class Listener:
    """Listens to one run."""

    client: Client
    run: str
    lost: Callable[[str], None] = lambda _why: None
    """Told when the connection is lost, once each time. A stream that a server ends in order, as one does that is being
    stopped, is no loss while the next one opens within the patience of a request (`farm.remote.wire`)."""
    clock: Callable[[], float] = time.monotonic
    last: str = ""
    """The last event that came."""
    streams: bool = True
    """False: they do not get through."""
    told: set[str] = field(default_factory=set)
    """Cells whose verdict has come."""

    def events(self) -> Iterator[EventRecord]:
        """What has happened since the run was submitted, and what happens, to its end.

        Raises ServerError where the server is away for too long, and what it raises.
        """
        heard = self.clock()
        away = False
        while True:
            try:
                for event in self._some():
                    heard, away = self.clock(), False
                    if event is None:
                        return
                    yield event
                heard, away = self.clock(), False
            except (NotFoundError, ForbiddenError):
                raise
            except ServerError as error:
                if self.clock() - heard > PATIENCE_S:
                    raise
                if not away:
                    self.lost(error.message)
                away = True
                self.client.pause(_PAUSE_S)

    def _some(self) -> Iterator[EventRecord | None]:
        """Events, as many as come over one connection; None: there are no more."""
        yield from self._stream() if self.streams else self._look()

    def _stream(self) -> Iterator[EventRecord | None]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.last} if self.last else {})
        request = Request("GET", path_of("runs", self.run, "events"), headers=headers, answer_s=SILENCE_S)
        with self.client.wire.open(request) as answer:
            if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                self.streams = False
                return
            for sent in events(self._noticed(answer.iter_lines())):
                if sent.kind == _END:
                    yield None
                    return
                yield from self._take(sent)
        self.client.pause(_PAUSE_S)  # it ended before the run did: the server is being stopped

    def _noticed(self, lines: Iterator[str]) -> Iterator[str]:
        """The same; a stream that has said nothing for long does not get through."""
        began, said = self.clock(), False
        try:
            for line in lines:
                said = True
                yield line
        finally:
            self.streams = said or self.clock() - began < SILENCE_S

    def _take(self, sent: Sent) -> Iterator[EventRecord]:
        event = self.client.read(EventRecord, sent.data)
        self.last = sent.id
        if event.kind == "cell-finished" and event.cell:
            if event.cell in self.told:
                return
            self.told.add(event.cell)
        yield event

    def _look(self) -> Iterator[EventRecord | None]:
        found = self.client.run(self.run)
        for cell in found.cells:
            if cell.verdict and cell.id not in self.told:
                self.told.add(cell.id)
                yield _concluded(found, cell)
        if found.run.state is State.FINISHED:
            yield None
            return
        self.client.pause(_LOOK_S)


def _concluded(run: Overview, cell: CellBrief) -> EventRecord:
    """The event that the stream would have had."""
    payload = {"verdict": cell.verdict, "blame": cell.blame, "rule": cell.rule, "summary": cell.summary}
    at = cell.started + timedelta(seconds=cell.duration_s or 0) if cell.started else run.run.created
    return EventRecord(id=0, run=run.run.id, cell=cell.id, number=None, at=at, kind="cell-finished", payload=payload)
