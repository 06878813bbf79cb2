"""Listeners that come and go, in a process of their own: `python -m tests.bench.listeners`.

Its arguments: PORT TOKEN RUN SECONDS COUNT. Prints as JSON how many events each of them has heard, and by how many of
them one was missed or heard twice.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import NamedTuple

from tests.bench.wire import Wire

STAYS_S = (2.0, 12.0)
"""How long a listener listens before it goes away, and comes back."""
_LOOKS_S = 3.0
_CATCH_UP_S = 120.0


class Told(NamedTuple):
    """What all of them heard together."""

    ids: list[int]
    """Of the events, as one hears them that comes once."""
    wrong: int
    """Listeners that missed one, or heard one twice, or in another order."""
    visits: int


async def listener(
    at: tuple[int, str, str], *, until: float, seed: int, first: int, stays_s: tuple[float, float]
) -> tuple[list[int], int]:
    """The ids that one has heard after the first, and how often it came."""
    port, token, run = at
    chance = random.Random(seed)  # noqa: S311 - the same in every measurement
    ids: list[int] = []
    visits, wire = 0, Wire(port, token)
    end = asyncio.Event()
    while not end.is_set():
        visits += 1
        leaves = time.monotonic() + chance.uniform(*stays_s)
        try:
            async with asyncio.timeout(max(0.1, leaves - time.monotonic())):
                async for some in wire.listen(f"/api/v1/runs/{run}/events", ids[-1] if ids else first):
                    ids += some
        except TimeoutError:
            pass
        wire.close()
        if time.monotonic() > until:
            end.set()
        await asyncio.sleep(chance.uniform(0, 0.5))
    return ids, visits


async def newest_now(port: int, token: str, run: str) -> int:
    """The newest event that there is, more or less."""
    newest, wire = 0, Wire(port, token)
    try:
        async with asyncio.timeout(_LOOKS_S):
            async for some in wire.listen(f"/api/v1/runs/{run}/events"):
                newest = some[-1]
    except TimeoutError:
        wire.close()
    return newest


async def caught_up(port: int, token: str, run: str, last: int, newest: int) -> list[int]:
    """What a listener hears when it comes for the last time, up to an event that all are to have heard."""
    ids: list[int] = []
    wire = Wire(port, token)
    async with asyncio.timeout(_CATCH_UP_S):
        async for some in wire.listen(f"/api/v1/runs/{run}/events", last):
            ids += [number for number in some if number <= newest]
            if some[-1] >= newest:
                break
    wire.close()
    return ids


async def listeners(
    port: int, token: str, run: str, seconds: float, count: int, *, stays_s: tuple[float, float] = STAYS_S
) -> Told:
    """Have so many listen for so long; then each hears what is left, up to the newest event that any has heard."""
    first = await newest_now(port, token, run)
    until = time.monotonic() + seconds
    heard = await asyncio.gather(
        *(listener((port, token, run), until=until, seed=seed, first=first, stays_s=stays_s) for seed in range(count))
    )
    newest = max(number for ids, _ in heard for number in ids[-1:])
    whole = await caught_up(port, token, run, first, newest)
    wrong = 0
    for ids, _ in heard:
        last = ids[-1] if ids else first
        rest = await caught_up(port, token, run, last, newest) if last < newest else []
        wrong += ids + rest != whole
    return Told(whole, wrong, sum(visits for _, visits in heard))


if __name__ == "__main__":
    port, token, run, seconds, count = sys.argv[1:]
    told = asyncio.run(listeners(int(port), token, run, float(seconds), int(count)))
    print(json.dumps({"events": len(told.ids), "wrong": told.wrong, "visits": told.visits}))
