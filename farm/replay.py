"""A run that somebody else carries out, shown from what the store says happened in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from farm.display import Display
from farm.model import AttemptKey, Event, EventRecord, Outcome

_OF_ATTEMPTS = frozenset({"phase-started", "phase-ended", "guest", "held"})
_EVENT: TypeAdapter[Any] = TypeAdapter(Event)


class Replay:
    """Shows a run."""

    def __init__(
        self,
        cells: Iterable[str],
        created: datetime,
        console: Console,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`created` is when the run was; its events are shown by how long after that they came."""
        self._created = created
        self._concluded: set[str] = set()
        self.last = 0
        """The newest event that was shown."""
        self.display = Display(cells, console, clock=lambda: self._seconds(now()))

    def heard(self, record: EventRecord) -> None:
        """Something has happened. What is not shown is left out, and so is what a newer farm may say."""
        self.last = max(self.last, record.id)
        if record.cell is None or record.cell in self._concluded:
            return
        at_s = self._seconds(record.at)
        if record.kind == "cell-finished":
            self._concluded.add(record.cell)
            self.display.conclude(record.cell, Outcome.model_validate(record.payload, extra="ignore"), at_s=at_s)
        elif record.kind == "tests":
            self.display.tested(record.cell, record.payload["tests"], record.payload.get("failed", 0))
        elif record.kind in _OF_ATTEMPTS and record.number is not None:
            key = AttemptKey(run=record.run, cell=record.cell, number=record.number)
            said = {"kind": record.kind, "at": record.at, **record.payload}
            with suppress(ValidationError):  # of an older or a newer farm
                self.display.happened(key, _EVENT.validate_python(said, extra="ignore"), at_s=at_s)

    def _seconds(self, at: datetime) -> float:
        return max(0.0, (at - self._created).total_seconds())
