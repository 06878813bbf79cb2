"""Attempts as Ray tasks. The only module that imports ray.

Each attempt is one task: a generator whose events come back through Ray's streaming returns. Ray places
it by numbers (CPUs for vCPUs, memory for guests) and by labels (which hypervisor can run which
architecture there); it never retries, that is the controller's.

On each node of a cluster lives one small actor that is asked now and then what its host is like, and that kills workers
which do not hear that they are to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import tarfile
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

# Ray reads this when it is loaded. A cluster of its own has tokens anyway; without this, a program that joins
# one would not send any. `RAY_AUTH_MODE=disabled` in the environment wins.
os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
import structlog
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm.config import load_settings
from farm.errors import AttemptCancelledError, AttemptLostError, ConfigError, FarmError, HostError
from farm.head import HeadWatch
from farm.labels import CPU_LIMIT, MEMORY, host_of, labels_of, selector
from farm.latest import Latest, in_thread
from farm.lookout import Lookout
from farm.model import AttemptKey, Event, Host, Order, PhaseEnded, Placed
from farm.node import check_head

_OBJECT_STORE_BYTES = 256 * 1024 * 1024
_UNREAD_EVENTS = 64
NOTHING = bytes(tarfile.RECORDSIZE)
"""A tar with nothing in it; an empty file is none, and tar(1) refuses it."""
_GENTLY_S = 4.0
_TITLE = b"ray::"
"""How the command line of a worker begins that has a task."""
_FIRST_LOOK_S = 20.0
"""How long whoever joins a cluster waits for its hosts to say what they are like."""
_NAMESPACE = "farm"
_SILENT_S = 60.0
"""For so long it does not matter that Ray's head does not say which nodes there are."""
_AGAIN = "start it again; a service of systemd with `Restart=` is started again by itself"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class RayExecutor:
    """Runs attempts on a local Ray made for the occasion, or on a cluster."""

    def __init__(
        self,
        *,
        address: str | None = None,
        session: Path | None = None,
        host: Host | None = None,
        look: Callable[[], Host] | None = None,
    ) -> None:
        """Either the address of a cluster, or a folder for a local Ray's files and the host that it stands for.

        `look` says what that host is like at the moment.
        """
        self._session = session
        self._address = address
        self._host = host
        self._lookout = Lookout(lambda node: in_thread(look or partial(_look_at, node)))
        self._nodes = Latest(self._there, "ask Ray for its hosts", silent_s=_SILENT_S)
        self._watch: HeadWatch | None = None
        self._gone = ""
        self._on_gone: Callable[[], None] | None = None
        self._running: dict[AttemptKey, Any] = {}
        self._workers: dict[AttemptKey, _Worker] = {}
        self._sources: dict[str, Any] = {}

    def start(self) -> None:
        """Start or join Ray. Raises HostError, ConfigError where its address is none."""
        if self._address:
            check_head(self._address)
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        try:
            if self._address:
                ray.init(address=self._address, **common)
            else:
                ray.init(**common, **self._local())
        except (RayError, OSError, RuntimeError, ValueError) as error:
            where = self._address or "a local Ray"
            raise HostError(f"cannot start on {where}: {_first_line(error)}", hint="see `farm doctor`") from error
        with _ray_errors("give anything to Ray"):
            ray.put(NOTHING)  # the first time imports modules, which two threads at once cannot (KeyError)
        self._nodes.start()
        self._watch = HeadWatch(ray.get_runtime_context().gcs_address, self._is_gone)
        self._watch.start()
        if self._address:
            self._wait_for_looks()

    def when_gone(self, call: Callable[[], None]) -> None:
        """`call` is called, in a thread of its own, when Ray's head is gone: nothing can be carried out any more."""
        self._on_gone = call
        if self._gone:
            call()

    def check(self) -> None:
        """Raises HostError where Ray's head is gone."""
        if self._gone:
            raise HostError(f"cannot go on: {self._gone}", hint=_AGAIN)

    def hosts(self) -> tuple[Host, ...]:
        """The hosts of the cluster, as they have joined it and as they say that they are now."""
        self.check()
        return self._lookout.hosts(self._nodes.get())

    def offer_source(self, digest: str, archive: Path | None) -> None:
        """Put a source where every worker can have it; None: one with nothing in it."""
        self.check()
        if digest not in self._sources:
            with _ray_errors("give the source to Ray"):
                self._sources[digest] = ray.put(archive.read_bytes() if archive else NOTHING)

    def withdraw_source(self, digest: str) -> None:
        """Nothing more needs a source: its memory is given back when those attempts have ended that have it."""
        self._sources.pop(digest, None)

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Submit an order and yield its events.

        Raises AttemptCancelledError after `cancel`, AttemptLostError where the worker or its node died,
        HostError where Ray does not take it.
        """
        self.check()
        with _ray_errors("give the attempt to Ray"):
            generator = _task(order).remote(order, self._sources[order.source_digest])
        self._running[order.key] = generator
        try:
            async for reference in generator:
                for sent in await reference:
                    if isinstance(sent, _Worker):
                        self._workers[order.key] = sent
                    else:
                        yield sent
        except TaskCancelledError as error:
            raise AttemptCancelledError("the attempt was cancelled") from error
        except RayError as error:
            if isinstance(getattr(error, "cause", None), TaskCancelledError | KeyboardInterrupt):
                raise AttemptCancelledError("the attempt was cancelled") from error
            raise AttemptLostError(f"cannot finish the attempt: {_first_line(error)}") from error
        except (GeneratorExit, asyncio.CancelledError):  # nobody listens any more
            ray.cancel(generator, force=False)
            raise
        finally:
            self._running.pop(order.key, None)
            self._workers.pop(order.key, None)

    async def cancel(self, key: AttemptKey) -> None:
        """End an attempt: gently, so that it can clean up, then by killing its worker.

        Ray's own force is none once it has been asked to be gentle: it waits for the worker to answer that first.
        """
        generator = self._running.get(key)
        if generator is None:
            return
        ray.cancel(generator, force=False)
        for _ in range(int(_GENTLY_S / 0.1)):
            await asyncio.sleep(0.1)
            if key not in self._running:
                return
        if worker := self._workers.get(key):
            await asyncio.to_thread(_kill_on if self._address else _kill_here, worker)

    def close(self) -> None:
        """Leave Ray; a local one ends."""
        self._nodes.stop()
        if self._watch:
            self._watch.stop()
        with contextlib.suppress(RayError, GetTimeoutError):
            ray.shutdown()

    def _there(self) -> dict[str, Host]:
        """The hosts by their nodes, as they have joined. Waits for as long as Ray's head does not answer."""
        # A local Ray's host is known whole; labels leave out what does not work, and what it can be asked for.
        nodes = {node["NodeID"]: self._host or host_of(node) for node in _nodes() if node["Alive"]}
        return {id_: host for id_, host in nodes.items() if host.offers}

    def _is_gone(self, what: str) -> None:
        self._gone = what
        if self._on_gone:
            self._on_gone()

    def _wait_for_looks(self) -> None:
        until = time.monotonic() + _FIRST_LOOK_S
        while self.hosts() and not self._lookout.complete and time.monotonic() < until:
            time.sleep(0.1)

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


@contextlib.contextmanager
def _ray_errors(what: str) -> Iterator[None]:
    """Turn what Ray raises where its head does not answer into a HostError; `what` is a verb and a thing."""
    try:
        yield
    except (RayError, OSError, RuntimeError, TimeoutError) as error:
        raise HostError(f"cannot {what}: {_first_line(error)}", hint="see whether Ray's head runs") from error


class _Host:
    """Lives on a node as long as that does, for whoever asks."""

    def look(self) -> Host:
        """What its host is like now."""
        from runners.hosts.node import look  # noqa: PLC0415 - this runs on the node

        return look()

    def kill(self, worker: _Worker) -> None:
        """End a worker of this node at once, also one that stands still."""
        _kill_here(worker)


def _nodes() -> list[dict[str, Any]]:
    """Waits for as long as Ray's head does not answer."""
    if not ray.is_initialized():  # it would start one
        raise HostError("cannot ask Ray for its hosts: it has been left")
    with _ray_errors("ask Ray for its hosts"):
        found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def _look_at(node: str) -> Host:
    """Ask a node, and wait; a first question starts its actor, which all programs of the cluster share."""
    with _ray_errors("ask a host what it is like"):
        reference = _host_on(node).look.remote()
    with _ray_errors("learn what a host is like"):
        try:
            told: Host = ray.get(reference)
        except RayTaskError as error:  # what was raised there
            raise (error.cause if isinstance(error.cause, FarmError) else error) from None
        except RayActorError as error:
            raise HostError("its node does not answer") from error
    return told


def _host_on(node: str) -> Any:
    """The `_Host` of a node."""
    remote: Any = ray.remote(_Host)
    return remote.options(
        name=f"host-{node}",
        namespace=_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    ).remote()


class _Worker(NamedTuple):
    """The process that an attempt is in."""

    node: str
    pid: int


def _kill_here(worker: _Worker) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{worker.pid}/cmdline").read_bytes().startswith(_TITLE):
            os.kill(worker.pid, signal.SIGKILL)


def _kill_on(worker: _Worker) -> None:
    try:
        ray.get(_host_on(worker.node).kill.remote(worker), timeout=_GENTLY_S)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        log.warning("cannot kill a worker; its attempt ends with its lease", node=worker.node, error=_first_line(error))


def _task(order: Order) -> Any:
    limits = _LIMITED if order.guest.cpu_percent else _FREE
    return _remote_run_order().options(
        name=str(order.key),
        num_cpus=order.guest.vcpus,
        resources={MEMORY: order.guest.memory_mib},
        label_selector=selector(order, order.avoid) | limits.labels,
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


@cache
def _remote_run_order() -> Any:
    # Once: Ray sends each anew to the cluster, even if it is of the same function, and every worker has to load it.
    return ray.remote(_run_order)


def _run_order(order: Order, source: bytes) -> Iterator[tuple[Event | _Worker, ...]]:
    # Imported in the worker: the controller's process needs no hypervisor.
    from runners.attempt import run_attempt  # noqa: PLC0415

    worker = _Worker(ray.get_runtime_context().get_node_id(), os.getpid())
    placed = Placed(at=datetime.now(UTC), host=load_settings().host_name)
    yield from together((worker, placed), run_attempt(order, source))


_MORE_AT_ONCE = (Placed, PhaseEnded)
"""After these there is more at once: a next phase begins, or the attempt has ended."""


def together(first: tuple[T, ...], more: Generator[T, None, None]) -> Iterator[tuple[T, ...]]:
    """Events as they are sent: those after which there is more at once together with that.

    Each thing that a task yields costs as much as a task that does nothing, or more.
    """
    held = first
    with contextlib.closing(more):
        try:
            for event in more:
                held = (*held, event)
                if not isinstance(event, _MORE_AT_ONCE):
                    yield held
                    held = ()
        except (Exception, KeyboardInterrupt):  # how a phase ended before that is still to be known
            if held:
                yield held
            raise
    if held:
        yield held


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
