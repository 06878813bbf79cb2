"""Who waits for other servers holds up nobody else."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.unit.test_api_traffic import LONG_S, Start, log, servers, start
from tests.unit.test_intake import MATRIX

__all__ = ["log", "servers", "start"]

MORE_THAN_THERE_IS_ROOM_FOR = 9
AT_ONCE = 6


def test_sources_of_a_server_that_says_nothing_hold_up_no_reading(start: Start) -> None:
    client = start("submit")
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(MORE_THAN_THERE_IS_ROOM_FOR) as pool:
        silent.settimeout(LONG_S)
        source = {"tarball": f"http://127.0.0.1:{silent.getsockname()[1]}/x.tar", "sha256": "0" * 64}
        body = {"matrix": MATRIX, "source": source}
        asked = [pool.submit(client.post, "/api/v1/runs", json=body) for _ in range(MORE_THAN_THERE_IS_ROOM_FOR)]
        connections = [silent.accept()[0] for _ in range(AT_ONCE)]
        try:
            answer: httpx.Response = client.post("/api/v1/validate", json={"matrix": MATRIX}, timeout=LONG_S / 3)
            assert answer.status_code == 200
            assert not any(one.done() for one in asked)
        finally:
            silent.close()
            for one in connections:
                one.close()
        assert {one.result().status_code for one in asked} == {422}
