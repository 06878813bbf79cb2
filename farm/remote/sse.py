"""Server-sent events: from the lines of a stream to events. Pure.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Sent:
    """One event."""

    id: str
    """The last id that was sent, this event's or an earlier one's."""
    kind: str
    data: str


def events(lines: Iterable[str]) -> Iterator[Sent]:
    """The events in the lines of a stream; one that the end cuts off is dropped, and sent again on resuming."""
    last, kind, data = "", "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Sent(last, kind or "message", "\n".join(data))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id" if "\0" not in value:
                last = value
            case "event":
                kind = value
            case "data":
                data.append(value)
            case _:
                pass  # a comment, which only says that the connection lives, or a field of a later standard
