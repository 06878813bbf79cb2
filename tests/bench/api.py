"""The REST API while a thousand cells run and two hundred listeners come and go; a large run looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

from farm.overviews import Overviews
from farm.store import Store
from tests.bench.figures import Aim, Figure, against, seconds
from tests.bench.wire import Wire
from tests.service.seeding import seeded

RATE = 50
"""Requests a second: each is sent when it is due, whether or not those before have been answered.

Two hundred pages ask so often that are open and look again every four seconds.
"""
LISTENERS = 200
_WARM_UP_S = 20.0
_JOINED_S = 8.0
"""Until all listeners have come, which they do in the same moment; from then on they come and go one by one."""
_LASTS_S = 60.0
_CONNECTIONS = 32
_CHECKS, _SUBMITS = 10, 50
"""Of so many requests one checks a matrix, and one submits a run."""
_SMALL = """\
name: small
axes: {image: [debian-13], arch: [amd64], hypervisor: [fake]}
guest: {memory: 128M}
test: make check
"""
_AIM_MS = 100.0
_LOOK_AIM_S = 0.5
_CELLS, _TESTS = 1000, 200


def figures() -> Iterator[Figure]:
    """First under load, then a run by itself."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        yield from _under_load(Path(folder))
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        yield from _looked_at(Path(folder))


def _under_load(folder: Path) -> Iterator[Figure]:
    with played(folder) as server:
        time.sleep(_WARM_UP_S)
        with _listeners(server) as listening:
            time.sleep(_JOINED_S)
            answers = asyncio.run(_requests(server))
            told = json.loads(listening.communicate(timeout=300)[0])
    assert told["wrong"] == 0, told
    spans_ms = sorted(1000 * answer.took_s for answer in answers)
    load = f"{RATE} requests a second, {_CELLS} cells running, {LISTENERS} listeners"
    heard = f"{told['events']} events, each heard once by each, over {told['visits']} visits"
    yield _at(f"an answer under load, the middle one of {len(spans_ms)} ({load})", spans_ms, 0.5)
    yield _at(f"the same, 99 of 100 are quicker ({heard}; {_slow(answers)})", spans_ms, 0.99)


class Ask(NamedTuple):
    """A request."""

    path: str
    body: bytes = b""
    """Of a POST; empty: it is a GET."""


class Answer(NamedTuple):
    """How one request was answered."""

    path: str
    second: int
    """Of the measurement, in which it was due."""
    took_s: float


def _slow(answers: Sequence[Answer]) -> str:
    """Whether a kind of request is slow, or all are for a moment in which the server stands still."""
    slow = [answer for answer in answers if answer.took_s > _AIM_MS / 1000]
    if not slow:
        return "none was slower than that"
    (path, most), *_ = Counter(answer.path for answer in slow).most_common(1)
    seconds_ = len({answer.second for answer in slow})
    kind = path.rpartition("/runs")[2] or path
    return f"{len(slow)} took longer, in {seconds_} of {_LASTS_S:g} seconds, {most} of them of `{kind}`"


def _at(name: str, spans_ms: list[float], share: float) -> Figure:
    return Figure(name, Aim(_AIM_MS, "ms"), "ms", (spans_ms[int(share * (len(spans_ms) - 1))],), (_AIM_MS,))


def _looked_at(folder: Path) -> Iterator[Figure]:
    store = Store.open(f"sqlite:///{folder}/farm.db", folder)
    axes: dict[str, list[Any]]
    axes = {"image": ["debian-13"], "arch": ["amd64"], "hypervisor": ["fake"], "n": list(range(_CELLS))}
    run = seeded(store, axes, tests=_TESTS, failing={"n": 7})
    name = f"looking at a run of {_CELLS} cells × {_TESTS} tests"
    yield against(f"{name}, the first time", _LOOK_AIM_S, "s", lambda: seconds(lambda: Overviews(store).look(run)))
    kept = Overviews(store)
    yield against(f"{name}, again", _LOOK_AIM_S, "s", lambda: seconds(lambda: kept.look(run)))
    store.close()


@contextlib.contextmanager
def played(folder: Path) -> Iterator[dict[str, Any]]:
    """A server with a run of a thousand cells that are under way: its port, its token, the run and its source."""
    command = [sys.executable, "-m", "tests.bench.played", str(folder)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        assert process.stdout
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)


@contextlib.contextmanager
def _listeners(server: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    told = [str(server["port"]), server["token"], server["run"], str(_JOINED_S + _LASTS_S), str(LISTENERS)]
    command = [sys.executable, "-m", "tests.bench.listeners", *told]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": "."}) as process:
        try:
            yield process
        finally:
            process.kill()


async def _requests(server: dict[str, Any]) -> list[Answer]:
    """From when each request was due until its answer was there."""
    free: asyncio.Queue[Wire] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(Wire(server["port"], server["token"]))
    begun = time.monotonic()
    answers: list[Answer] = []

    async def ask(what: Ask, due: float) -> None:
        await asyncio.sleep(due - time.monotonic())
        wire = await free.get()
        await (wire.post(what.path, what.body) if what.body else wire.get(what.path))
        answers.append(Answer(what.path, int(due - begun), time.monotonic() - due))
        free.put_nowait(wire)

    asked = islice(_asked(server), int(RATE * _LASTS_S))
    await asyncio.gather(*(ask(what, begun + number / RATE) for number, what in enumerate(asked)))
    return answers


def _asked(server: dict[str, Any]) -> Iterator[Ask]:
    """What is asked for, one after the other and without an end."""
    looks = cycle(_paths(server["run"]))
    check = Ask("/api/v1/validate", json.dumps({"matrix": _SMALL}).encode())
    submit = Ask("/api/v1/runs", json.dumps({"matrix": _SMALL, "source": {"upload": server["source"]}}).encode())
    for number in count(1):
        if number % _SUBMITS == 0:
            yield submit
        elif number % _CHECKS == 0:
            yield check
        else:
            yield Ask(next(looks))


def _paths(run: str) -> list[str]:
    """What pages and scripts ask for again and again."""
    api = "/api/v1"
    cells = [f"{api}/runs/{run}/cells/debian-13/amd64/fake/n={number}" for number in (1, 500, 999)]
    return [
        f"{api}/me",
        f"{api}/runs?limit=20",
        cells[0],
        f"{api}/runs/{run}/cells?limit=20",
        f"{cells[1]}/attempts/1/logs",
        f"{api}/runs/{run}/tests?status=failed",
        f"{cells[2]}/attempts/1/tests",
        f"{api}/runs/{run}",
    ]


if __name__ == "__main__":
    for figure in figures():
        print(figure.row(), statistics.median(figure.ours))
