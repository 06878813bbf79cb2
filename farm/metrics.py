"""The metrics of a server: their names, kinds and labels, each defined once. Pure.

Names follow <https://prometheus.io/docs/practices/naming/>. docs/metrics.md, the alerts, the dashboard and what a
real server exposes are held against this table by tests.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Since(StrEnum):
    """From when on a metric counts."""

    EVER = "ever"
    """All that the store has; a restart changes nothing."""
    START = "start"
    """From the start of the process."""
    NOW = "now"
    """How it is at the moment of the scrape."""


@dataclass(frozen=True)
class Metric:
    """One metric. A counter's samples have `_total` after its name, an info's `_info`."""

    name: str
    kind: Kind
    since: Since
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper limits, of a histogram."""

    @property
    def samples(self) -> tuple[str, ...]:
        """The names of its samples, as a scrape has them."""
        ends = {
            Kind.COUNTER: ("_total",),
            Kind.GAUGE: ("",),
            Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
            Kind.INFO: ("_info",),
        }
        return tuple(self.name + end for end in ends[self.kind])


def seconds(shortest: float, longest: float) -> tuple[float, ...]:
    """Limits of buckets: 1, 2.5, 5, 10 … of a unit, from one to another."""
    steps = (factor * 10.0**power for power in range(-4, 6) for factor in (1, 2.5, 5))
    return tuple(round(step, 6) for step in steps if shortest <= step <= longest)


METRICS: tuple[Metric, ...] = (
    # --- runs and cells
    Metric("farm_runs", Kind.GAUGE, Since.NOW, "Runs that the store has, by state.", ("state",)),
    Metric(
        "farm_runs_finished",
        Kind.COUNTER,
        Since.EVER,
        "Runs that have come to their end, by exit code.",
        ("exit_code",),
    ),
    Metric("farm_cells", Kind.GAUGE, Since.NOW, "Cells of unfinished runs, by state.", ("state",)),
    Metric(
        "farm_queue_cells",
        Kind.GAUGE,
        Since.NOW,
        "Cells that wait for their first attempt, by priority of the run.",
        ("priority",),
    ),
    Metric(
        "farm_queue_oldest_seconds",
        Kind.GAUGE,
        Since.NOW,
        "How long the oldest run with a waiting cell has been there, by priority.",
        ("priority",),
    ),
    # --- attempts
    Metric(
        "farm_attempts_started",
        Kind.COUNTER,
        Since.EVER,
        "Attempts that were started; `again` is yes for all but a cell's first.",
        ("again",),
    ),
    Metric(
        "farm_attempts_finished",
        Kind.COUNTER,
        Since.EVER,
        "Attempts that have ended, by what they came to and the host of the guest (empty: none was made).",
        ("verdict", "blame", "rule", "host"),
    ),
    Metric(
        "farm_guest_ready_seconds",
        Kind.HISTOGRAM,
        Since.START,
        "From the order to a guest with a shell: provision, boot and connect together.",
        ("arch", "hypervisor", "start"),
        seconds(0.25, 600),
    ),
    Metric(
        "farm_phase_seconds",
        Kind.HISTOGRAM,
        Since.START,
        "How long phases took.",
        ("phase", "ending"),
        seconds(0.1, 10_000),
    ),
    # --- hosts
    Metric("farm_host_vcpus", Kind.GAUGE, Since.NOW, "vCPUs of guests that a host has room for.", ("host",)),
    Metric("farm_host_memory_bytes", Kind.GAUGE, Since.NOW, "Memory of guests that a host has room for.", ("host",)),
    Metric("farm_host_used_vcpus", Kind.GAUGE, Since.NOW, "vCPUs of the guests that live on a host.", ("host",)),
    Metric(
        "farm_host_used_memory_bytes", Kind.GAUGE, Since.NOW, "Memory of the guests that live on a host.", ("host",)
    ),
    Metric("farm_host_guests", Kind.GAUGE, Since.NOW, "Guests that live on a host.", ("host",)),
    Metric("farm_host_drained", Kind.GAUGE, Since.NOW, "1 for a host that takes no new work.", ("host",)),
    Metric(
        "farm_host_mark",
        Kind.GAUGE,
        Since.NOW,
        "1 for the reason for which a host takes no new work: drained (by a person), failed, full.",
        ("host", "mark"),
    ),
    Metric(
        "farm_guests_held",
        Kind.GAUGE,
        Since.NOW,
        "Guests that are kept for a person: reserved ones, and those of cells that failed.",
    ),
    Metric(
        "farm_orphans",
        Kind.GAUGE,
        Since.NOW,
        "Things on the server's machine whose owner is dead, and that the reaper has not destroyed.",
    ),
    # --- the controller
    Metric("farm_controller_alive", Kind.GAUGE, Since.NOW, "1 while runs are carried out."),
    Metric(
        "farm_controller_age_seconds",
        Kind.GAUGE,
        Since.NOW,
        "Time since the controller last ended a round; some seconds at most while all is well.",
    ),
    Metric(
        "farm_controller_round_seconds",
        Kind.HISTOGRAM,
        Since.START,
        "How long the controller's rounds took.",
        (),
        seconds(0.001, 60),
    ),
    Metric(
        "farm_controller_failures",
        Kind.COUNTER,
        Since.START,
        "Rounds that the store or a host did not let the controller end.",
    ),
    # --- the store
    Metric(
        "farm_store_up",
        Kind.GAUGE,
        Since.NOW,
        "1 where the store answered this scrape; without it, what the store knows is not told.",
    ),
    Metric("farm_store_events", Kind.COUNTER, Since.EVER, "Events that were stored."),
    Metric("farm_store_bytes", Kind.GAUGE, Since.NOW, "Size of the database's files."),
    Metric("farm_disk_free_bytes", Kind.GAUGE, Since.NOW, "Free room on the disk of a folder.", ("folder",)),
    Metric("farm_disk_bytes", Kind.GAUGE, Since.NOW, "Size of the disk of a folder.", ("folder",)),
    # --- the API
    Metric(
        "farm_http_requests",
        Kind.COUNTER,
        Since.START,
        "Requests, by the template of their route.",
        ("method", "route", "status"),
    ),
    Metric(
        "farm_http_request_seconds",
        Kind.HISTOGRAM,
        Since.START,
        "Until the answer began; of a stream of events that is at once.",
        ("method", "route"),
        seconds(0.001, 10),
    ),
    Metric("farm_http_requests_open", Kind.GAUGE, Since.NOW, "Requests that are being answered."),
    Metric("farm_event_listeners", Kind.GAUGE, Since.NOW, "Clients that listen to events."),
    # --- others
    Metric(
        "farm_deliveries",
        Kind.GAUGE,
        Since.NOW,
        "Notifications by what became of them: waiting, done, failed.",
        ("state",),
    ),
    Metric(
        "farm_pushes",
        Kind.GAUGE,
        Since.NOW,
        "Pushes that triggers have taken and that are no run: waiting for theirs, failed.",
        ("state",),
    ),
    Metric("farm_build", Kind.INFO, Since.NOW, "The versions of the farm and of Python.", ("version", "python")),
)

BY_NAME: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in METRICS})


class Histogram:
    """How many values fell under each of some limits."""

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = tuple(limits)
        self._counts = [0] * (len(self._limits) + 1)
        self.sum = 0.0
        """Of all values."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect.bisect_left(self._limits, value)] += 1
        self.sum += value

    @property
    def buckets(self) -> tuple[tuple[str, int], ...]:
        """For each limit, and `+Inf`, how many values were not above it."""
        names = (*map(str, self._limits), "+Inf")
        return tuple(zip(names, itertools.accumulate(self._counts), strict=True))
