"""Guests for people over REST: reserved ones, and those of cells that failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import httpx
import pytest

from tests.service.serving import Serving
from tests.service.terminal import terminals
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKbM4CDBKWIPCAsg0ksEWhMfXtFnJ4AjUKfz5wGzFzXi somebody@somewhere"
WANTED: dict[str, Any] = {
    "image": "debian-13",
    "arch": "amd64",
    "hypervisor": "fake",
    "for": "1h",
    "ssh_key": KEY,
    "guest": {"memory": "128M"},
}
URL = "/api/v1/reservations"


def reserve(client: httpx.Client, **changes: Any) -> Any:
    answer = client.post(URL, json=WANTED | changes)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"{URL}/{answer.json()['id']}"
    return answer.json()


def wait_for(client: httpx.Client, id_: str, state: str, timeout_s: float = 60) -> Any:
    found: Any = None

    def reached() -> bool:
        nonlocal found
        found = client.get(f"{URL}/{id_}").json()
        return bool(found["state"] == state)

    eventually(reached, within_s=timeout_s, what=lambda: f"{id_} is {state}; it is: {found}")
    return found


def ready(client: httpx.Client, **changes: Any) -> Any:
    return wait_for(client, reserve(client, **changes)["id"], "ready")


def release(client: httpx.Client, id_: str) -> Any:
    answer = client.delete(f"{URL}/{id_}")
    assert answer.status_code == 202, answer.text
    return wait_for(client, id_, "ended")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def in_(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def run_of(client: httpx.Client, run: str) -> Any:
    return client.get(f"/api/v1/runs/{run}").json()


def test_a_guest_is_reserved_and_released(server: Serving) -> None:
    client = server.client("submit")
    made = ready(client)
    assert (made["reserved"], made["owner"], made["command"], made["host"]) == (True, "the-submit", "true", "fake")
    assert at(made["until"]) - at(made["since"]) == timedelta(hours=1)
    assert made["id"] in [one["id"] for one in client.get(URL).json()["reservations"]]
    run = run_of(client, made["run"])
    assert (run["run"]["state"], run["run"]["labels"]) == ("running", {"reservation": "yes"})
    ended = release(client, made["id"])
    assert (ended["command"], ended["summary"]) == ("", "nothing was to be tested: the guest was for a person")
    found = server.wait_for(client, made["run"])
    assert [(cell["verdict"], cell["rule"]) for cell in found["cells"]] == [("skipped", "reserved")]
    assert (found["run"]["cancelled"], found["run"]["source"]["kind"]) == (False, "none")
    assert made["id"] not in [one["id"] for one in client.get(URL).json()["reservations"]]
    assert client.delete(f"{URL}/{made['id']}").json() == client.get(f"{URL}/{made['id']}").json()


def test_a_reservation_ends_by_itself(server: Serving) -> None:
    client = server.client("submit")
    made = reserve(client, **{"for": "1s"})
    ended = wait_for(client, made["id"], "ended", 75)  # that it is ready may be over before anybody looks
    assert at(ended["until"]) - at(ended["since"]) == timedelta(seconds=1)
    assert timedelta() <= at(ended["ended"]) - at(ended["until"]) < timedelta(seconds=15)
    assert server.wait_for(client, made["run"])["cells"][0]["rule"] == "reserved"


def test_a_reservation_is_extended_and_shortened(server: Serving) -> None:
    client = server.client("submit")
    made = ready(client, **{"for": "4s"})
    until = in_(hours=3)
    answer = client.patch(f"{URL}/{made['id']}", json={"until": until})
    assert at(answer.json()["until"]) == at(until)
    time.sleep(max(0.0, (at(made["until"]) - datetime.now(UTC)).total_seconds()) + 2.5)  # past its first end
    assert client.get(f"{URL}/{made['id']}").json()["state"] == "ready"
    client.patch(f"{URL}/{made['id']}", json={"until": in_(seconds=1)})
    wait_for(client, made["id"], "ended", 15)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"until": in_(days=30)}, 422, "it can be kept until"),
        ({"until": "2026-01-01T00:00:00"}, 422, "timezone"),
        ({"until": "soon"}, 422, "until"),
        ({}, 422, "until"),
        ({"until": in_(hours=1), "owner": "me"}, 422, "owner"),
    ],
)
def test_an_end_that_cannot_be_is_refused(server: Serving, body: Any, status: int, said: str) -> None:
    client = server.client("submit")
    made = ready(client)
    answer = client.patch(f"{URL}/{made['id']}", json=body)
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert client.get(f"{URL}/{made['id']}").json()["until"] == made["until"]
    release(client, made["id"])


def test_what_has_ended_is_not_extended(server: Serving) -> None:
    client = server.client("submit")
    made = release(client, ready(client)["id"])
    answer = client.patch(f"{URL}/{made['id']}", json={"until": in_(hours=1)})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


def test_a_reservation_that_waits_for_room_is_listed_and_can_be_given_up(server: Serving) -> None:
    client = server.client("submit")
    vcpus = len(os.sched_getaffinity(0))
    first = ready(client, guest={"memory": "128M", "vcpus": vcpus})
    second = reserve(client)
    assert [one["state"] for one in client.get(URL).json()["reservations"] if one["id"] == second["id"]] == ["waiting"]
    answer = client.patch(f"{URL}/{second['id']}", json={"until": in_(hours=1)})
    assert (answer.status_code, "not there yet" in answer.json()["detail"]) == (409, True)
    ended = release(client, second["id"])
    assert (ended["since"], ended["summary"]) == (None, "cancelled: the run was cancelled")
    release(client, first["id"])


def test_nobody_but_its_owner_and_operators_has_to_do_with_a_reservation(server: Serving) -> None:
    mine, other, operator = server.client("submit"), server.client("submit", name="other"), server.client("operate")
    made = ready(mine)
    url = f"{URL}/{made['id']}"
    for answer in (other.get(url), other.patch(url, json={"until": in_(hours=2)}), other.delete(url)):
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")
    assert other.get(URL).json() == {"reservations": []}
    assert made["id"] in [one["id"] for one in operator.get(URL).json()["reservations"]]
    reader = server.client("read")
    assert [reader.post(URL, json=WANTED).status_code, reader.delete(url).status_code] == [403, 403]
    until = in_(hours=2)
    assert at(operator.patch(url, json={"until": until}).json()["until"]) == at(until)
    release(operator, made["id"])
    noted = [one for one in server.client().get("/api/v1/audit").json() if one["target"] == made["id"]]
    assert [(one["actor"], one["action"]) for one in noted] == [
        ("the-operate", "reservation.release"),
        ("the-operate", "reservation.extend"),
        ("the-submit", "reservation.create"),
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ssh_key": 'command="sh" ' + KEY}, "not one line of a public SSH key"),
        ({"ssh_key": KEY + "\n" + KEY}, "not one line of a public SSH key"),
        ({"ssh_key": "ssh-dss AAAAB3NzaC1kc3MAAACBAO"}, "not one line of a public SSH key"),
        ({"ssh_key": "ssh-ed25519 AAAA"}, "damaged"),
        ({"ssh_key": KEY.replace("ssh-ed25519", "ssh-rsa")}, "damaged"),
        ({"ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "this is a private key"),
        ({"ssh_key": "x" * 9000}, "ssh_key"),
        ({"for": "8d"}, "for"),
        ({"for": 0}, "for"),
        ({"image": "../etc"}, "image"),
        ({"arch": "vax"}, "no host knows the architecture 'vax'"),
        ({"with": "postgresql"}, "postgresql"),
        ({"guest": {"vcpus": 64, "memory": "900G"}}, "no host fits"),
        ({"images": {"mine": {"cloud": "/etc/passwd", "sha256": "0" * 64}}, "image": "mine"}, "cloud"),
        ({"secrets": {"A": "long enough"}}, "secrets"),
    ],
)
def test_a_reservation_that_cannot_be_is_refused(server: Serving, changes: dict[str, Any], said: str) -> None:
    answer = server.client("submit").post(URL, json=WANTED | changes)
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text


def test_what_is_no_reservation_is_not_found(server: Serving) -> None:
    client = server.client("submit")
    run = server.submit(client)
    server.wait_for(client, run)
    for id_ in (run, f"{run}/debian-13/amd64/fake", f"{run}/nothing", "nothing-1", "nothing-1/a/b"):
        assert client.get(f"{URL}/{id_}").status_code == 404, id_


def test_a_reservation_is_not_run_again(server: Serving) -> None:
    client = server.client("submit")
    made = release(client, ready(client)["id"])
    server.wait_for(client, made["run"])
    answer = client.post(f"/api/v1/runs/{made['run']}/rerun", json={"cells": ["all"]})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


@pytest.mark.parametrize("where", [0, 1], ids=["on this machine", "on a server"])
def test_the_commands_do_it_all(server: Serving, tmp_path: Path, where: int) -> None:
    with terminals(tmp_path, server) as both:
        farm = both[where]
        (farm.folder / "id.pub").write_text(KEY)
        made = farm("reserve", "debian-13/amd64/fake", "--for", "1h", "--key", "id.pub", "--memory", "128M")
        assert made.status == 0, made.err
        lines = dict(line.split(maxsplit=1) for line in made.out.splitlines())
        id_ = next(iter(lines))
        assert lines == {
            id_: "debian-13/amd64/fake",
            "on": lines["on"],
            "enter": "true",
            "extend": f"farm extend {id_} --for 1h",
            "end": f"farm release {id_}",
        }
        before = at(server.client().get(f"{URL}/{id_}").json()["until"])
        assert farm("extend", id_, "--for", "1h").status == 0
        assert at(server.client().get(f"{URL}/{id_}").json()["until"]) == before + timedelta(hours=1)
        assert [id_, "ready", "debian-13/amd64/fake"] in [
            line.split()[:3] for line in farm("reservations").out.splitlines()
        ]
        assert farm("release", id_).out == f"{id_} is being destroyed\n"
        wait_for(server.client(), id_, "ended")
        again = farm("extend", id_, "--for", "1h")
        assert (again.status, f"cannot extend {id_}: it has ended" in again.err) == (2, True)


# --- cells that failed ------------------------------------------------------------------------------

CELL = "debian-13/amd64/fake"


def held(server: Serving, client: httpx.Client, **more: Any) -> tuple[str, Any]:
    """A run of one failed cell whose guest is kept."""
    run = server.submit(client, "exit 3", only=[CELL], **({"hold_on_failure": "1h"} | more))
    return run, kept(client, run)


def kept(client: httpx.Client, run: str) -> Any:
    """The guest of a run's failed cell, as soon as it is kept."""
    id_ = f"{run}/{CELL}"

    def found() -> Any:
        answer = client.get(f"{URL}/{id_}")
        return None if answer.status_code == 404 else answer

    return eventually(found, what=lambda: f"{id_} is kept; its run is: {run_of(client, run)}").json()


def came_to(server: Serving, client: httpx.Client, run: str) -> list[tuple[str, str, int]]:
    cells = server.wait_for(client, run)["cells"]
    return [(cell["verdict"], cell["rule"], cell["attempts"]) for cell in cells]


FAILED = [("failed", "script-failed", 1)]


def test_a_failed_guest_that_is_kept_is_a_reservation(server: Serving) -> None:
    client = server.client("submit")
    run, found = held(server, client, ssh_key=KEY)
    assert (found["id"], found["reserved"], found["state"]) == (f"{run}/{CELL}", False, "ready")
    assert found["id"] in [one["id"] for one in client.get(URL).json()["reservations"]]
    until = in_(hours=5)
    assert at(client.patch(f"{URL}/{found['id']}", json={"until": until}).json()["until"]) == at(until)
    release(client, found["id"])
    assert came_to(server, client, run) == FAILED


def test_the_verdict_stands_when_the_time_is_over(server: Serving) -> None:
    client = server.client("submit")
    run, _ = held(server, client, hold_on_failure="1s")
    assert came_to(server, client, run) == FAILED


def test_the_verdict_stands_when_the_run_is_cancelled(server: Serving) -> None:
    client = server.client("submit")
    run, found = held(server, client)
    client.post(f"/api/v1/runs/{run}/cancel")
    assert came_to(server, client, run) == FAILED
    assert wait_for(client, found["id"], "ended")["summary"] == "test: the script returned 3"


@pytest.mark.parametrize("how", [SIGTERM, SIGKILL])
def test_what_is_kept_ends_with_the_server_as_what_it_is(own_server: Callable[..., Serving], how: Any) -> None:
    server = own_server()
    client = server.client("submit")
    run, failed = held(server, client)
    reserved = ready(client)
    server.stop(how)
    server.start()
    client = server.client("submit")
    assert came_to(server, client, run) == FAILED
    assert came_to(server, client, reserved["run"]) == [("error", "interrupted", 1)]
    said = wait_for(client, reserved["id"], "ended")["summary"]
    assert said.startswith("the attempt was interrupted: the farm was ")
    assert wait_for(client, failed["id"], "ended")["summary"] == "test: the script returned 3"
    assert client.get(URL).json() == {"reservations": []}


# --- secrets ----------------------------------------------------------------------------------------


def test_a_secret_reaches_the_scripts_and_nothing_that_is_kept(own_server: Callable[..., Serving]) -> None:
    server = own_server()
    client = server.client("submit")
    secret, junit = (
        "k0rrekt-h0rse+battery",
        "<testsuite><testcase name='a'><failure message='$PASS_WORD'/></testcase></testsuite>",
    )
    test = f'echo got $PASS_WORD\necho $PASS_WORD >&2\necho "{junit}" > r.xml\nexit 1\n'
    matrix = "name: s\naxes: {image: [debian-13], arch: [amd64], hypervisor: [fake]}\ntest: |\n"
    matrix += "".join(f"  {line}\n" for line in test.splitlines()) + "collect: {junit: [r.xml]}\n"
    body = {"matrix": matrix, "source": {"upload": server.upload(client)}, "secrets": {"PASS_WORD": secret}}
    run = client.post("/api/v1/runs", json=body | {"hold_on_failure": "1h"}).json()["run"]["id"]
    release(client, kept(client, run)["id"])
    found = server.wait_for(client, run)
    assert [cell["rule"] for cell in found["cells"]] == ["tests-failed"]
    logs = b"".join(path.read_bytes() for path in server.state.rglob("test.log"))
    assert b"got ***\n" in logs
    answers = [
        client.get(f"/api/v1/runs/{run}{rest}").content
        for rest in ("", f"/cells/{CELL}", f"/cells/{CELL}/attempts/1/logs/test", f"/cells/{CELL}/attempts/1/tests")
    ]
    files = {str(path): path.read_bytes() for path in server.state.rglob("*") if path.is_file()}
    everything = [*answers, *files.values(), server.log.read_bytes()]
    assert [text for text in everything if secret.encode() in text or b"k0rrekt" in text] == []


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"A": "abc"}, "at least 4 characters"),
        ({"PATH": "something"}, "reserved"),
        ({"FARM_CELL": "something"}, "reserved"),
        ({"not a name": "something"}, "secrets"),
    ],
)
def test_a_secret_that_could_not_be_one_is_refused_without_being_told(
    server: Serving, secrets: dict[str, str], said: str
) -> None:
    client = server.client("submit")
    answer = client.post("/api/v1/runs", json={"matrix_name": "x", "secrets": secrets})
    assert (answer.status_code, said in answer.json()["detail"]) == (422, True), answer.text
    assert not [value for value in secrets.values() if value in answer.text]
