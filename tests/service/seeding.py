"""Runs as a store has them that carried them out, without doing so: for pages and their speed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import NamedTuple

from farm.model import (
    ArtifactFound,
    AttemptEnded,
    AttemptKey,
    Blame,
    Cell,
    Ending,
    Event,
    Evidence,
    GuestCreated,
    GuestFacts,
    LogChunk,
    Matrix,
    Outcome,
    Phase,
    PhaseEnded,
    PhaseStarted,
    Placement,
    Plan,
    ResolvedSource,
    Scalar,
    Slowness,
    Stream,
    Submission,
    TestResult,
    TestsFound,
    TestStatus,
    Usage,
    Verdict,
)
from farm.store import Store

NOW = datetime(2026, 11, 24, 1, 49, 26, tzinfo=UTC)
PASSED = Outcome(verdict=Verdict.PASSED, rule="passed", summary="every test passed")
LOG = (
    b"dh build\n\x1b[1mrunning configure\x1b[0m\nchecking for gcc... \x1b[32myes\x1b[0m\n"
    b"\x1b[33mwarning:\x1b[0m 'load_be32' reads as the host does\n"
    + b"".join(b"\x1b[%dm%d\x1b[0m " % (code, code) for base in (30, 40, 90, 100) for code in range(base, base + 8))
    + b"\n"
)
_SECONDS = {Phase.PROVISION: 0.4, Phase.BOOT: 1.2, Phase.CONNECT: 0.3, Phase.UPLOAD: 0.2, Phase.BUILD: 41.0}
_TEST_S = 18.0


def seeded(
    store: Store,
    axes: Mapping[str, Sequence[Scalar]],
    *,
    name: str = "wire",
    tests: int = 44,
    failing: Mapping[str, Scalar] | None = None,
    at: datetime = NOW,
    version: str = "",
    labels: Mapping[str, str] | None = None,
    unfinished: int = 0,
    names: Iterable[str] = (),
    log: bytes = LOG,
    artifact: str = "results.xml",
) -> str:
    """A run of all combinations; cells with all the values of `failing` fail. Gives its id.

    `names` are those of the tests, `log` is what the guests say, `artifact` what they leave.

    The last `unfinished` cells have not ended: the first of these runs, the others wait.
    """
    matrix = Matrix.model_validate({"name": name, "axes": axes, "test": "make check", "source": {"folder": "."}})
    cells = [_cell(dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    placements = tuple(Placement(cell=one, hypervisor="qemu", emulated=True, hosts=("h1",)) for one in cells)
    source = ResolvedSource(
        kind="folder", description="./libwire", digest="c0ffee" * 10, archive="/x.tar", files=31, bytes=48_200
    )
    run = store.create_run(
        Submission(
            plan=Plan(matrix=matrix, placements=placements),
            source=source,
            matrix_file="wire.yaml",
            version=version,
            labels=dict(labels or {}),
            owner="ada",
        ),
        now=at,
    ).id
    done = cells[: len(cells) - unfinished]
    found = tuple(names) or tuple(f"case_{number:03}" for number in range(tests))
    for number, cell in enumerate(done):
        bad = failing is not None and failing.items() <= cell.values.items()
        guest = _Guest(cell, found, bad, log, artifact)
        _carry_out(store, AttemptKey(run=run, cell=cell.id, number=1), guest, at + timedelta(seconds=number))
    for cell in cells[len(done) : len(done) + min(1, unfinished)]:
        key = AttemptKey(run=run, cell=cell.id, number=1)
        store.start_attempt(key, now=at)
        store.record(key, [*_before_tests(cell, at), PhaseStarted(at=at, phase=Phase.TEST)], now=at)
    if not unfinished:
        store.finish_run(run, now=at + timedelta(minutes=4), cancelled=False)
    return run


def _cell(values: dict[str, Scalar]) -> Cell:
    return Cell(id="/".join(str(value) for value in values.values()), values=values)


class _Guest(NamedTuple):
    cell: Cell
    names: Sequence[str]
    bad: bool
    log: bytes
    artifact: str


def _carry_out(store: Store, key: AttemptKey, guest: _Guest, at: datetime) -> None:
    store.start_attempt(key, now=at)
    fails = {7} if len(guest.names) > 7 else {0}
    results = tuple(_result(name, guest.bad and place % 15 in fails) for place, name in enumerate(guest.names))
    failed = [one.name for one in results if one.status is TestStatus.FAILED]
    ended = AttemptEnded(at=at, evidence=Evidence(), usage=Usage(cpu_s=12.5, memory_peak_mib=312))
    verdict = Ending.FAILED if failed else Ending.OK
    store.record(
        key,
        [
            *_before_tests(guest.cell, at),
            PhaseStarted(at=at + timedelta(seconds=43), phase=Phase.TEST),
            LogChunk(at=at, phase=Phase.TEST, stream=Stream.STDOUT, data=guest.log),
            PhaseEnded(at=at, phase=Phase.TEST, ending=verdict, duration_s=_TEST_S, exit_status=int(bool(failed))),
            TestsFound(at=at, tests=results),
            ArtifactFound(at=at, path=guest.artifact, data=b"<testsuites/>"),
            ended,
        ],
        now=at,
    )
    outcome = _outcome(failed, len(results)) if failed else PASSED
    store.finish_attempt(key, outcome, now=at + timedelta(seconds=61))
    store.finish_cell(key.run, key.cell, outcome, now=at + timedelta(seconds=61))


def _before_tests(cell: Cell, at: datetime) -> Iterator[Event]:
    facts = GuestFacts(
        host="h1",
        hypervisor="qemu",
        hypervisor_version="10.0.2",
        emulated=True,
        machine="virt",
        cpu="max",
        image=f"{cell.values['image']}/{cell.values['arch']}",
        image_digest="5eed" * 16,
        vcpus=1,
        memory_mib=512,
        slowness=Slowness(cpu=8.1, fork=19.0, disk=3.2),
    )
    yield GuestCreated(at=at, facts=facts)
    yield LogChunk(at=at, phase=Phase.BOOT, stream=Stream.CONSOLE, data=b"[    0.000000] Linux version 6.12.9\n")
    since = at
    for phase, seconds in _SECONDS.items():
        yield PhaseStarted(at=since, phase=phase)
        if phase is Phase.BUILD:
            yield LogChunk(at=since, phase=phase, stream=Stream.STDOUT, data=LOG)
        since += timedelta(seconds=seconds)
        yield PhaseEnded(at=since, phase=phase, ending=Ending.OK, duration_s=seconds)


def _result(name: str, failed: bool) -> TestResult:
    if not failed:
        return TestResult(suite="libwire", name=name, status=TestStatus.PASSED, duration_s=0.012)
    return TestResult(
        suite="libwire",
        name=name,
        status=TestStatus.FAILED,
        duration_s=0.014,
        message="expected 0x01020304, got 0x04030201",
        detail="tests/test_swap.c:57: load_be32(bytes)\n  expected 0x01020304\n       got 0x04030201",
    )


def _outcome(failed: Sequence[str], total: int) -> Outcome:
    return Outcome(
        verdict=Verdict.FAILED,
        blame=Blame.TEST,
        rule="tests-failed",
        summary=f"{len(failed)} of {total} tests failed: {', '.join(failed[:3])}",
        lines=("libwire: expected 0x01020304, got 0x04030201",),
    )
