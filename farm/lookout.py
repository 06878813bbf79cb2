"""What the hosts of a cluster are like now: each is asked now and then, and nobody waits for its answer.

Pure bookkeeping: how a node is asked, without waiting for anybody, is `farm.executor`'s. A host that does not answer,
or says that it is short of something, has a `Host.shortage`, for which it gets nothing new; no attempt is spent on
finding that out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from farm.errors import FarmError
from farm.model import Host, Room

PERIOD_S = 10.0
"""Between an answer and the next question."""
SILENT_S = 60.0
"""Who has not answered for so long gets nothing new. A busy machine may take a while to start a worker."""

Answer = Callable[[], Host | None]
"""What a host says of itself, None while it is not known yet. Raises FarmError where it cannot say it."""
Ask = Callable[[str], Answer]
"""Begins to ask a node by its id, and returns at once: the controller's loop comes by here. Raises HostError."""

log = structlog.get_logger(__name__)


@dataclass
class _Look:
    """What is known of one node."""

    told: Host | None = None
    problem: str = ""
    """Why its last answer is no good."""
    answer: Answer | None = None
    """Of a question that is open."""
    asked: float = 0.0
    due: float = 0.0


class Lookout:
    """Knows what nodes have told. May be asked from any thread."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._looks: dict[str, _Look] = {}
        self._short: dict[str, str] = {}
        self._lock = threading.Lock()

    def hosts(self, nodes: Mapping[str, Host]) -> tuple[Host, ...]:
        """The hosts of these nodes (by their ids, as their labels tell), with what they have told until now."""
        with self._lock:
            self._looks = {id_: self._looks.get(id_, _Look()) for id_ in nodes}
            for id_, look in self._looks.items():
                self._turn(id_, look)
            found = tuple(_told(host, self._looks[id_]) for id_, host in nodes.items())
            self._note(found)
        return found

    @property
    def complete(self) -> bool:
        """Whether each of the nodes that were last asked for has answered, or will not."""
        with self._lock:
            return all(look.told or look.problem for look in self._looks.values())

    def _turn(self, id_: str, look: _Look) -> None:
        now = self._clock()
        try:
            if look.answer is None and now >= look.due:
                look.answer, look.asked = self._ask(id_), now
            if look.answer is not None and (told := look.answer()):
                look.told, look.problem, look.answer, look.due = told, "", None, now + PERIOD_S
            elif look.answer is not None and now - look.asked > SILENT_S:
                look.problem = f"it has not answered for {now - look.asked:.0f} s"
        except FarmError as error:
            look.problem, look.answer, look.due = error.message, None, now + PERIOD_S

    def _note(self, hosts: tuple[Host, ...]) -> None:
        """Say of which hosts it has changed whether they get anything new."""
        short = dict(_shortages(hosts))
        for name in short.keys() - self._short.keys():
            log.warning("a host gets nothing new", host=name, why=short[name])
        there = {host.name for host in hosts}
        for name in self._short.keys() - short.keys():
            log.info("a host gets work again" if name in there else "a host is gone", host=name)
        self._short = short


def _told(labelled: Host, look: _Look) -> Host:
    """Its name, what guests may take of it, and its labels are what it joined with."""
    joined = {key: getattr(labelled, key) for key in ("name", "vcpus", "memory_mib", "labels")}
    host = look.told.model_copy(update=joined) if look.told else labelled
    if not look.problem:
        return host
    last = host.room or Room(memory_mib=0, disk_mib=0)
    return host.model_copy(update={"room": last.model_copy(update={"shortage": look.problem})})


def _shortages(hosts: tuple[Host, ...]) -> Iterator[tuple[str, str]]:
    return ((host.name, host.shortage) for host in hosts if host.shortage)
