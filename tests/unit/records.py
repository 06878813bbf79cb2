"""A realistic run as the store would give it: one image, three architectures, a bug that big-endian shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from farm.model import (
    ArtifactRecord,
    AttemptKey,
    AttemptRecord,
    Blame,
    Cell,
    CellRecord,
    Ending,
    Excluded,
    FolderSource,
    GuestFacts,
    GuestSpec,
    Matrix,
    Outcome,
    Phase,
    PhaseRecord,
    Placement,
    Plan,
    ResolvedSource,
    RunRecord,
    Slowness,
    Start,
    State,
    Submission,
    TestResult,
    TestStatus,
    Usage,
    Verdict,
)

START = datetime(2025, 3, 14, 9, 26, 53, tzinfo=UTC)
DIGEST = "9f2c4e5b1a7d83c60e4f5a2b9d8c7e6f1029384756abcdef0123456789abcdef"
ARCHES = ("amd64", "riscv64", "s390x")
SECONDS = {
    Phase.PROVISION: 1.9,
    Phase.BOOT: 7.4,
    Phase.CONNECT: 1.2,
    Phase.UPLOAD: 0.2,
    Phase.PREPARE: 0.04,
    Phase.BUILD: 5.8,
    Phase.TEST: 3.1,
    Phase.COLLECT: 0.3,
    Phase.TEARDOWN: 0.25,
}
MACHINES = {"amd64": ("q35", "max"), "riscv64": ("virt", "rv64"), "s390x": ("s390-ccw-virtio", "qemu")}

PASSED = Outcome(verdict=Verdict.PASSED, rule="passed", summary="40 tests passed")
FAILED = Outcome(
    verdict=Verdict.FAILED,
    blame=Blame.TEST,
    rule="tests-failed",
    summary="2 of 40 tests failed: swap.load_be32, pack.header_round_trip",
    lines=("FAIL swap.load_be32: expected 0x01020304, got 0x04030201", "FAIL pack.header_round_trip: 4 bytes differ"),
)
PANIC = Outcome(
    verdict=Verdict.ERROR,
    blame=Blame.GUEST,
    rule="guest-crash",
    summary="the guest's kernel panicked during build",
    lines=(
        "[    9.412345] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
        "[    9.413012] CPU: 0 PID: 1 Comm: init Not tainted 6.12.9+deb13-riscv64",
        "[    9.414377] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---",
    ),
)


WRONG = {
    "load_be32": (
        "expected 0x01020304, got 0x04030201",
        "tests/test_swap.c:57: load_be32(bytes)\n  expected 0x01020304\n       got 0x04030201",
    ),
    "header_round_trip": (
        "4 bytes differ",
        "tests/test_pack.c:112: memcmp\n  57 49 52 45 00 00 00 2a\n  57 49 52 45 2a 00 00 00",
    ),
}


def results(*, failing: bool = False) -> tuple[TestResult, ...]:
    """40 tests in two suites, one of them skipped; two fail where asked for."""
    names = [("swap", f"load_{order}{bits}") for order in ("le", "be") for bits in (16, 32, 64)]
    names += [("pack", f"field_{number:02}") for number in range(32)] + [("pack", "header_round_trip")]
    found = [_result(suite, name, failing=failing) for suite, name in names]
    skipped = TestResult(suite="pack", name="mmap_large", status=TestStatus.SKIPPED, message="needs 1 GiB of memory")
    return (*found, skipped)


def _result(suite: str, name: str, *, failing: bool) -> TestResult:
    status, message, detail = TestStatus.PASSED, "", ""
    if failing and name in WRONG:
        status, (message, detail) = TestStatus.FAILED, WRONG[name]
    return TestResult(
        suite=suite,
        name=name,
        classname=f"libwire.{suite}",
        status=status,
        duration_s=0.012,
        message=message,
        detail=detail,
    )


def phases(*, start: datetime, bad: Phase | None = None, ending: Ending = Ending.FAILED) -> tuple[PhaseRecord, ...]:
    """Every phase up to the bad one, then teardown."""
    made, at = [], start
    for phase, seconds in SECONDS.items():
        if bad and list(Phase).index(bad) < list(Phase).index(phase) < len(Phase) - 1:
            continue
        wrong = phase is bad
        made.append(
            PhaseRecord(
                phase=phase,
                started=at,
                duration_s=seconds,
                ending=ending if wrong else Ending.OK,
                exit_status=(2 if wrong and ending is Ending.FAILED else None),
                detail="the guest went away" if wrong and ending is Ending.LOST else "",
            )
        )
        at += timedelta(seconds=seconds)
    return tuple(made)


def facts(arch: str) -> GuestFacts:
    """An emulated guest; amd64 has KVM."""
    machine, cpu = MACHINES[arch]
    emulated = arch != "amd64"
    return GuestFacts(
        host="builder-1",
        hypervisor="kvm" if arch == "amd64" else "qemu",
        hypervisor_version="10.0.2",
        emulated=emulated,
        machine=machine,
        cpu=cpu,
        image=f"debian-13/{arch}",
        image_digest=f"sha256:{arch.encode().hex():0<64}",
        layers=("wire-headers",),
        vcpus=1,
        memory_mib=512,
        start=Start.RESTORED if emulated else Start.COLD,
        start_note="shared" if emulated else "the snapshot could not be saved",
        slowness=Slowness(cpu=8.25, fork=19.0, disk=3.2) if emulated else None,
    )


def attempt(cell: Cell, number: int, outcome: Outcome | None, **changes: object) -> AttemptRecord:
    """One finished attempt."""
    start = START + timedelta(seconds=4 + 30 * (number - 1))
    values: dict[str, object] = {
        "key": AttemptKey(run="demo-3", cell=cell.id, number=number),
        "state": State.FINISHED,
        "created": start,
        "finished": start + timedelta(seconds=sum(SECONDS.values()) + 1),
        "seen": start + timedelta(seconds=20),
        "facts": facts(cell.arch),
        "outcome": outcome,
        "phases": phases(start=start),
        "tests": results(),
        "artifacts": (
            ArtifactRecord(path="build/junit.xml", bytes=6_412, sha256="a" * 64),
            ArtifactRecord(path="build/libwire.so.1", bytes=48_128, sha256="b" * 64),
        ),
        "cpu_s": 0.8,
        "usage": Usage(
            cpu_s=17.25,
            memory_peak_mib=231,
            disk_read_bytes=31_457_280,
            disk_written_bytes=5_242_880,
            network_received_bytes=98_304,
            network_sent_bytes=None,
        ),
    }
    return AttemptRecord(**(values | changes))


def cell_record(arch: str, bug: str) -> CellRecord:
    """The cell of an architecture with the bug `on` or `off`."""
    cell = Cell(id=f"debian-13/{arch}/bug={bug}", values={"image": "debian-13", "arch": arch, "bug": bug})
    placement = Placement(
        cell=cell, hypervisor="kvm" if arch == "amd64" else "qemu", emulated=arch != "amd64", hosts=("builder-1",)
    )
    outcome, attempts = PASSED, (attempt(cell, 1, PASSED),)
    if (arch, bug) == ("s390x", "on"):
        outcome = FAILED
        bad = phases(start=START + timedelta(seconds=4), bad=Phase.TEST)
        attempts = (attempt(cell, 1, FAILED, tests=results(failing=True), phases=bad),)
    if (arch, bug) == ("riscv64", "off"):
        outcome = PANIC
        lost = {"tests": (), "artifacts": ()}
        infra = Outcome(
            verdict=Verdict.ERROR,
            blame=Blame.INFRA,
            rule="connect-lost",
            summary="no SSH session within 60 s",
            retry=True,
        )
        attempts = (
            attempt(cell, 1, infra, phases=phases(start=START, bad=Phase.CONNECT, ending=Ending.TIMEOUT), **lost),
            attempt(cell, 2, PANIC, phases=phases(start=START, bad=Phase.BUILD, ending=Ending.LOST), **lost),
        )
    return CellRecord(placement=placement, state=State.FINISHED, outcome=outcome, attempts=attempts)


def demo_run(
    cells: tuple[CellRecord, ...] | None = None, *, guest: GuestSpec | None = None, **changes: object
) -> RunRecord:
    """Six cells: s390x with the bug fails two tests, riscv64 without it panics, the others pass."""
    if cells is None:
        cells = tuple(cell_record(arch, bug) for arch in ARCHES for bug in ("off", "on"))
    matrix = Matrix(
        name="demo",
        source=FolderSource(folder="examples/libwire"),
        axes={"image": ("debian-13",), "arch": ARCHES, "bug": ("off", "on")},
        guest=guest or GuestSpec(),
        test="make check",
    )
    plan = Plan(
        matrix=matrix,
        placements=tuple(cell.placement for cell in cells),
        excluded=(Excluded(id="debian-12/s390x/bug=on", reason="excluded at demo.yaml:14"),),
        warnings=("demo.yaml:15: exclude matches nothing",),
    )
    source = ResolvedSource(
        kind="folder", description="examples/libwire", digest=DIGEST, archive="source.tar", files=23, bytes=61_440
    )
    values: dict[str, object] = {
        "id": "demo-3",
        "submission": Submission(plan=plan, source=source, matrix_file="matrices/demo.yaml"),
        "state": State.FINISHED,
        "created": START,
        "finished": START + timedelta(seconds=58),
        "cells": cells,
    }
    return RunRecord(**(values | changes))


def read_log(key: AttemptKey, name: str) -> bytes:
    """Logs of a length that is cut, with colours as real ones have them."""
    texts = {
        "build": b"\x1b[1mcc -O2 -c src/swap.c\x1b[0m\ncc -O2 -c src/pack.c\ncc -shared -o libwire.so.1 *.o\n",
        "test": b"".join(b"ok %d - pack.field_%02d\r\n" % (number, number) for number in range(6_000)),
        "console": b"[    0.000000] Linux version 6.12.9 (debian-kernel)\r\n[    1.204511] Run /init as init\r\n",
    }
    return texts.get(name, b"")
