"""The examples of the OpenAPI document, recorded from a real server: `python -m tests.service.record_examples`.

Writes api/examples.json. What is long is cut, what is this machine's own gets another name.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.service.conftest import serving
from tests.service.serving import Serving, tar_of
from tests.service.test_details import CELL
from tests.service.test_details import MATRIX as RICH

FILE = Path(__file__).parents[2] / "api" / "examples.json"
_FIRST = 2
_LONGEST = 400
_LONG = {"packages", "files", "tools"}
"""Mappings of which a few entries do."""
_MIRROR = "http://mirror.example.org/debian"
_API = "/api/v1"


class Recorder:
    """A client that keeps the first good answer of each operation."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.examples: dict[str, dict[str, Any]] = {}
        paths = client.get(f"{_API}/openapi.json").json()["paths"]
        # Those with fewer parameters first: a cell's id takes whatever comes after it.
        self._operations = sorted(
            (
                (path.count("{"), re.compile(re.sub(r"\\{\w+\\}", "(.+)", re.escape(path))), method, one["operationId"])
                for path, methods in paths.items()
                for method, one in methods.items()
            ),
            key=lambda found: (found[0], -len(found[1].pattern)),
        )

    def send(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Send a request, and keep it with its answer."""
        answer = self._client.request(method, f"{_API}{path}", json=body, **more)
        assert answer.is_success, answer.text
        told = answer.json() if answer.headers.get("Content-Type") == "application/json" else None
        self.examples.setdefault(self._name(method, answer.request.url.path), {"body": body, "answer": _cut(told)})
        return told

    def _name(self, method: str, path: str) -> str:
        found = [
            (pattern.pattern, name)
            for _, pattern, its, name in self._operations
            if its == method.lower() and pattern.fullmatch(path)
        ]
        return max(found, key=lambda one: len(re.sub(r"\(\.\+\)", "", one[0])))[1]


def scenario(server: Serving, to: Recorder) -> None:
    """Ask for everything that can be had without a guest of a hypervisor, and without a forge."""
    client = server.client("admin")
    digest = server.upload(client)
    to.send("POST", "/sources", content=tar_of({"hello.txt": b"hello\n"}), params={"name": "hello"})
    to.send("GET", f"/sources/{digest}")
    matrix = {"matrix": RICH, "source": {"upload": digest}, "version": "1.2", "labels": {"release": "1.2"}}
    for path in ("/validate", "/plan"):
        to.send("POST", path, matrix)
    to.send("GET", "/matrices")
    run = to.send("POST", "/runs", matrix)["run"]["id"]
    server.wait_for(client, run)
    to.send("GET", "/runs")
    for below in ("", "/cells", "/tests?status=failed", "/report/json", "/patterns", "/statement"):
        to.send("GET", f"/runs/{run}{below}")
    for below in ("", "/attempts", "/attempts/1", "/attempts/1/tests", "/attempts/1/logs", "/attempts/1/artifacts"):
        to.send("GET", f"/runs/{run}/cells/{CELL}{below}")
    again = to.send("POST", f"/runs/{run}/rerun", {"cells": ["failed"]})["run"]["id"]
    to.send("POST", f"/runs/{again}/cancel")
    server.wait_for(client, again)
    to.send("GET", f"/compare?base={run}&head={again}")
    _project(to, run)
    _machines(to)
    _access(to)


def _project(to: Recorder, run: str) -> None:
    of = "/projects/details"
    to.send("GET", "/projects")
    for below in ("/tests?name=bad", "/trends", "/flaky"):
        to.send("GET", f"{of}{below}")
    to.send("PUT", f"{of}/baselines/good", {"run": run})
    to.send("GET", f"{of}/baselines/good")
    to.send("GET", f"{of}/baselines")
    wanted = {"cells": "*/s390x", "tests": "bad", "reason": "fixed in 1.3", "link": "https://bugs.example.org/7"}
    waiver = to.send("POST", f"{of}/waivers", wanted)["id"]
    to.send("GET", f"{of}/waivers")
    to.send("GET", f"{of}/waivers/{waiver}")
    to.send("PUT", f"{of}/waivers/{waiver}", wanted)


def _machines(to: Recorder) -> None:
    host = to.send("GET", "/hosts")["hosts"][0]["name"]
    to.send("POST", f"/hosts/{host}/drain", {"reason": "a new disk"})
    to.send("POST", f"/hosts/{host}/enable")
    images = to.send("GET", "/images")["images"]
    if images:
        one = images[0]
        to.send("GET", f"/images/{one['name']}/{one['arch']}", params={"digest": one["digest"]})
        to.send("GET", "/images/diff", params={"a": one["digest"], "b": images[-1]["digest"]})


def _access(to: Recorder) -> None:
    to.send("GET", "/me")
    to.send("POST", "/tokens", {"name": "ci", "scope": "submit", "days": 90})
    to.send("GET", "/tokens")
    to.send("GET", "/audit")
    to.send("GET", "/deliveries")
    to.send("GET", "/reservations")


def _cut(value: Any, name: str = "") -> Any:
    """A value of which only as much is left as an example needs."""
    if isinstance(value, dict):
        entries = list(value.items())[: _FIRST if name in _LONG else None]
        return {key: _cut(one, key) for key, one in entries}
    if isinstance(value, list):
        return [_cut(one) for one in value[:_FIRST]]
    if isinstance(value, str):
        return _own(name, value[:_LONGEST])
    return value


def _own(name: str, text: str) -> str:
    """Nothing of the machine that this was recorded on."""
    changes: Mapping[str, Callable[[str], str]] = {
        "mirror": lambda _: _MIRROR,
        "secret": lambda _: "farm_0123abcd_shown-only-here",
    }
    text = changes[name](text) if name in changes else text
    return re.sub(rf"\b{re.escape(platform.node())}\b", "host-1", text)


def main() -> None:
    """Record, and write."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        recorder = Recorder(server.client("admin"))
        scenario(server, recorder)
        for path in ("/healthz", "/readyz"):
            recorder.examples[f"check_{'health' if path == '/healthz' else 'readiness'}"] = {
                "body": None,
                "answer": server.client("").get(path).json(),
            }
    FILE.write_text(json.dumps(recorder.examples, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
