"""Examples of bodies and answers, by operation; a test holds each against the schema of its place.

Most were recorded from a real server (examples.json, `python -m tests.service.record_examples`). Those of what needs
a guest or a forge are written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, NamedTuple


class Example(NamedTuple):
    """What is sent and what comes back; None: nothing, or it is no JSON."""

    body: Any = None
    answer: Any = None


_RESERVED = {
    "id": "reserve-3",
    "run": "reserve-3",
    "cell": "debian-13/riscv64",
    "attempt": 1,
    "reserved": True,
    "owner": "ada",
    "state": "ready",
    "hypervisor": "qemu",
    "host": "host-1",
    "command": "ssh -p 40123 root@127.0.0.1",
    "since": "2026-11-26T17:00:00Z",
    "until": "2026-11-26T19:00:00Z",
    "at_most": "2026-11-27T17:00:00Z",
    "ended": None,
    "summary": "",
}
_DELIVERY = {
    "id": 7,
    "run": "demo-12",
    "target": "release-board",
    "event": "run-finished",
    "payload": {},
    "created": "2026-11-26T17:00:00Z",
    "tries": 2,
    "due": "2026-11-26T17:01:00Z",
    "done": None,
    "problem": "cannot tell release-board: it answered 503",
}
_EXPLAINED = {
    "run": "demo-12",
    "cell": "debian-13/s390x/qemu",
    "state": "queued",
    "headline": "It waits: there is no room now on host-1 (capacity).",
    "reasons": ["there is no room now on host-1 (capacity)"],
    "hosts": [
        {"name": "host-1", "may": True, "why": "has no room: 8 of 8 vCPUs and 4096 of 16384 MiB are taken"},
        {"name": "host-2", "may": False, "why": "is drained: new disks"},
    ],
    "place": 3,
    "starts_in_s": 95.0,
    "expected": "2026-11-26T17:01:35Z",
    "outcome": None,
    "attempts": [],
}
_WRITTEN = {
    "reserve_guest": Example(
        {"image": "debian-13", "arch": "riscv64", "for": 7200, "ssh_key": f"ssh-ed25519 {'A' * 68} ada@example.org"},
        _RESERVED | {"attempt": None, "state": "waiting", "host": "", "command": "", "since": None, "until": None},
    ),
    "list_reservations": Example(answer={"reservations": [_RESERVED]}),
    "show_reservation": Example(answer=_RESERVED),
    "extend_reservation": Example({"until": "2026-11-26T21:00:00Z"}, _RESERVED | {"until": "2026-11-26T21:00:00Z"}),
    "end_reservation": Example(answer=_RESERVED | {"state": "ending"}),
    "explain_cell": Example(answer=_EXPLAINED),
    "list_pushes": Example(
        answer={
            "waiting": [],
            "failed": [
                {
                    "id": 91,
                    "at": "2026-11-26T17:00:00Z",
                    "trigger": "hello",
                    "repository": "acme/hello",
                    "commit": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
                    "delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
                    "problem": "cannot fetch acme/hello: it has no such commit",
                }
            ],
            "next": None,
        }
    ),
    "list_deliveries": Example(answer={"deliveries": [_DELIVERY], "next": None}),
    "retry_delivery": Example(answer=_DELIVERY),
    "take_webhook": Example(
        {"ref": "refs/tags/v1.2", "after": "0123456789abcdef0123456789abcdef01234567"},
        {"outcome": "accepted", "detail": "a run of demo for v1.2"},
    ),
}


def _read() -> dict[str, Example]:
    recorded = json.loads(files("api").joinpath("examples.json").read_text(encoding="utf-8"))
    made = {name: Example(**example) for name, example in recorded.items()} | _WRITTEN
    return made | {"cancel_cell": made["cancel_run"]}  # both answer with the run


EXAMPLES: Mapping[str, Example] = MappingProxyType(_read())
