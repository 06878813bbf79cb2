"""Hosts that were taken out are tested, and take work again when a guest comes up on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from functools import partial

import structlog

from farm.attempts import Executor
from farm.errors import AttemptCancelledError, AttemptLostError, FarmError
from farm.health import next_test
from farm.model import AttemptEnded, AttemptKey, Blame, Collect, HostMark, Order, Outcome
from farm.orders import order_for
from farm.store import Store
from farm.verdict import classify, lost_attempt

RUN = "self-test"
"""In the place of a run, in the names of guests that only test a host."""
_NO_SOURCE = ""
_LONGEST_S = 900.0
_KEEPS_OUT = frozenset({Blame.INFRA, Blame.FARM})

log = structlog.get_logger(__name__)


class SelfTests:
    """The tests that are due, one at a time on each host."""

    def __init__(self, store: Store, executor: Executor, passed: Callable[[], None]) -> None:
        """`passed` is called when a host takes work again."""
        self._store = store
        self._executor = executor
        self._passed = passed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._later: dict[str, datetime] = {}
        """Hosts that could not be tested -> when that is tried again, where the store may not even have taken that."""

    def look(self, marks: Collection[HostMark], hosts: Collection[str]) -> None:
        """Begin what is due on hosts that are there."""
        now = datetime.now(UTC)
        for mark in marks:
            due = mark.due and max(mark.due, self._later.get(mark.name, mark.due))
            if due and (due <= now or mark.since > now) and mark.name in hosts and mark.name not in self._tasks:
                self._tasks[mark.name] = task = asyncio.create_task(self._test(mark))
                task.add_done_callback(partial(self._ended, mark.name))

    def _ended(self, host: str, _task: asyncio.Task[None]) -> None:
        del self._tasks[host]

    async def stop(self) -> None:
        """End them; what they were about is tested again when somebody serves."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _test(self, mark: HostMark) -> None:
        try:
            order = self._order(mark)
            outcome = await self._outcome(order) if order else None
            if outcome and outcome.blame in _KEEPS_OUT:
                log.warning("a host has not passed its test", host=mark.name, reason=outcome.summary)
                self._not_passed(mark, outcome.summary, datetime.now(UTC) + next_test(mark.tries + 1))
                return
            log.info("a host takes work again", host=mark.name)
            self._store.hosts.passed(mark)
            self._passed()
        except Exception as error:  # noqa: BLE001 - a defect is no reason to try again at once, nor to keep silent
            self._put_off(mark, error)

    def _put_off(self, mark: HostMark, error: Exception) -> None:
        """A host could not be tested: that is tried again later, and said where it is looked at."""
        self._later[mark.name] = due = datetime.now(UTC) + next_test(mark.tries + 1)
        defect = not isinstance(error, FarmError)
        log.error("cannot test a host; trying again later", host=mark.name, error=str(error), exc_info=defect and error)
        why = f"a defect of the farm: {type(error).__name__}: {error}" if defect else str(error)
        with suppress(FarmError):  # then it is tried again all the same
            self._not_passed(mark, why, due)

    def _not_passed(self, mark: HostMark, why: str, due: datetime) -> None:
        self._store.hosts.tested(mark, f"{_first(mark.reason)}; its test: {why}", due=due)

    def _order(self, mark: HostMark) -> Order | None:
        """The guest of the last attempt that went well there, without what it was for; None: there was none at all."""
        sound = self._store.hosts.sound(mark.name)
        if sound is None:
            return None
        submission = self._store.submission(sound.run)
        placement = next(one for one in submission.plan.placements if one.cell.id == sound.cell)
        order = order_for(submission, placement, AttemptKey(run=RUN, cell=mark.name, number=mark.tries + 1))
        bare: dict[str, object] = {
            "scripts": {},
            "builder": None,
            "collect": Collect(),
            "source_digest": _NO_SOURCE,
            "hold_on_failure_s": 0.0,
            "reserved_s": 0.0,
            "only": (mark.name,),
        }
        return order.model_copy(update=bare)

    async def _outcome(self, order: Order) -> Outcome:
        self._executor.offer_source(_NO_SOURCE, None)
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await self._followed(order)
        except TimeoutError:
            return lost_attempt(f"it did not end within {_LONGEST_S / 60:.0f} minutes")
        finally:
            with suppress(FarmError):
                await self._executor.cancel(order.key)  # nothing happens where it has ended

    async def _followed(self, order: Order) -> Outcome:
        try:
            async with aclosing(self._executor.run(order)) as events:
                async for event in events:
                    if isinstance(event, AttemptEnded):
                        return classify(event.evidence)
        except (AttemptCancelledError, AttemptLostError) as error:
            return lost_attempt(error.message)
        return lost_attempt("its worker ended without a word")


def _first(reason: str) -> str:
    """Why a host was taken out, without what its last test said."""
    return reason.partition("; its test: ")[0]
