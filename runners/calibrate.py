"""How slow a guest is: the same work, done for the same time in the guest and natively on its host.

It is found out once for each host, architecture, hypervisor and CPU model, by the first attempt that has such a
guest, and kept. So that other work on the host does not show in it, host and guest take turns, the middle of several
rounds counts, and what has been computed is set against the share of a CPU that the process got for it.
A guest that is there for it alone is measured rather than the attempt's own, where one can be restored; and nothing
that goes wrong here is the attempt's fault, or ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import re
import shlex
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from farm.config import Settings, load_settings
from farm.errors import FarmError, HostError, UntrustedError
from farm.model import GuestFacts, Host, Model, Order, Slowness, Start, Stream
from runners.collect import fetch
from runners.deadline import Deadline
from runners.guest import TICK, Backend, Chunk, Guest, Shell, Work
from runners.hosts.command import CommandError
from runners.hosts.link import link_to
from runners.hosts.uri import HostUri, parse_uri

PROGRAM = rb"""
my ($LEAST_S, $FOLDER, $KIND) = @ARGV;
my $BLOCK = "farm" x 262144;
my $FILE = "$FOLDER/.farm-calibration.$$";
open my $CLOCK, "<", "/proc/uptime" or die "cannot read the clock: $!\n";

sub now {
	sysseek $CLOCK, 0, 0;
	sysread $CLOCK, my $said, 32;
	return $said =~ /^([0-9.]+)/ ? $1 : die "cannot read the clock\n";
}

# What compilers and test suites do most: branches, small texts, tables, numbers. Nothing for which a CPU may have
# an instruction of its own, as it has for checksums: that would measure whether the emulator has it too.
sub compute {
	my %seen;
	my $sum = 0;
	for my $i (1 .. 150) {
		my $word = "w" . ($i * 7919 % 1009);
		$seen{$word} .= chr(65 + $i % 26);
		$sum = ($sum * 31 + length $seen{$word}) & 0x7fffffff;
	}
	my @words = grep { /[0-9]5|7$/ } sort keys %seen;
	return $sum + @words;
}

sub start_programs {
	system("/bin/sh", "-c", "for i in 1 2 3 4 5 6 7; do /bin/true; done") == 0 or die "cannot start programs\n";
}

sub use_disk {
	require IO::Handle;
	open my $file, "+>:raw", $FILE or die "cannot write $FILE: $!\n";
	unlink $FILE;
	print $file $BLOCK or die "cannot write $FILE: $!\n";
	$file->flush && $file->sync or die "cannot write $FILE: $!\n";
	seek $file, 0, 0;
	read($file, my $back, length $BLOCK) == length $BLOCK or die "cannot read $FILE: $!\n";
}

sub used {
	my $sum = 0;
	$sum += $_ for times;
	return $sum;
}

my $work = {cpu => \&compute, fork => \&start_programs, disk => \&use_disk}->{$KIND};
my ($edge, $start, $took, $count) = (now(), 0, 0, 0);
1 while ($start = now()) == $edge;
my $used = used();
while ($took < $LEAST_S) {
	$work->();
	$count++;
	$took = now() - $start;
}
printf "farm-rate %.4f %.4f\n", $count / $took, (used() - $used) / $took;
"""
"""Perl, of which `perl-base` has enough. Arguments: for how many seconds to work, a folder on the disk to try, and the
kind of work. It prints how much was done in a second, and the share of a CPU that it had, as far as it knows.

It is started a dozen times in a guest that may be fifty times as slow, so it loads next to nothing: the modules that
know the time, or that warn, take several times as long to start as all of the work."""

KINDS = ("cpu", "fork", "disk")
ROUNDS = 4
ROUND_S = 0.12
"""For each kind of work."""
LEAST = 0.1
"""A guest may well be faster than its host with the disk, since its disk need not outlive the host's power."""

_MEASURING_S = 150.0
_OTHERS_S = 300.0
_HOST_S = 20.0
_REMOTE_FOLDER = "/var/lib"
"""On the disk on which guests lie on another machine."""
_NO_PROGRAM = 127
"""How a shell ends that does not find a program."""
_WAIT_S = 0.2
_ANSWER_BYTES = 4096
_TRY_AGAIN_S = 3600.0
_LEAST_SHARE = 0.05
_NUMBERS = re.compile(rb"^farm-rate (\d{1,9}\.\d{4}) (\d{1,9}\.\d{4})$", re.MULTILINE)


class Rates(NamedTuple):
    """How much of each kind of work was done in a second."""

    cpu: float
    fork: float
    disk: float


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


class Calibration(Model):
    """What is kept."""

    slowness: Slowness
    host: Rates
    """The middle of the rounds."""
    guest: Rates
    measured_at: datetime


Measure = Callable[[Deadline], Work[Calibration]]


class Calibrations:
    """What has been measured here, in files; and the measuring, one at a time on this host."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.cache / "hosts"
        self._disk = settings.runtime

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

    def in_clone(self, backend: Backend, order: Order) -> Measure:
        """Measure in a guest of an order that is there for nothing else."""
        free = order.guest.model_copy(
            update={"cpu_percent": None, "disk_bytes_per_s": None, "network_bytes_per_s": None, "min_ready": 0}
        )
        plain = order.model_copy(update={"guest": free})

        def measure(deadline: Deadline) -> Work[Calibration]:
            guest = yield from backend.create(plain, deadline)
            try:
                yield from guest.boot(deadline)
                shell = yield from guest.connect(deadline)
                try:
                    return (yield from self.in_guest(guest, shell)(deadline))
                finally:
                    shell.close()
            finally:
                guest.destroy()

        return measure

    def in_guest(self, guest: Guest, shell: Shell) -> Measure:
        """Measure in a guest that is there already. Nothing is left in it."""
        return lambda deadline: calibrate(shell, lambda: guest.usage().cpu_s, self._disk, deadline)

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


def calibrate(shell: Shell, cpu_s: Callable[[], float | None], folder: Path, deadline: Deadline) -> Work[Calibration]:
    """Take turns, the host and the guest.

    `cpu_s` tells the CPU seconds that the guest's machine has used by now, and `folder` is on the disk of the host on
    which the guest's lies. Raises HostError, UntrustedError, and what a shell raises.
    """
    host, guest = [], []
    for _ in range(ROUNDS):
        on_host, in_guest = {}, {}
        for kind in KINDS:
            on_host[kind] = rate(kind, *read_numbers(_on_host(folder, kind)))
            yield TICK
            in_guest[kind] = yield from _in_guest(shell, kind, cpu_s, deadline)
        host.append(Rates(**on_host))
        guest.append(Rates(**in_guest))
    return Calibration(
        slowness=compare(host, guest), host=middle(host), guest=middle(guest), measured_at=datetime.now(UTC)
    )


def middle(rounds: Sequence[Rates]) -> Rates:
    """The median of each kind of work."""
    return Rates(*map(statistics.median, zip(*rounds, strict=True)))


def compare(host: Sequence[Rates], guest: Sequence[Rates]) -> Slowness:
    """The rounds of both -> how many times longer the guest takes; at least LEAST each."""
    pairs = zip(KINDS, middle(host), middle(guest), strict=True)
    return Slowness(**{kind: round(max(LEAST, natively / there), 2) for kind, natively, there in pairs})


def rate(kind: str, measured: float, share: float) -> float:
    """The rate of somebody who had only this share of a CPU, if it had been a whole one. A disk works by itself."""
    return measured if kind == "disk" else measured / min(1.0, max(_LEAST_SHARE, share))


def read_numbers(answer: bytes) -> tuple[float, float]:
    """What PROGRAM prints: a rate, and a share. Raises UntrustedError."""
    match = _NUMBERS.search(answer)
    if match is None or not float(match[1]):
        raise UntrustedError("cannot measure how slow the guest is: what it answers is not what was asked for")
    return float(match[1]), float(match[2])


def measured_before(facts: GuestFacts, backend: Backend, order: Order) -> Work[Slowness | None]:
    """How slow a guest that is not started yet will be; None where only the guest itself can tell."""
    calibrations, kind = Calibrations(load_settings()), kind_of(facts)
    if found := facts.slowness or calibrations.find(kind):
        return found
    if facts.start is Start.COLD:
        return None
    return (yield from calibrations.ensure(kind, facts.image_digest, calibrations.in_clone(backend, order)))


def measured_in(guest: Guest, shell: Shell, order: Order) -> Work[Slowness | None]:
    """How slow a guest is in which nothing has run yet; None where it cannot be told, or its order limits it."""
    calibrations, facts = Calibrations(load_settings()), guest.facts
    if order.guest.cpu_percent or order.guest.disk_bytes_per_s:
        return None
    return (yield from calibrations.ensure(kind_of(facts), facts.image_digest, calibrations.in_guest(guest, shell)))


def kind_of(facts: GuestFacts) -> Kind:
    """What a guest on this host is one of."""
    arch = facts.image.rpartition("/")[2]
    return Kind(facts.host, host_cpu(), arch, facts.hypervisor, facts.hypervisor_version, facts.cpu)


def with_slowness(host: Host, settings: Settings) -> Host:
    """This host with what has been measured of guests that have its own CPU models."""
    calibrations, model = Calibrations(settings), host_cpu()
    offers = []
    for offer in host.offers:
        kind = Kind(host.name, model, offer.arch, offer.hypervisor, offer.version, offer.cpu)
        offers.append(offer.model_copy(update={"slowness": calibrations.find(kind) if offer.cpu else None}))
    return host.model_copy(update={"offers": tuple(offers)})


def host_cpu() -> str:
    """What the CPU of the machine that guests are on calls itself. Raises HostError where it cannot be reached."""
    return cpu_of(parse_uri(load_settings().uri))


@functools.cache
def cpu_of(uri: HostUri) -> str:
    """The same of another host than that of this process."""
    said = link_to(uri).run("cat /proc/cpuinfo; echo; uname -m", deadline=Deadline.after(_HOST_S, "look at the CPU"))
    lines = said.decode(errors="replace").strip().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "cpu\t", "uarch")))
    return next(named, lines[-1])


def _in_guest(shell: Shell, kind: str, cpu_s: Callable[[], float | None], deadline: Deadline) -> Work[float]:
    command = f'exec perl - {ROUND_S:g} "$HOME" {kind}'
    began, used = time.monotonic(), cpu_s()
    answer = yield from fetch(shell, command, limit=_ANSWER_BYTES, deadline=deadline, stdin=PROGRAM)
    took, used_then = time.monotonic() - began, cpu_s()
    share = 1.0 if used is None or used_then is None else (used_then - used) / took
    return rate(kind, read_numbers(answer)[0], share)


def _on_host(folder: Path, kind: str) -> bytes:
    """Natively, on the machine that the guests are on."""
    uri = parse_uri(load_settings().uri)
    place = shlex.quote(_REMOTE_FOLDER if uri.remote else str(folder))
    deadline = Deadline.after(_HOST_S, "measure the host")
    try:
        return link_to(uri).run(f"exec perl - {ROUND_S:g} {place} {kind}", stdin=io.BytesIO(PROGRAM), deadline=deadline)
    except CommandError as error:
        without = error.status == _NO_PROGRAM
        hint = f"install perl-base on {uri.place}" if without else ""
        raise HostError(f"cannot measure the host: {'it has no perl' if without else error.said}", hint=hint) from error


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
