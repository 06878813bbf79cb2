from __future__ import annotations

import asyncio

import pytest

from farm.pace import Pace


class Clock:
    """Stands still, but for what a test and those who sleep move it by."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("took", "since", "rest"), [(1, 0, 4), (0, 0, 0), (5, 0, 10), (1, 3, 1), (1, 9, 0)])
def test_the_pause_goes_by_how_long_the_work_took(
    monkeypatch: pytest.MonkeyPatch, took: float, since: float, rest: float
) -> None:
    clock = Clock(monkeypatch)
    pace = Pace(pause=4, longest_s=10, clock=clock)
    with pace.working():
        clock.now += took
    clock.now += since
    asyncio.run(pace.rest())
    assert clock.slept == [rest]
