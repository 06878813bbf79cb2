"""`farm serve` takes runs to their end, also where it is stopped or killed on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)


def test_a_run_that_is_submitted_comes_to_its_end(server: Serving) -> None:
    client = server.client("submit")
    found = server.wait_for(client, server.submit(client))
    assert [cell["verdict"] for cell in found["cells"]] == ["passed", "passed"]
    assert (found["run"]["exit_code"], found["run"]["owner"]) == (0, "the-submit")


def test_the_run_with_the_higher_priority_comes_first(own_server: Callable[..., Serving]) -> None:
    server = own_server()
    client = server.client("submit")
    whole = {"vcpus": len(os.sched_getaffinity(0)), "only": ["*/amd64"]}  # one guest at a time has room
    first = server.submit(client, "sleep 3", name="first", **whole)
    server.wait_for(client, first, "running")
    runs = {
        number: server.submit(client, "sleep 1", name=f"p{number}", priority=number, **whole) for number in (10, 90)
    }
    ended = {number: server.wait_for(client, run)["run"]["finished"] for number, run in runs.items()}
    assert ended[90] < ended[10]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_has_ended_takes_up_its_runs_where_they_were(
    own_server: Callable[..., Serving], how: signal.Signals
) -> None:
    server = own_server()
    client = server.client("submit")
    done = server.submit(client, name="done")
    server.wait_for(client, done)
    run = server.submit(client, "sleep 6")
    server.wait_for(client, run, "running")
    server.stop(how)
    server.start()
    client = server.client("submit")
    found = server.wait_for(client, run)
    assert [cell["verdict"] for cell in found["cells"]] == ["passed", "passed"]
    assert any(cell["attempts"] == 2 for cell in found["cells"])
    assert [cell["attempts"] for cell in server.wait_for(client, done)["cells"]] == [1, 1]


def test_two_servers_do_not_serve_one_store(server: Serving) -> None:
    second = server.farm("serve", check=False)
    assert second.returncode == 2
    assert "another `farm serve` does" in second.stderr
