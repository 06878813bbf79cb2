"""Webhooks of forges become runs, and what becomes of them goes back: a real server, git over HTTP, a stand-in forge.

No real forge can be had from the package archives; the stand-in checks what it is sent by the letter of the forges'
documentation.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.conftest import serving
from tests.service.serving import MATRIX, Serving
from tests.standin import SECRET, TOKEN, StandIn, Told, standing_in
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

HOOK_SECRET = "the secret of the hook"  # noqa: S105 - of a server that lives for a test
DATA = Path(__file__).parents[1] / "data" / "hooks"
SETTINGS = """\
public_url = "https://farm.example.org"
rate = 100000
burst = 100000

[delivery]
first_s = 0.1
longest_s = 0.5
tries = 6
timeout_s = 5

[[notify]]
name = "chat"
url = "{url}/webhook"
secret_env = "CHAT_SECRET"
events = ["run-submitted", "run-finished"]
projects = ["hook-*"]
"""
TRIGGER = """
[[trigger]]
name = "{name}"
provider = "{provider}"
repository = "acme/*"
refs = ["refs/heads/main", "refs/tags/v*"]
secret_env = "HOOK_SECRET"
matrix = "{folder}/{name}.yaml"
clone_hosts = ["{host}"]
priority = 70
labels = {{team = "core"}}

[[status]]
name = "{name}"
provider = "{provider}"
api_url = "{url}/{api}"
token_file = "{folder}/token"
triggers = ["{name}"]
"""
APIS = {"github": "github", "gitlab": "gitlab/api/v4", "gitea": "gitea/api/v1", "forgejo": "gitea/api/v1"}
EVENTS = {
    "github": "X-GitHub-Event",
    "gitlab": "X-Gitlab-Event",
    "gitea": "X-Gitea-Event",
    "forgejo": "X-Forgejo-Event",
}
IDS = {
    "github": "X-GitHub-Delivery",
    "gitlab": "Idempotency-Key",
    "gitea": "X-Gitea-Delivery",
    "forgejo": "X-Forgejo-Delivery",
}


def settings(forge: StandIn, folder: Path, *hosts: str) -> tuple[str, dict[str, str]]:
    """farm.toml with a trigger and a status for each forge, and the environment of the server."""
    (folder / "token").write_text(f"{TOKEN}\n")
    allowed = '", "'.join([forge.url.removeprefix("http://"), *hosts])
    text = SETTINGS.format(url=forge.url)
    for provider, api in APIS.items():
        name = f"hook-{provider}"
        (folder / f"{name}.yaml").write_text(MATRIX.format(name=name, test="cat hello.txt", vcpus=1))
        text += TRIGGER.format(name=name, provider=provider, api=api, url=forge.url, host=allowed, folder=folder)
    return text, {"CHAT_SECRET": SECRET, "HOOK_SECRET": HOOK_SECRET}


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with standing_in(tmp_path_factory.mktemp("forge")) as started:
        yield started


@pytest.fixture(scope="module")
def commit(forge: StandIn) -> str:
    return forge.repository("acme/hello", {"hello.txt": "hello\n"})


@pytest.fixture(scope="module")
def hooked(forge: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("hooked")
    text, environment = settings(forge, folder)
    with serving(folder, settings=text, environment=environment) as started:
        yield started


def payload(forge: StandIn, provider: str, commit: str, ref: str = "refs/heads/main") -> bytes:
    """A push as the forge documents it, of a repository that can be fetched."""
    data = json.loads((DATA / f"{provider}-push.json").read_bytes())
    data |= {"ref": ref, "after": commit}
    url = f"{forge.url}/git/acme/hello.git"
    if provider == "gitlab":
        data["checkout_sha"] = commit
        data["project"] |= {"path_with_namespace": "acme/hello", "git_http_url": url}
    else:
        data["head_commit"]["id"] = commit
        data["repository"] |= {"full_name": "acme/hello", "clone_url": url}
    if provider == "github":
        data["repository"]["pushed_at"] = int(time.time())
    data["nonce"] = str(uuid.uuid4())  # as real pushes differ by their times
    return json.dumps(data).encode()


def signature(provider: str, body: bytes) -> dict[str, str]:
    digest = hmac.new(HOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "github": {"X-Hub-Signature-256": f"sha256={digest}"},
        "gitlab": {"X-Gitlab-Token": HOOK_SECRET},
        "gitea": {"X-Gitea-Signature": digest},
        "forgejo": {"X-Forgejo-Signature": digest},
    }[provider]


def send(
    server: Serving, provider: str, body: bytes, *, event: str = "", name: str = "", **headers: str
) -> httpx.Response:
    """What the forge would send; headers with `_` for `-` instead of its own."""
    own = {
        "Content-Type": "application/json",
        EVENTS[provider]: event or ("Push Hook" if provider == "gitlab" else "push"),
        IDS[provider]: str(uuid.uuid4()),
        **signature(provider, body),
    }
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    kept = {key: value for key, value in own.items() if key.lower() not in {key.lower() for key in given}}
    with httpx.Client(base_url=server.url, timeout=60) as client:
        path = f"/api/v1/hooks/{name or f'hook-{provider}'}"
        return client.post(path, content=body, headers=kept | {k: v for k, v in given.items() if v})


def run_of(server: Serving, project: str, **labels: str) -> dict[str, Any]:
    """The newest run with these labels, when it has finished."""
    client = server.client("read")
    query = {"project": project, "label": [f"{key}={value}" for key, value in labels.items()]}
    runs: list[dict[str, Any]] = eventually(
        lambda: client.get("/api/v1/runs", params=query).json()["runs"],
        what=lambda: f"there is a run with {query}; the server said: {server.log.read_text()}",
    )
    overview: dict[str, Any] = server.wait_for(client, runs[0]["id"])["run"]
    return overview


def audit(server: Serving, action: str) -> list[dict[str, Any]]:
    entries = server.client("admin").get("/api/v1/audit", params={"limit": 500}).json()
    return [entry for entry in entries if entry["action"] == action]


# --- the whole way ----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", APIS)
def test_a_push_becomes_a_run_of_its_commit_and_the_commit_gets_its_status(
    hooked: Serving, forge: StandIn, commit: str, provider: str
) -> None:
    answer = send(hooked, provider, payload(forge, provider, commit))
    assert (answer.status_code, answer.json()["outcome"]) == (202, "accepted"), answer.text
    run = run_of(hooked, f"hook-{provider}", commit=commit)
    assert (run["exit_code"], run["owner"], run["priority"]) == (0, f"trigger hook-{provider}", 70)
    assert run["source"]["kind"] == "git"
    assert commit in run["source"]["description"]
    assert run["version"] == "main"
    assert run["labels"] == {
        "team": "core",
        "trigger": f"hook-{provider}",
        "repository": "acme/hello",
        "commit": commit,
        "branch": "main",
    }
    kind = "gitea" if provider == "forgejo" else provider
    name = "name" if provider == "gitlab" else "context"

    def of_it(all_: list[Told]) -> list[dict[str, str]]:
        return [one.body for one in all_ if one.kind == kind and one.body[name] == f"farm/hook-{provider}"]

    mine = of_it(forge.wait(lambda all_: any(body["state"] == "success" for body in of_it(all_))))
    assert mine[-1]["target_url"] == f"https://farm.example.org/runs/{run['id']}"
    assert mine[-1]["description"] == f"{run['id']}: All 2 cells passed."
    assert {body["state"] for body in mine} <= {"pending", "success"}


def test_a_tag_is_a_release_and_receivers_of_webhooks_are_told(hooked: Serving, forge: StandIn, commit: str) -> None:
    receipt = send(hooked, "gitea", payload(forge, "gitea", commit, "refs/tags/v1.2"))
    assert receipt.status_code == 202
    run = run_of(hooked, "hook-gitea", release="v1.2")
    assert (run["version"], run["labels"]["release"]) == ("v1.2", "v1.2")

    def finished(one: Told) -> bool:
        body = one.body
        return one.kind == "webhook" and body["type"] == "run-finished" and body["data"]["run"]["id"] == run["id"]

    (message,) = [one.body for one in forge.wait(lambda all_: any(map(finished, all_))) if finished(one)]
    assert message["data"]["origin"]["ref"] == "refs/tags/v1.2"
    assert message["data"]["links"]["page"] == f"https://farm.example.org/runs/{run['id']}"


def test_a_forge_that_fails_is_told_again(hooked: Serving, forge: StandIn, commit: str) -> None:
    before = len(forge.told)
    forge.fail(500, 503, 429, headers={"Retry-After": "0"}, about="hook-github")
    assert send(hooked, "github", payload(forge, "github", commit)).status_code == 202
    forge.wait(lambda all_: sum(one.answered >= 400 for one in all_[before:]) == 3)
    forge.wait(
        lambda all_: (
            any(one.kind == "github" and one.body["state"] == "success" for one in all_[before:])
            and any(one.kind == "webhook" and one.body["type"] == "run-finished" for one in all_[before:])
        )
    )


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", APIS)
@pytest.mark.parametrize("what", ["missing", "bad", "truncated", "of another body"])
def test_a_bad_signature_is_refused(hooked: Serving, forge: StandIn, commit: str, provider: str, what: str) -> None:
    body = payload(forge, provider, commit)
    ((header, good),) = signature(provider, body).items()
    bad = {"missing": "", "bad": "0" * len(good), "truncated": good[:-1]}.get(what, "")
    if what == "of another body" and provider != "gitlab":
        bad = signature(provider, body + b" ")[header]
    answer = send(hooked, provider, body, **{header.replace("-", "_"): bad})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/signature"
    assert HOOK_SECRET not in answer.text


def test_a_token_of_the_api_is_no_signature(hooked: Serving, forge: StandIn, commit: str) -> None:
    body = payload(forge, "github", commit)
    answer = send(hooked, "github", body, X_Hub_Signature_256="", Authorization=f"Bearer {hooked.token('admin')}")
    assert answer.status_code == 401


@pytest.mark.parametrize("provider", APIS)
def test_what_came_before_is_refused(hooked: Serving, forge: StandIn, commit: str, provider: str) -> None:
    body, id_ = payload(forge, provider, commit, "refs/tags/v9"), str(uuid.uuid4())
    header = IDS[provider].replace("-", "_")
    assert send(hooked, provider, body, **{header: id_}).status_code == 202
    again = send(hooked, provider, body, **{header: id_})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/conflict")
    if provider != "gitlab":  # its token is not of the body: who has seen it could write any
        assert send(hooked, provider, body, **{header: str(uuid.uuid4())}).status_code == 409


def test_of_many_at_once_one_is_taken(hooked: Serving, forge: StandIn, commit: str) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    body = payload(forge, "gitea", commit, "refs/tags/v10")
    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(lambda _: send(hooked, "gitea", body).status_code, range(8)))
    assert codes == [202, *[409] * 7]


def test_an_old_push_is_refused(hooked: Serving, forge: StandIn, commit: str) -> None:
    data = json.loads(payload(forge, "github", commit))
    data["repository"]["pushed_at"] = int(time.time()) - 4 * 24 * 3600
    answer = send(hooked, "github", json.dumps(data).encode())
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/conflict")


def test_the_source_is_not_fetched_from_where_the_forge_likes(hooked: Serving, forge: StandIn, commit: str) -> None:
    data = json.loads(payload(forge, "gitea", commit))
    data["repository"]["clone_url"] = "http://169.254.169.254/acme/hello.git"
    answer = send(hooked, "gitea", json.dumps(data).encode())
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden")


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", {}, (422, "/problems/untrusted")),
        (b"{", {}, (422, "/problems/untrusted")),
        (b"{}", {}, (422, "/problems/untrusted")),
        (b"[" * 50_000, {}, (422, "/problems/untrusted")),
        (b"payload=%7B%7D", {"Content_Type": "application/x-www-form-urlencoded"}, (415, "/problems/media-type")),
        (b"{}", {"Content_Type": ""}, (415, "/problems/media-type")),
        (b" " * (8 * 1024 * 1024 + 1), {}, (413, "/problems/too-large")),
    ],
    ids=["nothing", "half of it", "no push", "very deep", "a form", "of no type", "too large"],
)
def test_what_is_no_push_is_a_problem(
    hooked: Serving, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = send(hooked, "gitea", body, **headers)
    assert (answer.status_code, answer.json()["type"]) == expected


def test_a_large_push_is_taken(hooked: Serving, forge: StandIn, commit: str) -> None:
    data = json.loads(payload(forge, "github", commit, "refs/heads/other"))
    data["commits"] = [data["commits"][0] | {"message": "x" * 1500}] * 2048
    body = json.dumps(data).encode()
    assert len(body) > 3 * 1024 * 1024
    assert send(hooked, "github", body).json()["outcome"] == "ignored"


def test_an_unknown_trigger_is_not_found(hooked: Serving, forge: StandIn, commit: str) -> None:
    answer = send(hooked, "github", payload(forge, "github", commit), name="hook-githib")
    assert answer.status_code == 404
    assert "hook-github" in answer.json()["detail"]


# --- what needs nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "event", "name", "outcome"),
    [
        ("github", "ping", "github-ping", "pong"),
        ("github", "issues", "github-ping", "ignored"),
        ("github", "push", "github-delete", "ignored"),
        ("gitlab", "Issue Hook", "gitlab-push", "ignored"),
        ("gitlab", "Push Hook", "gitlab-delete", "ignored"),
        ("gitlab", "Push Hook", "gitlab-push", "ignored"),
        ("gitea", "push", "gitea-delete", "ignored"),
        ("gitea", "push", "gitea-push", "ignored"),
        ("forgejo", "push", "forgejo-push", "ignored"),
    ],
)
def test_what_needs_nothing_is_answered_kindly(
    hooked: Serving, provider: str, event: str, name: str, outcome: str
) -> None:
    data = json.loads((DATA / f"{name}.json").read_bytes())
    if provider == "github":
        data["repository"]["pushed_at"] = int(time.time())
    for _ in range(2):  # also twice: it is not remembered
        answer = send(hooked, provider, json.dumps(data).encode(), event=event)
        assert (answer.status_code, answer.json()["outcome"]) == (200, outcome)


# --- failures afterwards ----------------------------------------------------------------------------


def test_a_commit_that_cannot_be_fetched_is_told_and_may_come_again(
    hooked: Serving, forge: StandIn, commit: str
) -> None:
    body, id_ = payload(forge, "gitea", "a" * 40), str(uuid.uuid4())

    def failures() -> list[dict[str, Any]]:
        return [one for one in audit(hooked, "hook.fail") if one["detail"]["delivery"] == id_]

    for count in (1, 2):
        assert send(hooked, "gitea", body, X_Gitea_Delivery=id_).status_code == 202
        eventually(
            lambda count=count: len(failures()) == count,
            what=lambda count=count: f"it was told {count} times; it was: {failures()}",
        )
    assert failures()[0]["actor"] == "trigger hook-gitea"
    assert "cannot" in failures()[0]["detail"]["problem"]
    assert "cannot submit the run of a webhook" in hooked.log.read_text()


def test_what_was_taken_is_in_the_audit_log(hooked: Serving, forge: StandIn, commit: str) -> None:
    id_ = str(uuid.uuid4())
    send(hooked, "gitea", payload(forge, "gitea", commit, "refs/tags/v11"), X_Gitea_Delivery=id_)
    (taken,) = [one for one in audit(hooked, "hook.take") if one["detail"]["delivery"] == id_]
    assert (taken["actor"], taken["target"]) == ("trigger hook-gitea", "hook-gitea")
    assert taken["detail"]["commit"] == commit


# --- deliveries -------------------------------------------------------------------------------------


def test_operators_see_deliveries_and_others_do_not(hooked: Serving, forge: StandIn, commit: str) -> None:
    send(hooked, "forgejo", payload(forge, "forgejo", commit, "refs/tags/v12"))
    operator = hooked.client("operate")
    forge.wait(lambda all_: any(one.kind == "webhook" for one in all_))
    page = operator.get("/api/v1/deliveries", params={"limit": 1}).json()
    assert len(page["deliveries"]) == 1
    second = operator.get("/api/v1/deliveries", params={"limit": 1, "before": page["next"]}).json()
    assert second["deliveries"][0]["id"] < page["deliveries"][0]["id"]
    run = page["deliveries"][0]["run"]
    of_run = operator.get("/api/v1/deliveries", params={"run": run}).json()["deliveries"]
    assert {one["run"] for one in of_run} == {run}
    assert hooked.client("submit").get("/api/v1/deliveries").status_code == 403
    assert hooked.client("").get("/api/v1/deliveries").status_code == 401
    assert operator.get("/api/v1/deliveries", params={"state": "lost"}).status_code == 422
    assert SECRET not in json.dumps(of_run)


def test_what_was_given_up_can_be_retried(hooked: Serving, forge: StandIn, commit: str) -> None:
    operator = hooked.client("operate")

    def of_run(state: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = operator.get("/api/v1/deliveries", params={"run": run, "state": state}).json()[
            "deliveries"
        ]
        return found

    forge.fail(410, 410, about='"hook-by-hand"')
    run = hooked.submit(hooked.client("submit"), name="hook-by-hand")
    eventually(lambda: len(of_run("failed")) == 2, what=lambda: f"two have failed; there are: {of_run('failed')}")
    failed = of_run("failed")
    for one in failed:
        assert one["problem"].startswith("answered 410 Gone")
        assert operator.post(f"/api/v1/deliveries/{one['id']}/retry").status_code == 202
    eventually(lambda: len(of_run("done")) == 2, what=lambda: f"two are done; there are: {of_run('done')}")
    assert operator.post(f"/api/v1/deliveries/{failed[0]['id']}/retry").status_code == 409
    assert operator.post("/api/v1/deliveries/999999/retry").status_code == 404
    assert hooked.client("submit").post(f"/api/v1/deliveries/{failed[0]['id']}/retry").status_code == 403
    assert {one["target"] for one in audit(hooked, "delivery.retry")} == {str(one["id"]) for one in failed}


# --- the end of a server ----------------------------------------------------------------------------


def test_what_was_taken_and_what_is_to_be_told_survive_a_kill(
    own_server: Callable[..., Serving], tmp_path: Path
) -> None:
    with standing_in(tmp_path / "forge") as forge, socket.create_server(("127.0.0.1", 0)) as silent:
        commit = forge.repository("acme/hello", {"hello.txt": "hello\n"})
        nowhere = f"127.0.0.1:{silent.getsockname()[1]}"  # takes connections, and never says a word
        text, environment = settings(forge, tmp_path, nowhere)
        server = own_server(settings=text.replace("tries = 6", "tries = 100"), environment=environment)
        forge.fail(*[503] * 1000)
        data = json.loads(payload(forge, "gitea", commit, "refs/tags/v2"))
        data["repository"]["clone_url"] = f"http://{nowhere}/acme/hello.git"
        assert send(server, "gitea", json.dumps(data).encode()).status_code == 202
        assert send(server, "gitea", payload(forge, "gitea", commit)).status_code == 202
        run = run_of(server, "hook-gitea", commit=commit)
        forge.wait(lambda all_: any(one.kind == "gitea" and one.body["state"] == "success" for one in all_))
        server.stop(signal.SIGKILL)
        server.settings = text.replace("tries = 6", "tries = 3")
        silent.close()
        forge.answers.clear()
        told = len(forge.told)
        server.start()
        after = forge.wait(lambda all_: any(one.kind == "gitea" and one.answered == 201 for one in all_[told:]))
        statuses = [one.body for one in after[told:] if one.kind == "gitea"]
        assert [(body["state"], run["id"] in body["description"]) for body in statuses] == [("success", True)]
        (failure,) = eventually(
            lambda: audit(server, "hook.fail"),
            what=lambda: f"the failure is in the audit log; the server said: {server.log.read_text()}",
        )
        assert failure["detail"]["commit"] == commit
