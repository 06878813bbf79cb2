"""What happens, as server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from api.auth import CHECK_S, Reader, TheServer, may_still
from api.params import MOST, RunId, run_named
from farm.model import EventRecord, State
from farm.serve import Server

router = APIRouter(tags=["events"])

_IDLE_S = 15.0
_LAST = "run-finished"
_FRAMES = 64
_END = b"event: end\ndata: {}\n\n"
_KEEP_ALIVE = b": still here\n\n"
_TYPE = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id` is where to resume, `event` the kind, `data` an EventRecord as JSON",
        "content": {
            "text/event-stream": {
                "schema": {  # of each event, as OpenAPI 3.2 has it for streams
                    "type": "object",
                    "required": ["event", "data"],
                    "properties": {
                        "id": {"type": "string", "pattern": "^[0-9]+$"},
                        "event": {"type": "string"},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                }
            }
        },
    }
}


class Frames:
    """Events as they are sent. Nearly all who listen hear the same at the same time: it is written out once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[tuple[EventRecord, ...], bytes]] = OrderedDict()

    def of(self, events: tuple[EventRecord, ...]) -> bytes:
        """All of them, one after the other."""
        known = self._kept.get(id(events))
        if known is None:  # with the events themselves, so that nothing else gets their id
            known = self._kept[id(events)] = (events, b"".join(map(_frame, events)))
            if len(self._kept) > _FRAMES:
                self._kept.popitem(last=False)
        return known[1]


Resume = Annotated[
    int | None,
    Header(alias="Last-Event-ID", ge=0, le=MOST, description="The last event that is known; goes before `after`."),
]
From = Annotated[int | None, Query(ge=0, le=MOST, description="The last event that is known.")]


@router.get("/events", summary="Listen to all runs", response_class=StreamingResponse, responses=_STREAM)
async def listen_to_all(
    request: Request, server: TheServer, _identity: Reader, after: From = None, last_event_id: Resume = None
) -> StreamingResponse:
    """From now on, or from after an event that one knows, until one of the two sides ends it."""
    start = last_event_id if last_event_id is not None else after
    if start is None:  # the store's now: the feed may not have read so far yet
        start = await asyncio.to_thread(server.store.last_event)
    return _stream(request, server, start, None)


@router.get("/runs/{run}/events", summary="Listen to a run", response_class=StreamingResponse, responses=_STREAM)
async def listen_to_run(
    run: RunId, request: Request, server: TheServer, _identity: Reader, after: From = None, last_event_id: Resume = None
) -> StreamingResponse:
    """From its beginning, or from after an event that one knows; after its last one comes the event `end`."""
    run_id, state = await asyncio.to_thread(_there, server, run)
    start = last_event_id if last_event_id is not None else after
    if state is State.FINISHED and await _is_over(server, run_id, start or 0):
        return StreamingResponse(_nothing_more(), media_type=_TYPE, headers=_HEADERS)
    return _stream(request, server, start or 0, run_id)


def _there(server: Server, run: str) -> tuple[str, State]:
    run_id = run_named(server, run)
    return run_id, server.details.run_state(run_id)


async def _nothing_more() -> AsyncIterator[bytes]:
    yield _END


def _stream(request: Request, server: Server, last: int, run_id: str | None) -> StreamingResponse:
    told = _counted(server, _told(request, server, last, run_id))
    return StreamingResponse(told, media_type=_TYPE, headers=_HEADERS)


async def _counted(server: Server, told: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(told):
        with server.feed.listening():
            async for frame in told:
                yield frame


async def _told(request: Request, server: Server, last: int, run_id: str | None) -> AsyncGenerator[bytes, None]:
    """Nothing is kept for who listens: the next events are taken when those before have gone out."""
    yield _KEEP_ALIVE  # so that the headers go out, and a proxy has something to pass on
    checked, frames = time.monotonic(), request.app.state.frames
    async for events in server.feed.batches(last, run_id, idle_s=_IDLE_S):
        if time.monotonic() - checked > CHECK_S:
            if not await may_still(request):
                return
            checked = time.monotonic()
        last = events[-1].id if events else last
        yield frames.of(events) or _KEEP_ALIVE
        if run_id and (_finishes(events) or (not events and await _is_over(server, run_id, last))):
            yield _END
            return


def _finishes(events: tuple[EventRecord, ...]) -> bool:
    return any(event.kind == _LAST for event in events)


async def _is_over(server: Server, run_id: str, last: int) -> bool:
    """Whether a run has ended, and its last event is known."""
    if await asyncio.to_thread(server.details.run_state, run_id) is not State.FINISHED:
        return False
    return not await asyncio.to_thread(server.store.events, last, run_id=run_id, limit=1)


def _frame(event: EventRecord) -> bytes:
    """An event as it is sent; a text in JSON has no line end in it."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), event.model_dump_json().encode())
