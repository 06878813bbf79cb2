"""A server that is started again whenever it has ended, as systemd does, and a client that does not give up."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.chaos import wired
from tests.chaos.acts import SOURCE, matrix
from tests.chaos.clock import Clock
from tests.service.serving import Serving, tar_of

_AGAIN_S = 1.0
_PATIENCE_S = 240.0
_BUSY = 500
_REPOSITORY = Path(__file__).parents[2]


@dataclass
class Supervised:
    """One, with its client."""

    serving: Serving
    hypervisor: str
    copies: int = 2
    restarts: int = 0
    submitted: int = 0
    _token: str = ""
    _from: int = 0
    """Where in its log the last start is told."""
    _ended: float = 0.0

    def begin(self) -> None:
        """Start it for the first time."""
        self.serving.start()
        self._token = self.serving.token("admin")

    def supervise(self) -> None:
        """Start it again if it has ended; does not wait until it listens."""
        process = self.serving.process
        if process is None or process.poll() is None:
            return
        if not self._ended:
            self._ended = time.monotonic()
        elif time.monotonic() - self._ended > _AGAIN_S:
            self._ended = 0.0
            self.restarts += 1
            self._from = self.serving.log.stat().st_size
            self.serving.spawn()

    def submit(self) -> None:
        """Have it carry out a run. Who gets no answer asks again with the same key, and gets the same run."""
        headers = {"Authorization": f"Bearer {self._token}"}
        key = f"chaos-{self.submitted}"
        until = time.monotonic() + _PATIENCE_S
        while not self._submitted(headers, key):
            assert time.monotonic() < until, self.serving.log.read_text()[-4000:]
            time.sleep(_AGAIN_S)
        self.submitted += 1

    def stop(self) -> None:
        """End it."""
        self.serving.stop()

    def _submitted(self, headers: dict[str, str], key: str) -> bool:
        self.supervise()
        found = re.findall(rb"serving on (http://\S+)", self.serving.log.read_bytes()[self._from :])
        if not found:
            return False
        body = {"matrix": matrix(self.hypervisor, self.copies)}
        try:
            with httpx.Client(base_url=found[-1].decode(), headers=headers, timeout=60) as client:
                uploaded = client.post("/api/v1/sources", content=tar_of(SOURCE))
                if uploaded.status_code >= _BUSY:
                    return False
                uploaded.raise_for_status()
                source = {"source": {"upload": uploaded.json()["digest"]}}
                answer = client.post("/api/v1/runs", json=body | source, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        if answer.status_code >= _BUSY:
            return False
        answer.raise_for_status()
        return True


def environment(folder: Path, clock: Clock | None) -> dict[str, str]:
    """What the server is started with: guests that can be wired, a host that is never short, a clock that may jump."""
    plugin = folder / "plugin"
    points = plugin / "chaos_guests-1.dist-info"
    points.mkdir(parents=True)
    (points / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-guests\nVersion: 1\n")
    (points / "entry_points.txt").write_text(f"[farm.backends]\n{wired.NAME} = tests.chaos.wired:WiredBackend\n")
    paths = [str(plugin), str(_REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {"FARM_KEEP_DISK": "0", "FARM_KEEP_MEMORY": "0", "FARM_LOG": "debug", "PYTHONPATH": os.pathsep.join(paths)}
    return told | (clock.environment if clock else {})
