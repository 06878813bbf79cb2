"""What every metric of `farm.metrics` is now: read from the store, the controller, the hosts and the API."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from api.traffic import Traffic
from farm.errors import FarmError
from farm.metrics import Histogram
from farm.model import Host, HostMark
from farm.serve import Server
from farm.store.counts import Counts, read_counts

Samples = Mapping[Any, float | Histogram]
"""By the values of a metric's labels, which are tuples of as many texts."""
_STATES = ("queued", "running", "finished")
_PUSHES = ("waiting", "failed")
_FATES = ("waiting", "done", "failed")


def values(server: Server, traffic: Traffic) -> dict[str, Samples]:
    """The samples of all metrics by their names; those of a store that does not answer are left out."""
    found = dict(_process(server, traffic))
    with suppress(FarmError):
        counts = read_counts(server.store.engine)
        marks = {mark.name: mark for mark in server.store.hosts.all()}
        found |= dict(_store(counts)) | dict(_meter(server)) | {"farm_store_up": {(): 1}}
        found |= {"farm_store_bytes": {(): server.store.size()}}
        found |= dict(_hosts(server.fleet.hosts(), counts, marks))
    return found


def _process(server: Server, traffic: Traffic) -> Iterator[tuple[str, Samples]]:
    pulse = server.pulse
    yield "farm_build", {(version("validation-farm"), platform.python_version()): 1}
    yield "farm_controller_alive", {(): server.alive}
    yield "farm_controller_age_seconds", {(): pulse.age_s}
    yield "farm_controller_round_seconds", {(): pulse.durations}
    yield "farm_controller_failures", {(): pulse.failures}
    yield "farm_store_up", {(): 0}
    yield "farm_store_events", {(): server.feed.last}
    yield "farm_event_listeners", {(): server.feed.listeners}
    yield "farm_http_requests", dict(traffic.requests)
    yield "farm_http_request_seconds", dict(traffic.durations)
    yield "farm_http_requests_open", {(): traffic.open}
    yield "farm_orphans", {(): server.orphans()}
    yield from _disks(server)


def _disks(server: Server) -> Iterator[tuple[str, Samples]]:
    settings = server.settings
    folders = {"state": settings.state, "cache": settings.cache, "runtime": settings.runtime}
    usage = {(name,): shutil.disk_usage(_there(path)) for name, path in folders.items()}
    yield "farm_disk_bytes", {name: one.total for name, one in usage.items()}
    yield "farm_disk_free_bytes", {name: one.free for name, one in usage.items()}


def _store(counts: Counts) -> Iterator[tuple[str, Samples]]:
    now = datetime.now(UTC)
    yield "farm_runs", {(state,): counts.runs.get(state, 0) for state in _STATES}
    yield "farm_cells", {(state,): counts.cells.get(state, 0) for state in _STATES}
    yield "farm_queue_cells", {(str(priority),): count for priority, count in counts.waiting.items()}
    ages = {(str(priority),): (now - since).total_seconds() for priority, since in counts.oldest.items()}
    yield "farm_queue_oldest_seconds", ages
    yield "farm_guests_held", {(): counts.held}
    yield "farm_deliveries", {(fate,): counts.deliveries.get(fate, 0) for fate in _FATES}
    yield "farm_pushes", {(fate,): counts.pushes.get(fate, 0) for fate in _PUSHES}


def _meter(server: Server) -> Iterator[tuple[str, Samples]]:
    meter = server.meter
    if not meter.ready:
        return
    yield "farm_runs_finished", {(code,): count for code, count in dict(meter.runs).items()}
    started = dict(meter.started)
    yield "farm_attempts_started", {("yes",): started.get(True, 0), ("no",): started.get(False, 0)}
    yield "farm_attempts_finished", dict(meter.finished)
    yield "farm_guest_ready_seconds", dict(meter.guests)
    yield "farm_phase_seconds", dict(meter.phases)


def _hosts(hosts: tuple[Host, ...], counts: Counts, marks: Mapping[str, HostMark]) -> Iterator[tuple[str, Samples]]:
    def each(value: Callable[[Host], float]) -> Samples:
        return {(host.name,): value(host) for host in hosts}

    yield "farm_host_vcpus", each(lambda host: host.vcpus)
    yield "farm_host_memory_bytes", each(lambda host: host.memory_mib * 1024**2)
    yield "farm_host_drained", each(lambda host: host.name in marks)
    yield "farm_host_mark", {(mark.name, mark.mark.value): 1 for mark in marks.values()}
    # A guest may live on a host that the cluster has lost, or, where it is scripted, on none at all.
    names = {host.name for host in hosts} | counts.hosts.keys()
    use = {name: counts.hosts.get(name) for name in names}
    yield "farm_host_guests", {(name,): one.guests if one else 0 for name, one in use.items()}
    yield "farm_host_used_vcpus", {(name,): one.vcpus if one else 0 for name, one in use.items()}
    memory = {(name,): one.memory_mib * 1024**2 if one else 0 for name, one in use.items()}
    yield "farm_host_used_memory_bytes", memory


def _there(path: Path) -> Path:
    """The folder, or the nearest above it that there is."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
