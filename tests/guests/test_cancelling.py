"""A real server with real guests: a cancel in any phase leaves nothing, and a host that was taken out is tested."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from farm.model import AttemptRecord, Ending, HostMark, Mark, Phase, State, Verdict
from farm.store import Store
from runners.ledger import Entry, read
from tests.chaos.processes import processes
from tests.service.serving import Serving
from tests.waiting import eventually

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

GONE_S = 5.0
REACHED_S = 120.0
MADE_S = 800.0
"""An image and its snapshot may have to be made first, on a machine that is busy."""
MATRIX = """\
name: cancelled
axes:
  image: [debian-13]
  arch: [riscv64]
  hypervisor: [qemu]
guest: {memory: 256}
prepare: sleep 3
build: sleep 3
test: |
  sleep 3
  head -c 20000000 /dev/urandom > large
collect: {artifacts: [large]}
"""
"""Phases that last for a while, also those that only carry bytes."""
MATRIX_OF_A_TEST = f"{MATRIX.partition('prepare:')[0]}test: 'true'\n"
NEXT = {
    Phase.PROVISION: {Phase.BOOT, Phase.CONNECT, Phase.UPLOAD},
    Phase.BOOT: {Phase.CONNECT, Phase.UPLOAD},
    Phase.CONNECT: {Phase.UPLOAD},
}
"""What may have begun by the time that the cancel is there: to restore a guest takes less than a second."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    runtime = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))
    one = Serving(tmp_path_factory.mktemp("server"), runtime)
    try:
        one.start()
        client = one.client()
        run = _submitted(client, one.upload(client), MATRIX_OF_A_TEST)
        assert one.wait_for(client, run, timeout_s=MADE_S)["run"]["exit_code"] == 0
        yield one
    finally:
        one.stop()
        shutil.rmtree(runtime, ignore_errors=True)


@pytest.mark.parametrize(
    "phase", [phase for phase in Phase if phase is not Phase.TEARDOWN], ids=lambda phase: phase.value
)
def test_a_cancel_in_any_phase_leaves_no_guest(server: Serving, phase: Phase) -> None:
    client = server.client()
    large = {"large": bytes(range(256)) * 80_000} if phase is Phase.UPLOAD else None  # so that it lasts
    run = _submitted(client, server.upload(client, large))
    store = Store.open(f"sqlite:///{server.state / 'farm.db'}", server.state)
    try:
        eventually(
            lambda: _phase(store, run) is phase,
            within_s=REACHED_S,
            what=lambda: f"the phase is {phase}; it is {_phase(store, run)}",
        )
        began = time.monotonic()
        client.post(f"/api/v1/runs/{run}/cancel").raise_for_status()
        eventually(
            lambda: not (_machines(server) or _made(server)),
            within_s=GONE_S,
            what=lambda: f"nothing is left of the guest; there is: {_machines(server)} {_made(server)}",
        )
        took_s = time.monotonic() - began
        eventually(
            lambda: store.outline(run).state is State.FINISHED,
            within_s=GONE_S,
            what=lambda: f"the run is finished; it is {store.outline(run).state}",
        )
        (cell,) = store.run(run).cells
    finally:
        store.close()
    (attempt,) = cell.attempts
    assert cell.outcome
    assert (cell.outcome.verdict, cell.outcome.blame) == (Verdict.CANCELLED, None)
    assert {one.phase for one in attempt.phases if one.ending is Ending.CANCELLED} <= {phase, *NEXT.get(phase, ())}
    print(f"cancelled in {phase}: gone after {took_s:.2f} s")


def test_a_host_that_was_taken_out_is_tested_with_a_guest_and_takes_work_again(server: Serving) -> None:
    store = Store.open(f"sqlite:///{server.state / 'farm.db'}", server.state)
    try:
        _until_no_machine_is_left(server)
        host = store.run("cancelled-1").cells[0].attempts[0].host
        now = datetime.now(UTC)
        store.hosts.put(HostMark(name=host, mark=Mark.FAILED, reason="it burns", since=now, due=now))
        eventually(lambda: _machines(server), within_s=60, what="the host is tested with a guest")
        eventually(
            lambda: store.hosts.all() == (),
            within_s=120,
            what=lambda: f"the host takes work again; it is marked: {store.hosts.all()}",
        )
        _until_no_machine_is_left(server)
    finally:
        store.close()
    assert "a host takes work again" in server.log.read_text()


def _submitted(client: httpx.Client, source: str, matrix: str = MATRIX) -> str:
    answer = client.post("/api/v1/runs", json={"matrix": matrix, "source": {"upload": source}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["run"]["id"])


def _phase(store: Store, run: str) -> Phase | None:
    """That which goes on."""
    attempts: tuple[AttemptRecord, ...] = store.outline(run).cells[0].attempts
    phases: Any = attempts[-1].phases if attempts else ()
    assert not attempts or attempts[-1].state is not State.FINISHED, attempts[-1].outcome
    return next((one.phase for one in phases if one.ending is None), None)


def _machines(server: Serving) -> list[int]:
    return [one.pid for one in processes(server.runtime) if one.kind == "qemu"]


def _until_no_machine_is_left(server: Serving) -> None:
    eventually(
        lambda: not _machines(server),
        within_s=GONE_S,
        what=lambda: f"no machine is left; there is: {_machines(server)}",
    )


def _made(server: Serving) -> list[Entry]:
    """What guests have made and is still there: not the server's own session, nor roots that are kept for the next."""
    found = [entry for path in (server.runtime / "ledger").glob("*.jsonl") for entry in _entries(path)]
    return [entry for entry in found if entry.kind not in ("ray-session", "libvirt-root")]


def _entries(path: Path) -> tuple[Entry, ...]:
    try:
        return read(path)
    except FileNotFoundError:
        return ()
