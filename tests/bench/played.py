"""A real server whose guests are played in its own process, a thousand at a time: `python -m tests.bench.played DIR`.

Ray would run as many as there are CPUs; here the controller, the store, the feed and the API have the events of a
thousand attempts, as a cluster would send them. It prints its address, a token and the id of its run as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn

from api.app import create_app
from farm.cli.shelf import ShelfImages
from farm.config import Settings
from farm.errors import AttemptCancelledError
from farm.logs import configure
from farm.model import (
    SCRIPTS,
    AttemptEnded,
    AttemptKey,
    Ending,
    Event,
    Evidence,
    GuestCreated,
    GuestFacts,
    Heartbeat,
    Host,
    LogChunk,
    Offer,
    Order,
    Phase,
    PhaseEnded,
    PhaseStarted,
    RunRequest,
    Scope,
    Stream,
    TestResult,
    TestsFound,
    TestStatus,
    UploadedSource,
)
from farm.serve import Server
from farm.serverconfig import ServerConfig
from farm.store import Store
from tests.service.serving import tar_of

CELLS = 1000
ATTEMPT_S = 150.0
"""How long an attempt takes, on average."""
_BEAT_S = 5.0
_TESTS = 20
MATRIX = f"""\
name: load
axes:
  image: [debian-13]
  arch: [amd64]
  hypervisor: [fake]
  n: {list(range(CELLS))}
guest: {{memory: 128M}}
test: make check
"""
HOST = Host(
    name="played",
    uri="played",
    vcpus=CELLS,
    memory_mib=CELLS * 128,
    offers=(Offer(hypervisor="fake", arch="amd64", emulated=True, scripted=True),),
)


class Players:
    """Implements `farm.attempts.Executor` and `farm.intake.Fleet`: attempts that take their time."""

    def __init__(self) -> None:
        self._cancelled: dict[AttemptKey, asyncio.Event] = {}
        self._random = random.Random(4)  # noqa: S311 - the same in every measurement

    def hosts(self) -> tuple[Host, ...]:
        """One, with room for all."""
        return (HOST,)

    def offer_source(self, digest: str, archive: Path | None) -> None:
        """Nobody unpacks it."""

    def withdraw_source(self, digest: str) -> None:
        """Nobody has it."""

    async def run(self, order: Order) -> AsyncGenerator[Event, None]:
        """Phase by phase, with logs and heartbeats on the way."""
        self._cancelled[order.key] = asyncio.Event()
        for phase in Phase:
            yield PhaseStarted(at=_now(), phase=phase)
            if phase is Phase.PROVISION:
                yield GuestCreated(at=_now(), facts=_facts(order))
            async for event in self._phase(order.key, phase):
                yield event
            yield PhaseEnded(at=_now(), phase=phase, ending=Ending.OK, duration_s=1.0, exit_status=0)
        yield AttemptEnded(at=_now(), evidence=Evidence())

    async def cancel(self, key: AttemptKey) -> None:
        """It ends at its next word."""
        self._cancelled[key].set()

    async def _phase(self, key: AttemptKey, phase: Phase) -> AsyncGenerator[Event, None]:
        left_s = self._random.uniform(0.5, 1.5) * ATTEMPT_S / len(Phase)
        while left_s > 0:
            await asyncio.sleep(min(_BEAT_S, left_s))
            if self._cancelled[key].is_set():
                raise AttemptCancelledError("the attempt was cancelled")
            left_s -= _BEAT_S
            if phase in SCRIPTS:  # who says something needs no heartbeat
                yield LogChunk(at=_now(), phase=phase, stream=Stream.STDOUT, data=b"compiling, testing\n" * 20)
            else:
                yield Heartbeat(at=_now())
        if phase is Phase.COLLECT:
            tests = (TestResult(suite="s", name=f"t{number}", status=TestStatus.PASSED) for number in range(_TESTS))
            yield TestsFound(at=_now(), tests=tuple(tests))


def _facts(order: Order) -> GuestFacts:
    return GuestFacts(
        host=HOST.name,
        hypervisor="fake",
        hypervisor_version="1",
        emulated=True,
        machine="script",
        cpu="none",
        image=f"{order.image.name}/{order.arch}",
        image_digest="0" * 64,
        vcpus=1,
        memory_mib=128,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Serve until a signal comes."""
    folder = Path(sys.argv[1])
    configure("info")
    settings = Settings(state=folder / "state", cache=folder / "cache", runtime=folder / "run")
    store, players = Store.open(settings.database, settings.state), Players()
    server = Server(
        settings=settings,
        config=ServerConfig(port=0, rate=1e6, burst=1_000_000),
        store=store,
        executor=players,
        fleet=players,
        settle=lambda plan: plan,
        images=ShelfImages(settings),
        orphans=lambda: 0,
    )
    _, token = server.access.create_token("bench", Scope.ADMIN, by="bench", now=_now())
    (folder / "source.tar").write_bytes(tar_of({"hello.txt": b"hello\n"}))
    source = server.intake.sources.upload(folder / "source.tar", "hello")
    server.start()

    class Told(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            request = RunRequest(matrix=MATRIX, source=UploadedSource(upload=source.digest))
            run = await asyncio.to_thread(server.intake.submit, request, owner="bench")
            server.wake()
            port = self.servers[0].sockets[0].getsockname()[1]
            print(json.dumps({"port": port, "token": token, "run": run.id, "source": source.digest}), flush=True)

        async def shutdown(self, sockets: Any = None) -> None:
            server.feed.close()
            await super().shutdown(sockets)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            Told(uvicorn.Config(create_app(server), port=0, log_config=None, access_log=False)).run()
    finally:  # its thread would keep the process
        server.stop()
        store.close()


if __name__ == "__main__":
    main()
