"""What each forge says in which header and how its pushes look: a table, and a reader for each shape. Pure.

GitHub: <https://docs.github.com/en/webhooks/webhook-events-and-payloads#push> and, for the signature,
<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
GitLab: <https://docs.gitlab.com/user/project/integrations/webhooks/> and
<https://docs.gitlab.com/user/project/integrations/webhook_events/>.
Gitea: <https://docs.gitea.com/usage/webhooks>. Forgejo: <https://forgejo.org/docs/latest/user/webhooks/>.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from farm.errors import ConflictError, UntrustedError
from farm.model import Push
from farm.model.trigger import Commit
from farm.triggers.signatures import Check, Received, hexadecimal, signing_or_token

OLDEST = timedelta(days=3)
"""GitHub delivers nothing again that is older: redelivering-webhooks in its documentation."""
_FUTURE = timedelta(hours=1)

Shape = TypeVar("Shape", bound=BaseModel)
Reader = Callable[[bytes, datetime], Push | None]
"""Of a body and the time; None where a ref was deleted. Raises UntrustedError, ConflictError for its age."""


@dataclass(frozen=True)
class Provider:
    """A forge."""

    event: str
    """The header with the kind of event."""
    deliveries: tuple[str, ...]
    """The headers with the id of a delivery; the first that is there counts."""
    check: Check
    pushes: Mapping[str, Reader]
    """Kinds of events -> how they are read."""
    pings: frozenset[str] = field(default_factory=frozenset)
    """Kinds of events that only ask whether somebody is there."""
    only_body_is_signed: bool = True
    """So that anybody who has seen a delivery could give it another id."""


class _Repository(BaseModel):
    full_name: str
    clone_url: str
    pushed_at: int | None = None


class _Head(BaseModel):
    id: Commit


class _Push(BaseModel):
    """The shape that GitHub has given to the world."""

    ref: str
    after: Commit
    head_commit: _Head | None = None
    repository: _Repository


class _Project(BaseModel):
    path_with_namespace: str
    git_http_url: str


class _GitlabPush(BaseModel):
    ref: str
    after: Commit
    checkout_sha: Commit | None = None
    project: _Project


def _github(body: bytes, now: datetime) -> Push | None:
    push = _read(_Push, body)
    if push.repository.pushed_at is not None:
        _refuse_old(push.repository.pushed_at, now)
    return _gitea_of(push)


def _gitea(body: bytes, _now: datetime) -> Push | None:
    # `pushed_at` is GitHub's alone.
    return _gitea_of(_read(_Push, body))


def _gitea_of(push: _Push) -> Push | None:
    if _deleted(push.after):
        return None
    # Of an annotated tag, `after` is the tag; what it points to is the head.
    commit = push.head_commit.id if push.head_commit else push.after
    return _push(push.repository.full_name, push.ref, commit, push.repository.clone_url)


def _gitlab(body: bytes, _now: datetime) -> Push | None:
    push = _read(_GitlabPush, body)
    if _deleted(push.after):
        return None
    project = push.project
    return _push(project.path_with_namespace, push.ref, push.checkout_sha or push.after, project.git_http_url)


def _like_gitea(name: str) -> Provider:
    return Provider(
        event=f"x-{name}-event",
        deliveries=(f"x-{name}-delivery",),
        check=hexadecimal(f"x-{name}-signature"),
        pushes=MappingProxyType({"push": _gitea}),
    )


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "github": Provider(
            event="x-github-event",
            deliveries=("x-github-delivery",),
            check=hexadecimal("X-Hub-Signature-256", "sha256="),
            pushes=MappingProxyType({"push": _github}),
            pings=frozenset({"ping"}),
        ),
        "gitlab": Provider(
            event="x-gitlab-event",
            # The second is the same for all webhooks that one leads to another; the first is of one delivery.
            deliveries=("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
            check=signing_or_token("X-Gitlab-Token"),
            pushes=MappingProxyType({"Push Hook": _gitlab, "Tag Push Hook": _gitlab}),
            only_body_is_signed=False,
        ),
        "gitea": _like_gitea("gitea"),
        "forgejo": _like_gitea("forgejo"),
    }
)


def delivery_of(provider: Provider, received: Received) -> str:
    """The forge's id of a delivery. Raises UntrustedError where it has none."""
    found = next((received.headers[name] for name in provider.deliveries if received.headers.get(name)), "")
    if not found or len(found) > 200 or not found.isascii() or not found.isprintable():  # noqa: PLR2004
        raise UntrustedError(f"cannot take the webhook: it has no {provider.deliveries[-1]} with its id")
    return found


def _read(shape: type[Shape], body: bytes) -> Shape:
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UntrustedError(
            "cannot read the webhook: its body is not JSON", hint="choose the content type application/json"
        ) from error
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise UntrustedError(f"cannot read the push: {_first(error)}") from error


def _push(repository: str, ref: str, commit: str, clone_url: str) -> Push:
    try:
        return Push(repository=repository, ref=ref, commit=commit, clone_url=clone_url)
    except ValidationError as error:
        raise UntrustedError(f"cannot use the push: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    one = error.errors()[0]
    return f"{'.'.join(map(str, one['loc']))}: {one['msg']}"


def _deleted(commit: str) -> bool:
    return not commit.strip("0")


def _refuse_old(pushed_at: int, now: datetime) -> None:
    age_s = now.timestamp() - pushed_at
    if not -_FUTURE.total_seconds() <= age_s <= OLDEST.total_seconds():
        at = datetime.fromtimestamp(min(max(0, pushed_at), 4e9), UTC)
        raise ConflictError(f"cannot take the webhook: the push in it is of {at:%Y-%m-%d %H:%M} UTC")
