"""Attempts as Ray tasks. The only module that imports ray.

Each attempt is one task: a generator whose events come back through Ray's streaming returns. Ray places
it by numbers (CPUs for vCPUs, memory for guests) and by labels (which hypervisor can run which
architecture there); it never retries, that is the controller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Ray reads this when it is loaded. A cluster of its own has tokens anyway; without this, a program that joins
# one would not send any. `RAY_AUTH_MODE=disabled` in the environment wins.
os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray.exceptions import GetTimeoutError, RayError, TaskCancelledError

from farm.errors import AttemptCancelledError, AttemptLostError, ConfigError, HostError
from farm.estimate import capacity
from farm.model import AttemptKey, Event, GuestSpec, Host, Offer, Order
from farm.slowness import from_label, to_label

MEMORY = "guest_memory_mib"
"""The Ray resource that stands for the memory of guests."""
LABEL = "farm-offer"
"""The prefix of the labels that say what a host can run: `farm-offer.qemu.riscv64=emulated`."""
SLOWNESS = "farm-slowness"
"""The prefix of the labels that say how slow guests are there: `farm-slowness.qemu.riscv64=14.20_20.10_9.80`."""
CPU_LIMIT = "farm-cpu-limit"
"""The label of a host that can limit the CPU of a guest: `farm-cpu-limit=yes`."""

_OBJECT_STORE_BYTES = 256 * 1024 * 1024
_UNREAD_EVENTS = 64
_GENTLY_S = 8.0


class RayExecutor:
    """Runs attempts on a local Ray made for the occasion, or on a cluster."""

    def __init__(self, *, address: str | None = None, session: Path | None = None, host: Host | None = None) -> None:
        """Either the address of a cluster, or a folder for a local Ray's files and the host that it stands for."""
        self._session = session
        self._address = address
        self._host = host
        self._running: dict[AttemptKey, Any] = {}
        self._sources: dict[str, Any] = {}

    def start(self) -> None:
        """Start or join Ray. Raises HostError."""
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        try:
            if self._address:
                ray.init(address=self._address, **common)
            else:
                ray.init(**common, **self._local())
        except (RayError, OSError, RuntimeError, ValueError) as error:
            where = self._address or "a local Ray"
            raise HostError(f"cannot start on {where}: {error}", hint="see `farm doctor`") from error

    def hosts(self) -> tuple[Host, ...]:
        """The hosts of the cluster, as their nodes' resources and labels tell."""
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        return tuple(host for node in nodes if (host := _host_of(node)).offers)

    def capacity(self, guest: GuestSpec) -> int:
        """How many guests of this size run at a time on all hosts together; at least 1."""
        return capacity(self.hosts(), guest)

    def offer_source(self, digest: str, archive: Path) -> None:
        """Put a source where every worker can have it."""
        if digest not in self._sources:
            self._sources[digest] = ray.put(archive.read_bytes())

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Submit an order and yield its events.

        Raises AttemptCancelledError after `cancel`, AttemptLostError where the worker or its node died.
        """
        generator = _task(order).remote(order, self._sources[order.source_digest])
        self._running[order.key] = generator
        try:
            async for reference in generator:
                yield await reference
        except TaskCancelledError as error:
            raise AttemptCancelledError("the attempt was cancelled") from error
        except RayError as error:
            if isinstance(getattr(error, "cause", None), TaskCancelledError | KeyboardInterrupt):
                raise AttemptCancelledError("the attempt was cancelled") from error
            raise AttemptLostError(f"cannot finish the attempt: {_first_line(error)}") from error
        except GeneratorExit:  # nobody listens any more
            ray.cancel(generator, force=False)
            raise
        finally:
            self._running.pop(order.key, None)

    async def cancel(self, key: AttemptKey) -> None:
        """End an attempt: gently, so that it can clean up, then by force."""
        generator = self._running.get(key)
        if generator is None:
            return
        ray.cancel(generator, force=False)
        for _ in range(int(_GENTLY_S / 0.1)):
            await asyncio.sleep(0.1)
            if key not in self._running:
                return
        ray.cancel(generator, force=True)

    def close(self) -> None:
        """Leave Ray; a local one ends."""
        with contextlib.suppress(RayError, GetTimeoutError):
            ray.shutdown()

    def _local(self) -> dict[str, Any]:
        if self._host is None or self._session is None:
            raise ConfigError("cannot start a local Ray: it has no host and no folder", hint="give --ray-address")
        return {
            "num_cpus": self._host.vcpus,
            "resources": {MEMORY: self._host.memory_mib},
            "labels": labels_of(self._host),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_temp_dir": str(self._session),
            "namespace": f"farm-{secrets.token_hex(4)}",
        }


def labels_of(host: Host) -> dict[str, str]:
    """The labels with which a host's node joins the cluster."""
    offers = {f"{LABEL}.{offer.hypervisor}.{offer.arch}": _how(offer) for offer in host.offers if not offer.problem}
    measured = {
        f"{SLOWNESS}.{offer.hypervisor}.{offer.arch}": to_label(offer.slowness)
        for offer in host.offers
        if offer.slowness and not offer.problem
    }
    return offers | measured | ({} if host.cpu_limit_problem else {CPU_LIMIT: "yes"})


def _how(offer: Offer) -> str:
    return "scripted" if offer.scripted else "emulated" if offer.emulated else "native"


def _host_of(node: dict[str, Any]) -> Host:
    resources, labels = node["Resources"], node.get("Labels", {})
    offers = [
        Offer(
            hypervisor=key.split(".")[1],
            arch=key.split(".")[2],
            emulated=value != "native",
            scripted=value == "scripted",
            slowness=from_label(labels.get(f"{SLOWNESS}{key.removeprefix(LABEL)}", "")),
        )
        for key, value in labels.items()
        if key.startswith(f"{LABEL}.")
    ]
    return Host(
        name=node["NodeManagerHostname"],
        uri="ray",
        vcpus=int(resources.get("CPU", 0)),
        memory_mib=int(resources.get(MEMORY, 0)),
        offers=tuple(sorted(offers, key=lambda offer: offer.emulated)),
        cpu_limit_problem="" if labels.get(CPU_LIMIT) == "yes" else "its node does not say that it can",
    )


def _task(order: Order) -> Any:
    limits = _LIMITED if order.guest.cpu_percent else _FREE
    return ray.remote(_run_order).options(
        name=str(order.key),
        num_cpus=order.guest.vcpus,
        resources={MEMORY: order.guest.memory_mib},
        label_selector=dict.fromkeys(_offers(order), "in(native,emulated,scripted)") | limits.labels,
        runtime_env=limits.runtime_env,
        num_returns="streaming",
        max_retries=0,
        _generator_backpressure_num_objects=_UNREAD_EVENTS,
    )


class _Needs(NamedTuple):
    """What a task needs besides a place for its guest."""

    labels: dict[str, str]
    runtime_env: dict[str, Any] | None


_FREE = _Needs({}, None)
_LIMITED = _Needs({CPU_LIMIT: "yes"}, {"env_vars": {"FARM_CGROUPS": "1"}})
"""Of a guest whose CPU is limited: a worker that makes no others, for all of them would pay (`Settings.cgroups`)."""


def _offers(order: Order) -> Iterator[str]:
    """The labels that the host of an order has to have: for its guest, and for the one that builds for it."""
    yield f"{LABEL}.{order.hypervisor}.{order.arch}"
    if order.builder:
        yield f"{LABEL}.{order.builder.hypervisor}.{order.builder.image.arch}"


def _run_order(order: Order, source: bytes) -> Iterator[Event]:
    # Imported in the worker: the controller's process needs no hypervisor.
    from runners.attempt import run_attempt  # noqa: PLC0415

    yield from run_attempt(order, source)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
