"""From a push to a run: what is fetched, what it is called, what it is labelled with. Pure, but for a matrix file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from farm.errors import ConfigError, ForbiddenError
from farm.model import GitSource, Push, RunRequest
from farm.triggers.settings import Trigger

_LONGEST_LABEL = 200


def clone_url(trigger: Trigger, push: Push) -> str:
    """Where the commit is fetched. Raises ForbiddenError where the forge names a host that is not allowed."""
    if trigger.clone_url:
        return trigger.clone_url.replace("{repository}", push.repository)
    try:
        parts = urlsplit(push.clone_url)
        host = parts.netloc.lower()
    except ValueError as error:
        raise ForbiddenError("cannot fetch the source: the forge names something that is no URL") from error
    if parts.scheme not in {"http", "https"} or host not in trigger.allowed_hosts:
        raise ForbiddenError(
            f"cannot fetch the source from {host or push.clone_url[:100]!r}: trigger {trigger.name} does not allow it",
            hint="add the host to `clone_hosts`, or write a `clone_url`",
        )
    return push.clone_url


def run_request(trigger: Trigger, push: Push) -> RunRequest:
    """The run that a push asks for. Raises ConfigError, ForbiddenError."""
    return RunRequest(
        matrix=_text(trigger.matrix) if trigger.matrix else None,
        matrix_name=trigger.matrix_name,
        source=GitSource(git=clone_url(trigger, push), ref=push.commit),
        only=trigger.only,
        version=(push.tag or push.branch or push.ref)[:_LONGEST_LABEL],
        labels=labels(trigger, push),
        priority=trigger.priority,
    )


def labels(trigger: Trigger, push: Push) -> dict[str, str]:
    """What the run of a push is found by. A tag is a release."""
    found = {
        "trigger": trigger.name,
        "repository": push.repository,
        "commit": push.commit,
        "branch": push.branch,
        "release": push.tag,
    }
    return {key: value[:_LONGEST_LABEL] for key, value in found.items() if value} | trigger.labels


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the matrix {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the matrix {path}: it is not UTF-8") from error
