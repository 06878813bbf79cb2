"""Webhooks of forges: whose they are, and what they ask for."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from farm.errors import ConfigError, ConflictError, ForbiddenError, UntrustedError
from farm.model import GitSource, Push
from farm.triggers.providers import OLDEST, PROVIDERS, delivery_of
from farm.triggers.requests import clone_url, run_request
from farm.triggers.settings import Trigger
from farm.triggers.signatures import TOLERANCE, Received, SignatureError, sign, standard

DATA = Path(__file__).parents[1] / "data" / "hooks"
SECRET = "It's a Secret to Everybody"  # noqa: S105 - of GitHub's example
WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_not base64!"
PUSHED = datetime.fromtimestamp(1557933657, UTC)
"""When GitHub's example was pushed."""
NOW = PUSHED + timedelta(seconds=4)
TIP = "f95f852bd8fca8fcc58a9a2d6c842781e32a215e"
GITLAB_TAG = "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7"
GITEA_TIP = "bffeb74224043ba2feb48d137756c8a9331c449a"


def body_of(name: str) -> bytes:
    return (DATA / f"{name}.json").read_bytes()


def received(headers: Mapping[str, str], body: bytes = b"{}", now: datetime = NOW) -> Received:
    return Received(headers={name.lower(): value for name, value in headers.items()}, body=body, now=now)


def hexadecimal(body: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


# --- signatures -------------------------------------------------------------------------------------


def test_the_example_of_github_is_signed_as_its_documentation_says() -> None:
    told = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    PROVIDERS["github"].check(received({"X-Hub-Signature-256": told}, b"Hello, World!"), SECRET)


def test_the_example_of_standard_webhooks_is_signed_as_its_specification_says() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    body = b'{"test": 2432232314}'
    told = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert told == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


BODY = b'{"zen": "Design for failure."}'
GOOD = {
    "github": {"X-Hub-Signature-256": f"sha256={hexadecimal(BODY)}"},
    "gitea": {"X-Gitea-Signature": hexadecimal(BODY)},
    "forgejo": {"X-Forgejo-Signature": hexadecimal(BODY)},
    "gitlab": {"X-Gitlab-Token": SECRET},
}


@pytest.mark.parametrize("provider", GOOD)
def test_who_knows_the_secret_is_let_in(provider: str) -> None:
    PROVIDERS[provider].check(received(GOOD[provider], BODY), SECRET)


BAD = [
    ("github", {}, "has no X-Hub-Signature-256"),
    ("github", {"X-Hub-Signature-256": ""}, "has no X-Hub-Signature-256"),
    ("github", {"X-Hub-Signature-256": hexadecimal(BODY)}, "is not the signature"),
    ("github", {"X-Hub-Signature-256": f"sha256={hexadecimal(BODY)[:-1]}"}, "is not the signature"),
    ("github", {"X-Hub-Signature-256": f"sha256={hexadecimal(BODY, 'another')}"}, "is not the signature"),
    ("github", {"X-Hub-Signature-256": f"sha256={hexadecimal(BODY + b' ')}"}, "is not the signature"),
    ("github", {"X-Hub-Signature-256": f"sha1={hexadecimal(BODY, algorithm='sha1')}"}, "is not the signature"),
    ("github", {"X-Hub-Signature": f"sha1={hexadecimal(BODY, algorithm='sha1')}"}, "has no X-Hub-Signature-256"),
    ("github", {"X-Hub-Signature-256": "sha256=\u00fc\udcff"}, "is not the signature"),
    ("github", {"X-Gitlab-Token": SECRET}, "has no X-Hub-Signature-256"),
    ("gitea", {"X-Gitea-Signature": f"sha256={hexadecimal(BODY)}"}, "is not the signature"),
    ("gitea", {"X-Gitea-Signature": hexadecimal(BODY).upper()}, "is not the signature"),
    ("gitea", {"X-Forgejo-Signature": hexadecimal(BODY)}, "has no x-gitea-signature"),
    ("forgejo", {"X-Gitea-Signature": hexadecimal(BODY)}, "has no x-forgejo-signature"),
    ("gitlab", {}, "has no X-Gitlab-Token"),
    ("gitlab", {"X-Gitlab-Token": SECRET[:-1]}, "is not the token"),
    ("gitlab", {"X-Gitlab-Token": hexadecimal(BODY)}, "is not the token"),
]


@pytest.mark.parametrize(("provider", "headers", "reason"), BAD)
def test_who_does_not_is_not(provider: str, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        PROVIDERS[provider].check(received(headers, BODY), SECRET)


def signed(body: bytes = BODY, *, at: datetime = NOW, secret: str = WHSEC, **changes: str) -> dict[str, str]:
    headers = {
        "webhook-id": "msg-1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": sign("msg-1", at, body, secret),
    }
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


@pytest.mark.parametrize(
    "headers",
    [
        signed(),
        signed(webhook_signature=f"v1,AAAA v1a,BBBB {sign('msg-1', NOW, BODY, WHSEC)}"),
        signed(at=NOW - TOLERANCE + timedelta(seconds=1)),
        signed(at=NOW + TOLERANCE),
    ],
    ids=["signed", "one of several", "a slow clock", "a fast clock"],
)
def test_gitlab_may_sign_as_standard_webhooks_does(headers: dict[str, str]) -> None:
    PROVIDERS["gitlab"].check(received(headers, BODY), WHSEC)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (signed(webhook_id="msg-2"), "does not fit"),
        (signed(b"{}"), "does not fit"),
        (signed(secret=OTHER), "does not fit"),
        (signed(webhook_timestamp=str(int(NOW.timestamp()) + 1)), "does not fit"),
        (signed(webhook_signature="v2," + sign("msg-1", NOW, BODY, WHSEC)[3:]), "does not fit"),
        (signed(webhook_signature=""), "has no webhook-signature"),
        (signed(webhook_timestamp="soon"), "is not a time"),
        (signed(webhook_timestamp="9" * 30), "is not a time"),
        (signed(webhook_timestamp="\u0661"), "is not a time"),
        (signed(at=NOW - timedelta(minutes=6)), "not from now"),
        (signed(at=NOW + timedelta(minutes=6)), "not from now"),
        ({"X-Gitlab-Token": WHSEC}, "has no webhook-id"),
    ],
)
def test_what_is_signed_otherwise_or_at_another_time_is_refused(headers: dict[str, str], reason: str) -> None:
    with pytest.raises(SignatureError, match=reason):
        PROVIDERS["gitlab"].check(received(headers, BODY), WHSEC)


def test_a_secret_that_only_looks_like_base64_is_taken_as_it_is() -> None:
    standard(received(signed(secret=OTHER), BODY), OTHER)


# --- reading pushes ---------------------------------------------------------------------------------

PUSHES = [
    ("github", "push", "push", ("Codertocat/Hello-World", "refs/heads/master", TIP)),
    ("github", "push", "tag", ("Codertocat/Hello-World", "refs/tags/v1.0.0", TIP)),
    ("github", "push", "annotated-tag", ("Codertocat/Hello-World", "refs/tags/v1.0.0", TIP)),
    ("github", "push", "delete", None),
    ("gitlab", "Push Hook", "push", ("mike/diaspora", "refs/heads/master", "da1560886d4f094c3e6c9ef40349f7d38b5d27d7")),
    (
        "gitlab",
        "Tag Push Hook",
        "tag",
        ("jsmith/example", "refs/tags/v1.0.0", "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7"),
    ),
    (
        "gitlab",
        "Tag Push Hook",
        "annotated-tag",
        ("jsmith/example", "refs/tags/v1.0.0", "82b3d5ae55f7080f1e6022629cdb57bfae7cccc7"),
    ),
    ("gitlab", "Push Hook", "delete", None),
    ("gitea", "push", "push", ("gitea/webhooks", "refs/heads/develop", GITEA_TIP)),
    ("gitea", "push", "tag", ("gitea/webhooks", "refs/tags/v1.0.0", GITEA_TIP)),
    ("gitea", "push", "delete", None),
    ("forgejo", "push", "push", ("gitea/webhooks", "refs/heads/develop", GITEA_TIP)),
    ("forgejo", "push", "tag", ("gitea/webhooks", "refs/tags/v1.0.0", GITEA_TIP)),
    ("forgejo", "push", "delete", None),
]


@pytest.mark.parametrize(
    ("provider", "event", "name", "expected"), PUSHES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_push_is_read_as_the_forge_documents_it(
    provider: str, event: str, name: str, expected: tuple[str, str, str] | None
) -> None:
    push = PROVIDERS[provider].pushes[event](body_of(f"{provider}-{name}"), NOW)
    assert (push and (push.repository, push.ref, push.commit)) == expected


def changed(name: str, **changes: Any) -> bytes:
    return json.dumps(json.loads(body_of(name)) | changes).encode()


REPOSITORY = json.loads(body_of("github-push"))["repository"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"payload=%7B%7D", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "cannot read the push"),
        (b"{}", "ref: Field required"),
        (changed("github-push", after="HEAD"), "after: String should match"),
        (changed("github-push", after="--upload-pack=sh", head_commit=None), "after: String should match"),
        (changed("github-push", ref="master"), "cannot use the push: ref"),
        (changed("github-push", ref="refs/heads/a b"), "cannot use the push: ref"),
        (changed("github-push", ref="refs/heads/" + "a" * 500), "cannot use the push: ref"),
        (changed("github-push", repository=REPOSITORY | {"full_name": "../../etc"}), "repository"),
        (changed("github-push", repository=REPOSITORY | {"full_name": "a/b?c=d"}), "repository"),
        (changed("github-push", repository="Hello-World"), "cannot read the push: repository"),
    ],
)
def test_a_body_that_is_no_push_is_told_what_is_wrong_with_it(body: bytes, reason: str) -> None:
    with pytest.raises(UntrustedError, match=reason):
        PROVIDERS["github"].pushes["push"](body, NOW)


@pytest.mark.parametrize("late", [OLDEST + timedelta(seconds=1), timedelta(hours=-2)])
def test_a_push_to_github_that_is_old_or_of_tomorrow_is_refused(late: timedelta) -> None:
    with pytest.raises(ConflictError, match="the push in it is of 2019-05-15"):
        PROVIDERS["github"].pushes["push"](body_of("github-push"), PUSHED + late)


@pytest.mark.parametrize(
    ("provider", "headers", "expected"),
    [
        ("github", {"X-GitHub-Delivery": "72d3162e-cc78"}, "72d3162e-cc78"),
        ("gitea", {"X-Gitea-Delivery": "f6266f16", "X-GitHub-Delivery": "other"}, "f6266f16"),
        ("forgejo", {"X-Forgejo-Delivery": "f6266f16"}, "f6266f16"),
        ("gitlab", {"X-Gitlab-Event-UUID": "13792a34"}, "13792a34"),
        ("gitlab", {"X-Gitlab-Event-UUID": "13792a34", "Idempotency-Key": "f5e5f430"}, "f5e5f430"),
        ("gitlab", {"Idempotency-Key": "f5e5f430", "webhook-id": "f5e5f431"}, "f5e5f431"),
    ],
)
def test_a_delivery_has_the_id_that_the_forge_gave_it(provider: str, headers: dict[str, str], expected: str) -> None:
    assert delivery_of(PROVIDERS[provider], received(headers)) == expected


@pytest.mark.parametrize("id_", ["", "x" * 201, "a\nb", "\u00fc"])
def test_a_delivery_without_a_sensible_id_is_refused(id_: str) -> None:
    with pytest.raises(UntrustedError, match="it has no x-github-delivery"):
        delivery_of(PROVIDERS["github"], received({"X-GitHub-Delivery": id_}))


# --- from a push to a run ---------------------------------------------------------------------------


def trigger(**changes: Any) -> Trigger:
    values = {"name": "hello", "provider": "github", "repository": "acme/*", "secret_env": "S", "matrix_name": "hello"}
    return Trigger.model_validate(values | changes)


def push(**changes: str) -> Push:
    values = {
        "repository": "acme/hello",
        "ref": "refs/heads/main",
        "commit": TIP,
        "clone_url": "https://github.com/acme/hello.git",
    }
    return Push.model_validate(values | changes)


@pytest.mark.parametrize(
    ("settings", "repository", "ref", "expected"),
    [
        ({}, "acme/hello", "refs/heads/main", True),
        ({}, "Acme/Hello", "refs/tags/v1", True),
        ({}, "other/hello", "refs/heads/main", False),
        ({}, "acme/hello", "refs/notes/commits", False),
        ({"refs": ["refs/heads/main"]}, "acme/hello", "refs/heads/main", True),
        ({"refs": ["refs/heads/main"]}, "acme/hello", "refs/heads/MAIN", False),
        ({"refs": ["refs/heads/main"]}, "acme/hello", "refs/heads/main2", False),
        ({"refs": ["refs/tags/v*"]}, "acme/hello", "refs/tags/v1.0", True),
        ({"refs": ["refs/tags/v*"]}, "acme/hello", "refs/heads/v1.0", False),
        ({"repository": "acme/hello"}, "acme/hello2", "refs/heads/main", False),
    ],
)
def test_a_trigger_wants_its_own_repositories_and_refs(
    settings: dict[str, Any], repository: str, ref: str, expected: bool
) -> None:
    assert trigger(**settings).wants(repository, ref) is expected


def test_a_branch_becomes_a_run_of_its_commit() -> None:
    request = run_request(trigger(labels={"team": "core"}, priority=70, only=["*/amd64"]), push())
    assert request.source == GitSource(git="https://github.com/acme/hello.git", ref=TIP)
    assert (request.matrix_name, request.version, request.priority) == ("hello", "main", 70)
    assert request.labels == {
        "trigger": "hello",
        "repository": "acme/hello",
        "commit": TIP,
        "branch": "main",
        "team": "core",
    }


def test_a_tag_is_a_release() -> None:
    request = run_request(trigger(), push(ref="refs/tags/v1.2"))
    assert (request.version, request.labels["release"]) == ("v1.2", "v1.2")
    assert "branch" not in request.labels


def test_the_longest_name_of_a_branch_fits() -> None:
    request = run_request(trigger(), push(ref="refs/heads/" + "b" * 480))
    assert request.version == request.labels["branch"] == "b" * 200


def test_a_matrix_on_the_server_is_read_when_the_run_is_made(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("name: hello\n")
    assert run_request(trigger(matrix_name=None, matrix=str(file)), push()).matrix == "name: hello\n"
    file.unlink()
    with pytest.raises(ConfigError, match=r"cannot read the matrix .*: No such file"):
        run_request(trigger(matrix_name=None, matrix=str(file)), push())


@pytest.mark.parametrize(
    ("settings", "url", "expected"),
    [
        ({}, "https://github.com/acme/hello.git", "https://github.com/acme/hello.git"),
        ({}, "https://GitHub.com/acme/hello.git", "https://GitHub.com/acme/hello.git"),
        ({"clone_hosts": ["127.0.0.1:3000"]}, "http://127.0.0.1:3000/a/b.git", "http://127.0.0.1:3000/a/b.git"),
        ({"clone_url": "git@git.example.org:{repository}.git"}, "http://evil/", "git@git.example.org:acme/hello.git"),
        ({"clone_url": "https://mirror/one.git"}, "http://evil/", "https://mirror/one.git"),
    ],
)
def test_the_source_is_fetched_from_where_farm_toml_allows_it(
    settings: dict[str, Any], url: str, expected: str
) -> None:
    assert clone_url(trigger(**settings), push(clone_url=url)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/acme/hello.git",
        "https://github.com.evil.example/acme/hello.git",
        "https://github.com@evil.example/acme/hello.git",
        "https://token@github.com/acme/hello.git",
        "https://github.com:8443/acme/hello.git",
        "ssh://github.com/acme/hello.git",
        "git@github.com:acme/hello.git",
        "file:///etc",
        "/etc",
        "http://169.254.169.254/latest",
        "https://[::1/",
        "",
    ],
)
def test_the_forge_cannot_have_the_source_fetched_from_elsewhere(url: str) -> None:
    with pytest.raises(ForbiddenError, match="cannot fetch the source"):
        clone_url(trigger(), push(clone_url=url))
