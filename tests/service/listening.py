"""A client of server-sent events that notes what it hears."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx


class Heard(NamedTuple):
    """An event as it came."""

    id: int | None
    kind: str
    data: Any


def heard(lines: Iterable[str]) -> Iterator[Heard]:
    """The events in the lines of a stream; comments are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Heard(int(fields["id"]) if "id" in fields else None, fields["event"], json.loads(fields["data"]))
            fields = {}


def listen(client: httpx.Client, path: str, *, last: int | None = None, most: int | None = None) -> list[Heard]:
    """What is heard until the stream ends, or until it is enough; `last` is the last event that is known."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    found: list[Heard] = []
    with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        for event in heard(answer.iter_lines()):
            found.append(event)
            if len(found) == most:
                break
    return found
