"""How many attempts a second, of a guest that costs nothing, against tasks of Ray's that do nothing."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import structlog

from farm.controller import Controller
from farm.executor import RayExecutor
from farm.matrix import expansion, loads
from farm.model import Host, Offer, ResolvedSource, Submission
from farm.planner import plan
from farm.store import Store
from runners.session import local_session
from tests.bench.figures import Aim, Figure, seconds, side_by_side
from tests.bench.simulation import Silent, now

_CELLS = 100
_MATRIX = f"""\
name: rate
axes: {{image: [debian-13], arch: [amd64], hypervisor: [fake], n: [{", ".join(map(str, range(_CELLS)))}]}}
guest: {{memory: 128M}}
test: "true"
"""
_HOST = Host(
    name="rate",
    uri="played",
    vcpus=2,
    memory_mib=1024,
    offers=(Offer(hypervisor="fake", arch="amd64", emulated=True, scripted=True),),
)


def figures() -> Iterator[Figure]:
    """The time of so many; the ratio of rates is its inverse."""
    import ray  # noqa: PLC0415 - `farm.executor` has to set its environment before it is loaded

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with (
        tempfile.TemporaryDirectory(prefix="rate-") as folder,
        tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as runtime,
        local_session(Path(runtime)) as session,
    ):
        executor = RayExecutor(session=session, host=_HOST)
        executor.start()
        store = Store.open(f"sqlite:///{folder}/farm.db", Path(folder))
        nothing = ray.remote(lambda: None).options(num_cpus=1, max_retries=0)
        try:
            yield side_by_side(
                f"{_CELLS} attempts that do nothing, against as many tasks of Ray's",
                Aim(2),
                "s",
                lambda: seconds(lambda: _run(store, executor)),
                lambda: seconds(lambda: ray.get([nothing.remote() for _ in range(_CELLS)])),
            )
        finally:
            store.close()
            executor.close()


def _run(store: Store, executor: RayExecutor) -> None:
    matrix = loads(_MATRIX, file="rate").matrix
    source = ResolvedSource(kind="folder", description=".", digest="d", archive="", files=0, bytes=0)
    run = store.create_run(Submission(plan=plan(matrix, expansion(matrix), (_HOST,)), source=source), now=now())
    done = asyncio.run(Controller(store, executor, Silent()).execute(run.id))
    assert all(cell.outcome and cell.outcome.verdict == "passed" for cell in done.cells)
