"""What has been measured on this host, kept in files; and who may measure what is lacking, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from farm.config import Settings, load_settings
from farm.errors import FarmError
from farm.model import GuestFacts, Host, Slowness, Stream
from runners import processor
from runners.calibration.measure import Calibration
from runners.deadline import Deadline
from runners.guest import TICK, Chunk, Work
from runners.hosts.uri import parse_uri

_MEASURING_S = 150.0
_OTHERS_S = 300.0
_WAIT_S = 0.2
_TRY_AGAIN_S = 3600.0


class Kind(NamedTuple):
    """What a calibration holds for: it is made anew where any of this differs."""

    host: str
    host_cpu: str
    arch: str
    hypervisor: str
    version: str
    """Of the hypervisor."""
    cpu: str
    """The guest's CPU model."""

    @property
    def file(self) -> str:
        """The name under which it is kept."""
        key = hashlib.sha256("\0".join(self).encode()).hexdigest()[:16]
        return f"slowness-{self.arch}-{self.hypervisor}-{key}.json"


Measure = Callable[[Deadline], Work[Calibration]]


class Calibrations:
    """The files of a cache."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.cache / "hosts"

    def find(self, kind: Kind) -> Slowness | None:
        """What was measured before. A file that cannot be read is as good as none, and will be replaced."""
        try:
            return Calibration.model_validate_json((self._folder / kind.file).read_bytes()).slowness
        except (OSError, ValidationError):
            return None

    def ensure(self, kind: Kind, image_digest: str, measure: Measure) -> Work[Slowness | None]:
        """What was measured before, or is now; None where it cannot be, and the log says why.

        With an image that it could not be measured with, it is not tried again for an hour.
        """
        if found := self.find(kind):
            return found
        vain = self._folder / f".{kind.file}.{image_digest[:12]}.vain"
        if _is_fresh(vain):
            return None
        try:
            with self._lock() as lock:
                yield from _take(lock, Deadline.after(_OTHERS_S, "measure how slow the guest is: others are at it"))
                if (found := self.find(kind)) is None:
                    found = yield from self._measured(kind, measure)
        except (FarmError, OSError) as error:
            with contextlib.suppress(OSError):
                vain.write_text(str(error))
            yield Chunk(Stream.FARM, f"[farm: it is not known how slow the guest is: {error}]\n".encode())
            return None
        return found

    def _measured(self, kind: Kind, measure: Measure) -> Work[Slowness]:
        yield Chunk(Stream.FARM, f"[farm: measuring how slow {kind.arch} is with {kind.hypervisor}]\n".encode())
        calibration = yield from measure(Deadline.after(_MEASURING_S, "measure how slow the guest is"))
        path = self._folder / kind.file
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(calibration.model_dump_json(indent=2))
        temporary.rename(path)
        return calibration.slowness

    @contextlib.contextmanager
    def _lock(self) -> Iterator[int]:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f".calibrating-{os.uname().nodename}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def kind_of(facts: GuestFacts) -> Kind:
    """What a guest on this host is one of. Raises HostError where its machine cannot be reached."""
    arch = facts.image.rpartition("/")[2]
    return Kind(facts.host, _host_cpu(), arch, facts.hypervisor, facts.hypervisor_version, facts.cpu)


def with_slowness(host: Host, settings: Settings) -> Host:
    """This host with what has been measured of guests that have its own CPU models. Raises HostError likewise."""
    calibrations, model = Calibrations(settings), _host_cpu()
    offers = []
    for offer in host.offers:
        kind = Kind(host.name, model, offer.arch, offer.hypervisor, offer.version, offer.cpu)
        offers.append(offer.model_copy(update={"slowness": calibrations.find(kind) if offer.cpu else None}))
    return host.model_copy(update={"offers": tuple(offers)})


def _host_cpu() -> str:
    """Of the machine that guests are on."""
    return processor.name_of(parse_uri(load_settings().uri))


def _is_fresh(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < _TRY_AGAIN_S
    except FileNotFoundError:
        return False


def _take(lock: int, deadline: Deadline) -> Work[None]:
    """Wait for the lock: two that measure at a time would measure each other."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            deadline.check()
            yield TICK
            time.sleep(_WAIT_S)
        else:
            return
