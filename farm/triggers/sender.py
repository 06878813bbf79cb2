"""Tells others what becomes of runs: one task turns events into deliveries, and one for each target sends them.

A target that does not answer holds up nobody else. URLs come from farm.toml alone, and redirects are not followed:
nobody who submits runs or receives webhooks decides where the farm sends anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Protocol

import httpx
import structlog

from farm.errors import ConfigError, FarmError, HostError
from farm.feed import Feed
from farm.model import DeliveryRecord, EventRecord, NewDelivery, RunRecord
from farm.store import Store
from farm.store.deliveries import Deliveries
from farm.text import clean_line
from farm.triggers.messages import body_of, signed_headers
from farm.triggers.news import KINDS, Happened, Targets, deliveries, replaces
from farm.triggers.retries import is_final, next_try, wish_of
from farm.triggers.settings import Delivery, Notify, Status
from farm.triggers.statuses import CommitStatus, is_told_already, request

_REST_S = 5.0
"""After an error of the store."""
_LOOK_S = 60.0
_READ_BYTES = 4096
"""Of an answer: enough for what is wrong."""
_MOST_RERUNS = 20

log = structlog.get_logger(__name__)


class SenderConfig(Targets, Protocol):
    """What farm.toml says about deliveries."""

    @property
    def delivery(self) -> Delivery:
        """How stubborn they are."""


@dataclass(frozen=True)
class Answer:
    """What the other side has said, or why it has not."""

    taken: bool
    problem: str = ""
    final: bool = False
    wish_s: float = 0.0
    """Seconds after which it wants to be asked again."""


@dataclass
class Target:
    """One section of farm.toml."""

    section: Notify | Status
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Sender:
    """Lives in one event loop; `wake` may be called from any thread."""

    def __init__(self, store: Store, feed: Feed, config: SenderConfig) -> None:
        """Raises ConfigError where a secret cannot be had."""
        sections: tuple[Notify | Status, ...] = (*config.notify, *config.status)
        for section in sections:
            section.secret()
        self._store, self._feed, self._config = store, feed, config
        self._deliveries = Deliveries(store.engine)
        self._targets = {section.target: Target(section) for section in sections}
        self._mark = self._deliveries.mark()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Tell others, for as long as this is not cancelled."""
        self._loop = asyncio.get_running_loop()
        if dropped := await asyncio.to_thread(self._deliveries.drop_others, tuple(self._targets)):
            log.warning("gave up deliveries: farm.toml has no such targets any more", deliveries=dropped)
        timeout = httpx.Timeout(self._config.delivery.timeout_s)
        agent = {"User-Agent": f"validation-farm/{version('validation-farm')}"}
        async with (
            httpx.AsyncClient(timeout=timeout, headers=agent, follow_redirects=False) as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(_for_ever(self._plan))
            for target in self._targets.values():
                tasks.create_task(_for_ever(partial(self._serve, target, client)))

    def wake(self, targets: Iterable[str]) -> None:
        """There is something new for them."""
        if self._loop and not self._loop.is_closed():
            for name in targets:
                if name in self._targets:
                    self._loop.call_soon_threadsafe(self._targets[name].news.set)

    # --- from events to deliveries ------------------------------------------------------------------

    async def _plan(self) -> None:
        async for event in self._feed.since(self._mark):
            if event.kind in KINDS:
                self.wake(await asyncio.to_thread(self._plan_one, event))
                self._mark = event.id
        await asyncio.sleep(_REST_S)  # the feed is closed: the server ends

    def _plan_one(self, event: EventRecord) -> tuple[str, ...]:
        new: tuple[NewDelivery, ...] = ()
        try:
            new = deliveries(self._happened(event), self._config) if self._targets else ()
        except (HostError, ConfigError):
            raise  # a store that is busy now is not one that is gone
        except Exception:  # one event that cannot be told must not hold up all that come after it
            log.exception("cannot tell of an event", run=event.run, number=event.id)
        return self._deliveries.plan(event.run, event.id, new, replaces=replaces, now=_now())

    def _happened(self, event: EventRecord) -> Happened:
        run = self._store.outline(event.run)
        before: list[RunRecord] = []
        while (first := before[0] if before else run).submission.rerun_of and len(before) < _MOST_RERUNS:
            before.insert(0, self._store.outline(first.submission.rerun_of or ""))
        return Happened(
            event=event,
            run=run,
            before=tuple(before),
            counts=self._store.test_counts(run.id),
            hook=self._deliveries.triggered(first.id),
        )

    # --- sending ------------------------------------------------------------------------------------

    async def _serve(self, target: Target, client: httpx.AsyncClient) -> None:
        """Send one thing, or wait until there is one."""
        target.news.clear()
        found = await asyncio.to_thread(self._deliveries.next, target.section.target)
        wait_s = (found.due - _now()).total_seconds() if found and found.due else _LOOK_S
        if found and wait_s <= 0:
            await self._send(found, target, client)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(target.news.wait(), min(wait_s, _LOOK_S))

    async def _send(self, delivery: DeliveryRecord, target: Target, client: httpx.AsyncClient) -> None:
        try:
            asked = _asked(delivery, target.section)
            answer = await _ask(client, asked, target.section, self._config.delivery.timeout_s)
        except FarmError as error:  # a secret that is gone now may be back later
            answer = Answer(taken=False, problem=error.message)
        except Exception as error:  # one delivery that cannot be sent must not hold up the others
            log.exception("a defect: cannot send a delivery", delivery=delivery.id)
            answer = Answer(taken=False, problem=f"a defect of the farm: {error!r}", final=True)
        words = {"delivery": delivery.id, "target": delivery.target, "run": delivery.run}
        if answer.taken:
            await asyncio.to_thread(self._deliveries.delivered, delivery.id, now=_now())
            log.info("told", **words)
            return
        tries = delivery.tries + 1
        due = None if answer.final else next_try(tries, self._config.delivery, now=_now(), wish_s=answer.wish_s)
        await asyncio.to_thread(self._deliveries.failed, delivery.id, answer.problem, due=due)
        log.warning("cannot tell" if due else "gave up telling", problem=answer.problem, tries=tries, **words)


async def _for_ever(step: Callable[[], Awaitable[None]]) -> None:
    """Again and again; an error of the store, or a defect, ends one step and not the task."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("cannot go on with deliveries; trying again")
            await asyncio.sleep(_REST_S)


def _asked(delivery: DeliveryRecord, section: Notify | Status) -> tuple[str, dict[str, str], bytes]:
    """URL, headers and body of the request. Raises ConfigError where the secret cannot be had."""
    if isinstance(section, Notify):
        body = body_of(delivery.payload)
        return section.url, signed_headers(delivery.payload, body, section.secret(), now=_now()), body
    told = CommitStatus.model_validate(delivery.payload)
    asked = request(section.provider, section.api, section.secret(), told)
    return asked.url, {"Content-Type": "application/json", **asked.headers}, body_of(asked.body)


async def _ask(
    client: httpx.AsyncClient, asked: tuple[str, dict[str, str], bytes], section: Notify | Status, timeout_s: float
) -> Answer:
    url, headers, body = asked
    try:
        # The client's own limit is for each piece; one that sends a byte now and then must not hold up the others.
        async with asyncio.timeout(timeout_s), client.stream("POST", url, headers=headers, content=body) as response:
            text = await _beginning(response)
    except (httpx.HTTPError, TimeoutError) as error:
        return Answer(taken=False, problem=clean_line(f"no answer: {error or type(error).__name__}", limit=500))
    return _answer(response, text, section)


def _answer(response: httpx.Response, text: str, section: Notify | Status) -> Answer:
    code = response.status_code
    known = isinstance(section, Status) and is_told_already(section.provider, code, text)
    if response.is_success or known:
        return Answer(taken=True)
    problem = clean_line(f"answered {code} {response.reason_phrase}: {text}", limit=500)
    kind = "status" if isinstance(section, Status) else "notify"
    return Answer(taken=False, problem=problem, final=is_final(kind, code), wish_s=wish_of(response.headers))


async def _beginning(response: httpx.Response) -> str:
    data = b""
    async for block in response.aiter_bytes():
        data += block
        if len(data) >= _READ_BYTES:
            break
    return data[:_READ_BYTES].decode("utf-8", "replace")


def _now() -> datetime:
    return datetime.now(UTC)
