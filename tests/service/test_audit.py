"""Every change is in the audit log, once: by REST with the token's name, by a command on the server's machine, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.serving import MATRIX, Serving, tar_of
from tests.service.terminal import Terminal, terminals
from tests.service.test_reserve import WANTED, in_, wait_for

pytestmark = pytest.mark.timeout(400)

API = "/api/v1"
CELL = "debian-13/amd64/fake"
WRITING = {"post", "put", "patch", "delete"}
CHANGES = {
    "POST /sources": "source.upload",
    "POST /runs": "run.submit",
    "POST /runs/{run}/cells/{cell}/cancel": "cell.cancel",
    "POST /runs/{run}/cancel": "run.cancel",
    "POST /runs/{run}/rerun": "run.rerun",
    "POST /reservations": "reservation.create",
    "PATCH /reservations/{reservation}": "reservation.extend",
    "DELETE /reservations/{reservation}": "reservation.release",
    "POST /hosts/{name}/drain": "host.drain",
    "POST /hosts/{name}/enable": "host.enable",
    "PUT /projects/{project}/baselines/{name}": "baseline.set",
    "DELETE /projects/{project}/baselines/{name}": "baseline.remove",
    "POST /projects/{project}/waivers": "waiver.add",
    "PUT /projects/{project}/waivers/{waiver}": "waiver.change",
    "DELETE /projects/{project}/waivers/{waiver}": "waiver.remove",
    "POST /tokens": "token.create",
    "DELETE /tokens/{token}": "token.revoke",
}
CHANGE_NOTHING = {"POST /validate", "POST /plan"}
OF_FORGES = {"POST /hooks/{trigger}", "POST /deliveries/{delivery}/retry"}
"""They take a forge: tests/service/test_hooks.py."""


class Changing:
    """A client that makes changes, and what each has left in the audit log."""

    def __init__(self, server: Serving) -> None:
        self._client, self._reader = server.client("admin", name="changing"), server.client("admin")
        self.made: dict[str, str] = {}
        self._last = self._log()[0]["id"]

    def __call__(self, operation: str, body: Any = None, *, status: int, headers: Any = None, **names: str) -> Any:
        method, _, path = operation.partition(" ")
        sent: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = self._client.request(method, f"{API}{path.format(**names)}", headers=headers, **sent)
        assert answer.status_code == status, answer.text
        (noted,) = self.new()
        assert noted["actor"] == "changing"
        self.made[operation] = noted["action"]
        told = answer.json() if answer.content else None
        assert noted["target"] in {*names.values(), *_ids(told), "/".join(names.values())}, noted
        return told

    def new(self) -> list[Any]:
        """What has come to the log since this was asked last, the oldest first."""
        found = [one for one in self._log() if one["id"] > self._last][::-1]
        self._last = max([one["id"] for one in found], default=self._last)
        return found

    def _log(self) -> Any:
        return self._reader.get(f"{API}/audit").json()


def _ids(told: Any) -> set[str]:
    """What an answer calls that which was made."""
    if not isinstance(told, dict):
        return set()
    part = told.get("run", told.get("token", told))
    part = part if isinstance(part, dict) else told
    return {str(part.get("id", part.get("digest"))), f"{part.get('project')}/{part.get('id')}"}


def test_every_operation_that_changes_something_is_noted_once(server: Serving) -> None:
    client, change = server.client("admin"), Changing(server)
    digest = change("POST /sources", tar_of({"audited": b"x"}), status=201)["digest"]
    body = {"matrix": MATRIX.format(name="audited", test='"sleep 600"', vcpus=1), "source": {"upload": digest}}
    key = {"Idempotency-Key": "audited"}
    run = change("POST /runs", body, status=201, headers=key)["run"]["id"]
    again = server.client("admin", name="changing").post(f"{API}/runs", json=body, headers=key)
    assert (again.json()["run"]["id"], change.new()) == (run, [])  # it has made nothing
    server.wait_for(client, run, "running")
    change("POST /runs/{run}/cells/{cell}/cancel", status=202, run=run, cell=CELL)
    change("POST /runs/{run}/cancel", status=202, run=run)
    server.wait_for(client, run)
    assert client.post(f"{API}/runs/{run}/cancel").status_code == 202
    assert change.new() == []  # it had ended
    change("POST /runs/{run}/cancel", status=202, run=_rerun(change, run))

    guest = change("POST /reservations", WANTED, status=201)["id"]
    wait_for(client, guest, "ready")
    change("PATCH /reservations/{reservation}", {"until": in_(hours=2)}, status=200, reservation=guest)
    change("DELETE /reservations/{reservation}", status=202, reservation=guest)

    host = client.get(f"{API}/hosts").json()["hosts"][0]["name"]
    change("POST /hosts/{name}/drain", {"reason": "a new disk"}, status=200, name=host)
    change("POST /hosts/{name}/enable", status=200, name=host)

    of = {"project": "audited"}
    change("PUT /projects/{project}/baselines/{name}", {"run": run}, status=200, **of, name="good")
    change("DELETE /projects/{project}/baselines/{name}", status=204, **of, name="good")
    waiver = str(change("POST /projects/{project}/waivers", {"reason": "noted"}, status=201, **of)["id"])
    change("PUT /projects/{project}/waivers/{waiver}", {"reason": "again"}, status=200, **of, waiver=waiver)
    change("DELETE /projects/{project}/waivers/{waiver}", status=204, **of, waiver=waiver)

    token = change("POST /tokens", {"name": "audited", "scope": "read"}, status=201)["token"]["id"]
    change("DELETE /tokens/{token}", status=204, token=token)

    assert change.made == CHANGES
    assert {*CHANGES, *CHANGE_NOTHING, *OF_FORGES} == writing(client)


def _rerun(change: Changing, run: str) -> str:
    return str(change("POST /runs/{run}/rerun", {"cells": ["all"]}, status=201, run=run)["run"]["id"])


def writing(client: httpx.Client) -> set[str]:
    """The operations that may change something."""
    paths = client.get(f"{API}/openapi.json").json()["paths"]
    found = {(method, path) for path, methods in paths.items() for method in methods if method in WRITING}
    return {f"{method.upper()} {path.removeprefix(API)}" for method, path in found}


@pytest.fixture
def here(server: Serving, tmp_path: Path) -> Any:
    """A terminal on the server's machine."""
    with terminals(tmp_path, server) as (made, _):
        yield made


def test_every_change_by_a_command_on_the_servers_machine_is_noted_once(server: Serving, here: Terminal) -> None:
    client, log = server.client("admin"), Changing(server)
    host = client.get(f"{API}/hosts").json()["hosts"][0]["name"]
    matrix = here.matrix(name="local", test="sleep 600")
    (here.folder / "key.pub").write_text(f"{WANTED['ssh_key']}\n")

    def change(action: str, *command: str) -> str:
        ended = here(*command)
        assert ended.status == 0, ended.err
        assert [(one["actor"], one["action"]) for one in log.new()] == [("command line", action)], command
        return ended.out.split()[0] if ended.out else ""

    run = change("run.submit", "submit", matrix, "--idempotency-key", "local")
    assert here("submit", matrix, "--idempotency-key", "local").out.split()[0] == run
    assert log.new() == []  # it has made nothing
    server.wait_for(client, run, "running")
    change("cell.cancel", "cancel", run, CELL)
    change("run.cancel", "cancel", run)
    server.wait_for(client, run)
    change("run.cancel", "cancel", change("run.rerun", "rerun", run, "--cells", "all"))
    guest = change("reservation.create", *_reserve("key.pub"))
    wait_for(client, guest, "ready")
    change("reservation.extend", "extend", guest, "--for", "2h")
    change("reservation.release", "release", guest)
    change("host.drain", "host", "drain", host, "--reason", "a new disk")
    change("host.enable", "host", "resume", host)
    change("baseline.set", "baseline", "set", "local", "good", run)
    change("baseline.remove", "baseline", "remove", "local", "good")
    change("waiver.add", "waiver", "add", "local", "--reason", "noted")
    number = client.get(f"{API}/projects/local/waivers").json()[0]["id"]
    change("waiver.remove", "waiver", "remove", "local", str(number))
    change("token.create", "token", "create", "local")
    token = next(one["id"] for one in client.get(f"{API}/tokens").json() if one["name"] == "local")
    change("token.revoke", "token", "revoke", token)


def _reserve(key: str) -> tuple[str, ...]:
    return ("reserve", "debian-13/amd64/fake", "--for", "1h", "--key", key, "--memory", "128M")
