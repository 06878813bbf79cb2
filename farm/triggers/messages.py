"""What the outgoing webhooks say, and how they are signed: as <https://www.standardwebhooks.com> has it. Pure."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from farm.model import EventRecord, Triggered, Verdict
from farm.report.overview import Overview
from farm.report.parts import Line, Name, Part, RunPart, Time
from farm.triggers.signatures import sign

_BAD = frozenset({Verdict.FAILED, Verdict.ERROR, Verdict.CANCELLED})
_MOST_CELLS = 100
"""A webhook that tells of thousands would be taken by nobody; `links` lead to all of them."""


class CellNews(Part):
    """A cell that did not come to a good end."""

    id: Name
    verdict: Verdict
    summary: Line


class Origin(Part):
    """The push that a run was made for."""

    trigger: Line
    repository: Line
    ref: Line
    commit: Line


class RunNews(Part):
    """What a webhook says of a run."""

    run: RunPart
    """As in `report.json`."""
    bad_cells: tuple[CellNews, ...]
    """Failed, error or cancelled; at most a hundred."""
    origin: Origin | None
    """null where no push has made it."""
    links: dict[str, Line]
    """`page` and `api`; empty where farm.toml has no `public_url`."""


class Message(Part):
    """The body of a webhook."""

    id: str
    """The same however often it is tried; also the header `webhook-id`."""
    type: str
    """`run-submitted`, `run-finished`."""
    timestamp: Time
    """When it happened."""
    data: RunNews


def message(event: EventRecord, seen: Overview, *, hook: Triggered | None, public_url: str) -> Message:
    """What is to be told of an event of a run."""
    bad = [cell for cell in seen.cells if cell.verdict in _BAD][:_MOST_CELLS]
    news = RunNews(
        run=seen.run,
        bad_cells=tuple(CellNews.model_validate(cell) for cell in bad),
        origin=_origin(hook),
        links=links(seen.run.id, public_url),
    )
    return Message(id=str(uuid.uuid4()), type=event.kind, timestamp=event.at, data=news)


def links(run_id: str, public_url: str) -> dict[str, str]:
    """Where more is told about a run."""
    base = public_url.rstrip("/")
    return {"page": f"{base}/runs/{run_id}", "api": f"{base}/api/v1/runs/{run_id}"} if base else {}


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The bytes that are sent and signed."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def signed_headers(payload: Mapping[str, Any], body: bytes, secret: str, *, now: datetime) -> dict[str, str]:
    """The headers of a webhook; the time in them is that of the try."""
    id_ = str(payload["id"])
    return {
        "Content-Type": "application/json",
        "webhook-id": id_,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": sign(id_, now, body, secret),
    }


def _origin(hook: Triggered | None) -> Origin | None:
    if hook is None:
        return None
    push = hook.push
    return Origin(trigger=hook.trigger, repository=push.repository, ref=push.ref, commit=push.commit)
