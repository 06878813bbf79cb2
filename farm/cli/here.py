"""This machine: where the commands get what runs guests on it, or on the cluster that it belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from farm.cli.aliases import Resolver
from farm.cli.screen import out
from farm.config import Settings
from farm.model import Host, Plan
from farm.orders import pin

if TYPE_CHECKING:  # half a second, which commands without it need not wait
    from farm.executor import RayExecutor


def _at_once(start: Callable[[], None]) -> None:
    start()


@contextmanager
def executor_of(
    settings: Settings, address: str | None, start: Callable[[Callable[[], None]], None] = _at_once
) -> Iterator[RayExecutor]:
    """A started executor, on a cluster or on a Ray of its own; afterwards nothing of it is left.

    `start` calls what it is given, which starts Ray.
    """
    from farm.executor import RayExecutor  # noqa: PLC0415
    from runners.session import local_session  # noqa: PLC0415

    if address is not None:
        with _started(RayExecutor(address=address), start) as executor:
            yield executor
        return
    with local_session(settings.runtime) as session:
        with out.status("trying the hypervisors …"):
            host = probe().local_host(settings)
        with _started(RayExecutor(session=session, host=host, look=_look(settings, host)), start) as executor:
            yield executor


def _look(settings: Settings, host: Host) -> Callable[[], Host]:
    from runners.hosts.node import with_room  # noqa: PLC0415

    return lambda: with_room(host, settings)


@contextmanager
def _started(executor: RayExecutor, start: Callable[[Callable[[], None]], None]) -> Iterator[RayExecutor]:
    try:
        start(executor.start)
        yield executor
    finally:
        executor.close()


def settled(settings: Settings, planned: Plan) -> Plan:
    """The plan with its aliases settled; where the archive could not be asked about one, that is a warning."""
    resolver = Resolver(settings, build_s=planned.matrix.timeouts.provision)
    found = pin(planned, resolver)
    return found.model_copy(update={"warnings": (*found.warnings, *resolver.doubts.values())})


@functools.cache
def probe() -> Any:
    """`runners.probe`: libvirt is loaded only by commands that need it."""
    from runners import probe  # noqa: PLC0415

    return probe
