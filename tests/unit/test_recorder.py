"""What attempts say is stored in its order, together where it comes together, and told when it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from farm.errors import FencedError, FullError, UntrustedError
from farm.model import ArtifactFound, AttemptKey, Event, Heartbeat, Phase, PhaseStarted
from farm.recorder import Recorder
from farm.store import Store
from farm.store.events import Heard
from tests.unit.test_store import NOW, PASSED, submission

CELLS = ("a", "b", "c")
PHASES = (Phase.PROVISION, Phase.BOOT, Phase.CONNECT)


@pytest.fixture
def keys(store: Store) -> tuple[AttemptKey, ...]:
    """Attempts that are under way."""
    run = store.create_run(submission(*CELLS), now=NOW).id
    keys = tuple(AttemptKey(run=run, cell=cell, number=1) for cell in CELLS)
    for key in keys:
        store.start_attempt(key, now=NOW)
    return keys


@pytest.fixture
def batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events went into each transaction."""
    sizes: list[int] = []
    really = store.record_all

    def counting(heard: Sequence[Heard]) -> dict[AttemptKey, UntrustedError | None]:
        sizes.append(len(heard))
        return really(heard)

    monkeypatch.setattr(store, "record_all", counting)
    return sizes


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


def begins(phase: Phase) -> PhaseStarted:
    return PhaseStarted(at=NOW, phase=phase)


def phases_of(store: Store, key: AttemptKey) -> list[str]:
    """Those that have begun, by the lines of the table of events."""
    lines = store.events(0, run_id=key.run, cell=key.cell)
    return [line.payload["phase"] for line in lines if line.kind == "phase-started"]


def test_what_several_say_at_once_is_one_transaction_and_keeps_its_order(
    store: Store, keys: tuple[AttemptKey, ...], batches: list[int]
) -> None:
    async def says(recorder: Recorder, key: AttemptKey) -> None:
        for phase in PHASES:
            await recorder.take(key, begins(phase))
        await recorder.settled(key)
        assert phases_of(store, key) == list(PHASES)

    async def test() -> None:
        recorder = Recorder(store, lambda _key, _event: None)
        await asyncio.gather(*(says(recorder, key) for key in keys))

    go(test())
    assert batches == [len(keys) * len(PHASES)]


def test_nobody_is_told_before_it_is_stored(store: Store, keys: tuple[AttemptKey, ...]) -> None:
    told: list[tuple[AttemptKey, Event]] = []

    def tell(key: AttemptKey, event: Event) -> None:
        assert phases_of(store, key) == [Phase.BOOT]
        told.append((key, event))

    async def test() -> None:
        recorder = Recorder(store, tell)
        await recorder.take(keys[0], begins(Phase.BOOT))
        assert told == []
        await recorder.settled(keys[0])

    go(test())
    assert told == [(keys[0], begins(Phase.BOOT))]


def test_what_an_attempt_says_that_has_ended_is_refused_and_the_others_are_heard(
    store: Store, keys: tuple[AttemptKey, ...], batches: list[int]
) -> None:
    ended, alive, _ = keys
    told: list[AttemptKey] = []

    async def test() -> None:
        recorder = Recorder(store, lambda key, _event: told.append(key))
        store.finish_attempt(ended, PASSED, now=NOW)
        for key in (ended, alive):
            await recorder.take(key, begins(Phase.TEST))
        await recorder.settled(alive)
        with pytest.raises(FencedError):
            await recorder.settled(ended)
        with pytest.raises(FencedError):
            await recorder.take(ended, begins(Phase.COLLECT))

    go(test())
    assert (told, batches) == ([alive], [2])
    assert (phases_of(store, ended), phases_of(store, alive)) == ([], [Phase.TEST])


def test_an_artifact_that_cannot_be_kept_concerns_its_attempt_alone(store: Store, keys: tuple[AttemptKey, ...]) -> None:
    hostile, other, _ = keys

    async def test() -> None:
        recorder = Recorder(store, lambda _key, _event: None)
        await recorder.take(hostile, begins(Phase.BOOT))
        await recorder.take(hostile, ArtifactFound(at=NOW, path="../../x", data=b"x"))
        await recorder.take(hostile, begins(Phase.TEST))
        await recorder.take(other, begins(Phase.TEST))
        await recorder.settled(other)
        with pytest.raises(UntrustedError):
            await recorder.settled(hostile)

    go(test())
    assert (phases_of(store, hostile), phases_of(store, other)) == ([Phase.BOOT], [Phase.TEST])


def test_a_store_that_takes_nothing_is_told_of_to_each(
    store: Store, keys: tuple[AttemptKey, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_heard: Sequence[Heard]) -> dict[AttemptKey, UntrustedError | None]:
        raise FullError("cannot record anything: the disk is full")

    async def test() -> None:
        recorder = Recorder(store, lambda _key, _event: None)
        monkeypatch.setattr(store, "record_all", full)
        for key in keys[:2]:
            await recorder.take(key, Heartbeat(at=NOW))
        for key in keys[:2]:
            with pytest.raises(FullError):
                await recorder.settled(key)
        monkeypatch.undo()
        await recorder.take(keys[2], begins(Phase.TEST))
        await recorder.settled(keys[2])
        recorder.forget(keys[0])
        await recorder.take(keys[0], begins(Phase.TEST))
        await recorder.settled(keys[0])

    go(test())
    assert phases_of(store, keys[0]) == phases_of(store, keys[2]) == [Phase.TEST]


def test_who_says_too_much_waits_until_some_is_stored(
    store: Store, keys: tuple[AttemptKey, ...], batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farm.recorder._MOST", 4)

    async def test() -> None:
        recorder = Recorder(store, lambda _key, _event: None)
        for number in range(10):
            await recorder.take(keys[number % 3], Heartbeat(at=NOW))
        for key in keys:
            await recorder.settled(key)

    go(test())
    assert batches == [4, 4, 2]
