"""A mirror on loopback that passes on what the machine's own has, and goes wrong when it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from runners.images.mirror import machine_mirror

VICTIM = "/busybox-static_"
"""What goes wrong is the package with this in its path: one that is in every image."""

Fault = Callable[["Answer", bytes], None]


class Mirror(ThreadingHTTPServer):
    """The server. `fault` writes the answer for the victim, as often as `times` says; None: all is well."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.upstream = machine_mirror()
        self.kept: dict[str, tuple[int, bytes]] = {}
        self.fault: Fault | None = None
        self.times = 10**6
        self.struck = 0
        self.release = threading.Event()

    @property
    def address(self) -> str:
        """For FARM_MIRROR."""
        return f"http://127.0.0.1:{self.server_port}/debian"

    def fetch(self, path: str) -> tuple[int, bytes]:
        """A file of the machine's mirror; packages are kept, since their names have versions."""
        if path not in self.kept:
            answer = httpx.get(self.upstream + path, follow_redirects=True, timeout=120)
            found = (answer.status_code, answer.content)
            if not path.endswith(".deb"):
                return found
            self.kept[path] = found
        return self.kept[path]


class Answer(BaseHTTPRequestHandler):
    """To one client."""

    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_GET(self) -> None:
        status, data = self.server.fetch(self.path.removeprefix("/debian"))
        strikes = VICTIM in self.path and self.server.fault and self.server.struck < self.server.times
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if strikes and self.server.fault:
            self.server.struck += 1
            self.server.fault(self, data)
        else:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: apt says it all."""


def cut(answer: Answer, data: bytes) -> None:
    """The connection ends in the middle."""
    answer.wfile.write(data[: len(data) // 2])
    answer.close_connection = True


def corrupt(answer: Answer, data: bytes) -> None:
    """As long as it should be, with one byte that is another."""
    middle = len(data) // 2
    answer.wfile.write(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def stall(answer: Answer, data: bytes) -> None:
    """It stops in the middle, and the connection stays."""
    answer.wfile.write(data[: len(data) // 2])
    answer.wfile.flush()
    answer.server.release.wait(280)
    answer.close_connection = True


@contextmanager
def serving() -> Iterator[Mirror]:
    """A mirror that answers."""
    with Mirror() as mirror:
        thread = threading.Thread(target=mirror.serve_forever)
        thread.start()
        try:
            assert mirror.fetch("/dists/trixie/InRelease")[0] == HTTPStatus.OK
            yield mirror
        finally:
            mirror.release.set()
            mirror.shutdown()
            thread.join()
