"""Counts what happens, event by event, so that a scrape of the metrics need not read what has happened. Pure.

It begins with what the store says has happened before (`Baseline`); what it counts since is added to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farm.metrics import BY_NAME, Histogram
from farm.model import EventRecord, Phase

Attempt = tuple[str, str, int]
"""Run, cell, number."""
_READY = frozenset({Phase.PROVISION, Phase.BOOT, Phase.CONNECT})


@dataclass(frozen=True)
class Baseline:
    """What has happened up to an event."""

    last: int = 0
    """That event."""
    started: Mapping[bool, int] = field(default_factory=dict)
    """Attempts, by whether the cell had one before."""
    finished: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    """Attempts by verdict, blame, rule and host."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """Runs that have ended, by exit code."""
    facts: Mapping[Attempt, Mapping[str, Any]] = field(default_factory=dict)
    """Of the guests of attempts that go on."""


@dataclass
class _Live:
    """An attempt that goes on."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    ready_s: float = 0.0


class Meter:
    """Counters and histograms. Written by one thread, read by any."""

    def __init__(self) -> None:
        self.ready = False
        """Whether it has begun; before that it knows nothing of the past, and what it says must not be told."""
        self.started: Counter[bool] = Counter()
        self.finished: Counter[tuple[str, str, str, str]] = Counter()
        self.runs: Counter[str] = Counter()
        self.guests: dict[tuple[str, str, str], Histogram] = {}
        """Seconds until guests were ready, by architecture, hypervisor and start."""
        self.phases: dict[tuple[str, str], Histogram] = {}
        """Seconds of phases, by phase and ending."""
        self._live: dict[Attempt, _Live] = {}

    def begin(self, past: Baseline) -> None:
        """Start from what has happened before."""
        self.started.update(past.started)
        self.finished.update(past.finished)
        self.runs.update(past.runs)
        self._live = {attempt: _Live(facts) for attempt, facts in past.facts.items()}
        self.ready = True

    def take(self, events: Iterable[EventRecord]) -> None:
        """Count what has happened since."""
        for event in events:
            match event.kind:
                case "run-finished":
                    self.runs[str(event.payload.get("exit_code", ""))] += 1
                case "attempt-started":
                    self.started[(event.number or 1) > 1] += 1
                    self._live[_attempt(event)] = _Live()
                case "guest":
                    self._live.setdefault(_attempt(event), _Live()).facts = event.payload["facts"]
                case "phase-ended":
                    self._phase_ended(event, event.payload)
                case "attempt-finished":
                    self._attempt_finished(event, event.payload)
                case _:
                    pass

    def _phase_ended(self, event: EventRecord, payload: Mapping[str, Any]) -> None:
        phase, ending, taken_s = payload["phase"], payload["ending"], float(payload["duration_s"])
        _of(self.phases, (phase, ending), "farm_phase_seconds").observe(taken_s)
        live = self._live.get(_attempt(event))
        if live is None or phase not in _READY or ending != "ok":
            return
        live.ready_s += taken_s
        if phase == Phase.CONNECT and live.facts:
            arch = str(live.facts["image"]).rpartition("/")[2]
            labels = (arch, str(live.facts["hypervisor"]), str(live.facts.get("start", "")))
            _of(self.guests, labels, "farm_guest_ready_seconds").observe(live.ready_s)

    def _attempt_finished(self, event: EventRecord, payload: Mapping[str, Any]) -> None:
        live = self._live.pop(_attempt(event), None)
        host = str(live.facts.get("host", "")) if live else ""
        self.finished[payload["verdict"], payload.get("blame") or "", payload.get("rule", ""), host] += 1


def _attempt(event: EventRecord) -> Attempt:
    return event.run, event.cell or "", event.number or 0


def _of(found: dict[Any, Histogram], key: tuple[str, ...], metric: str) -> Histogram:
    return found.setdefault(key, Histogram(BY_NAME[metric].buckets))
