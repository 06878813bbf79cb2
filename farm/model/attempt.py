"""One try at a cell: what goes to the worker (an order), what comes back (events), what it came to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from farm.model.base import Model
from farm.model.image import ImageSpec
from farm.model.matrix import Collect, GuestSpec, Timeouts
from farm.model.words import Blame, Ending, Phase, Start, Stream, TestStatus, Verdict

LONGEST_HOLD_S = 7 * 24 * 3600.0
"""For how long a guest is kept for a person at most, where nobody says otherwise."""


class AttemptKey(Model):
    """Names one attempt: its run, its cell, and its number, from 1."""

    run: str
    cell: str
    number: int

    def __str__(self) -> str:
        return f"{self.run}/{self.cell}#{self.number}"


class Builder(Model):
    """The guest that builds for another one: as large as that, and gone before that is made."""

    image: ImageSpec
    hypervisor: str


class Order(Model):
    """All that a worker needs to know for one attempt. The source travels beside it."""

    key: AttemptKey
    image: ImageSpec
    hypervisor: str
    guest: GuestSpec
    cpu: str = ""
    """The CPU model of the guest, as its hypervisor calls it; empty: the one that it gives by itself."""
    env: dict[str, str]
    scripts: dict[Phase, str]
    """The scripts of prepare, build and test; a phase that has none is left out."""
    builder: Builder | None = None
    """Where `build` runs; None: in the guest itself."""
    build_env: dict[str, str] = Field(default_factory=dict)
    """Of `build` alone, where `env` does not say otherwise."""
    collect: Collect
    timeouts: Timeouts
    source_digest: str
    hold_on_failure_s: float = 0.0
    """How long a guest is kept that did not pass."""
    reserved_s: float = 0.0
    """How long a guest is kept in which nothing runs: it was reserved. 0: it was not."""
    ssh_key: str = ""
    """The public key of whom a guest is kept for."""
    hold_limit_s: float = LONGEST_HOLD_S
    """After which the worker ends a guest that is kept, whoever else was to do it."""
    only: tuple[str, ...] = ()
    """The hosts that have what it needs, by their names; empty: all with its hypervisor and architecture have."""
    avoid: tuple[str, ...] = ()
    """Hosts that it must not go to, by their names."""
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    """More variables of the scripts, whose values must appear in no log."""

    @property
    def arch(self) -> str:
        """The guest's architecture, by Debian's name."""
        return self.image.arch


class TestResult(Model):
    """The result of one test, from JUnit or TAP. Every text is bounded and free of control characters."""

    __test__ = False

    suite: str
    name: str
    classname: str = ""
    status: TestStatus
    duration_s: float = 0.0
    message: str = ""
    detail: str = ""


class Slowness(Model):
    """How many times longer than natively on the same host something takes in a guest; measured."""

    cpu: float
    """Computing."""
    fork: float
    """Starting programs."""
    disk: float
    """Writing files and reading them."""

    @property
    def factor(self) -> float:
        """By what a deadline for a native machine has to be multiplied; at least 1."""
        return max(1.0, self.cpu, self.fork)


class GuestFacts(Model):
    """What the guest of an attempt really was."""

    host: str
    hypervisor: str
    hypervisor_version: str
    emulated: bool
    machine: str
    cpu: str
    image: str
    """`debian-13/riscv64`."""
    image_digest: str
    image_kind: str = "unpacked"
    """`unpacked`, `installed` or `cloud`."""
    layers: tuple[str, ...] = ()
    """The names of what is on top of the image."""
    vcpus: int
    memory_mib: int
    start: Start = Start.COLD
    start_note: str = ""
    """How it was restored (`shared`, `mapped`), or why it was not."""
    slowness: Slowness | None = None
    """Of this architecture with this hypervisor on this host, where it has been measured."""
    builder: GuestFacts | None = None
    """The guest that built for this one, where there was one."""


class Usage(Model):
    """What the guest of an attempt used of its host; None: it could not be found out."""

    cpu_s: float | None = None
    """CPU seconds of its hypervisor's process."""
    memory_peak_mib: int | None = None
    """The most that process had in memory at a time."""
    disk_read_bytes: int | None = None
    disk_written_bytes: int | None = None
    network_received_bytes: int | None = None
    """By the guest."""
    network_sent_bytes: int | None = None


class _Event(Model):
    at: datetime
    """Aware, UTC."""


class Placed(_Event):
    """The attempt has been given to a host."""

    kind: Literal["placed"] = "placed"
    host: str


class PhaseStarted(_Event):
    """A phase begins."""

    kind: Literal["phase-started"] = "phase-started"
    phase: Phase


class PhaseEnded(_Event):
    """A phase is over."""

    kind: Literal["phase-ended"] = "phase-ended"
    phase: Phase
    ending: Ending
    duration_s: float
    exit_status: int | None = None
    """Of the phase's script."""
    detail: str = ""
    """Why, where it did not end well."""


class LogChunk(_Event):
    """A piece of a phase's log, as the guest wrote it: untrusted bytes."""

    kind: Literal["log"] = "log"
    phase: Phase
    stream: Stream
    data: bytes


class Heartbeat(_Event):
    """The worker lives."""

    kind: Literal["heartbeat"] = "heartbeat"
    usage: Usage | None = None
    """So far; None: it has not been looked at again."""


class GuestCreated(_Event):
    """The guest exists."""

    kind: Literal["guest"] = "guest"
    facts: GuestFacts


class TestsFound(_Event):
    """Some of the tests' results; there may be several such events."""

    __test__ = False

    kind: Literal["tests"] = "tests"
    tests: tuple[TestResult, ...]


class ArtifactFound(_Event):
    """A file from the guest; `path` is relative and has been checked."""

    kind: Literal["artifact"] = "artifact"
    path: str
    data: bytes


class Failure(Model):
    """What went wrong in a phase, as evidence for the verdict."""

    phase: Phase
    builder: bool = False
    """In the guest that builds for another one: all its phases lie within the attempt's `build`."""
    ending: Ending
    error: str = ""
    """The name of the class in `farm.errors` that says what happened; empty: a script's exit status."""
    message: str = ""
    exit_status: int | None = None
    crash: str = ""
    """The rule of `runners.console` that matched; empty: the console shows no crash."""
    lines: tuple[str, ...] = ()
    """The lines (console, log, exception) that this rests on."""

    @property
    def place(self) -> str:
        """`boot`; in the guest that builds for another one `boot of the builder`."""
        return f"{self.phase} of the builder" if self.builder and self.phase is not Phase.BUILD else self.phase.value


class Evidence(Model):
    """All that the verdict on an attempt is made from."""

    failure: Failure | None = None
    """The first that went wrong, in the order of the phases."""
    tested: bool = True
    """The test's script was begun, where there is one; without that nothing is a pass."""
    junit_promised: bool = False
    junit_files: int = 0
    junit_problem: str = ""
    """What is wrong with a results file, where one could not be read in full."""
    tests: dict[TestStatus, int] = Field(default_factory=dict)
    failed_tests: tuple[str, ...] = ()
    """The first few by name."""
    reserved: bool = False
    """Nothing was to be tested: the guest was for a person."""


class Held(_Event):
    """The guest is kept for a person. It may be the last event: what ends this is most often a cancel."""

    kind: Literal["held"] = "held"
    command: str = ""
    """How to get in; empty where it is told who it is not for."""
    until: datetime
    evidence: Evidence
    """For the verdict, which is known before."""
    usage: Usage | None = None


class AttemptEnded(_Event):
    """The last event of every attempt that was not lost."""

    kind: Literal["ended"] = "ended"
    evidence: Evidence
    cpu_s: float = 0.0
    """CPU time that the worker spent on the attempt, without the hypervisor's."""
    usage: Usage | None = None
    """None: there was no guest, or it was gone before it could be asked."""


Event = Annotated[
    Placed
    | PhaseStarted
    | PhaseEnded
    | LogChunk
    | Heartbeat
    | GuestCreated
    | TestsFound
    | ArtifactFound
    | Held
    | AttemptEnded,
    Field(discriminator="kind"),
]


class Outcome(Model):
    """The verdict on an attempt, and what it rests on."""

    verdict: Verdict
    blame: Blame | None = None
    rule: str = ""
    """The row of `farm.verdict`'s table that decided."""
    summary: str = ""
    """One line for a person."""
    lines: tuple[str, ...] = ()
    retry: bool = False
    """The cause is such that another attempt makes sense."""
    flaky: bool = False
    """Of a cell that passed: an attempt before had failed."""
