"""What comes from a forge and what goes back to others: pushes, and deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from farm.model.base import Model

Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]


def _no_dots(text: str) -> str:
    if {".", ".."} & set(text.split("/")):
        raise ValueError("it has a part that is `.` or `..`")
    return text


Repository = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.~-]+(/[A-Za-z0-9_.~-]+)+$", max_length=200), AfterValidator(_no_dots)
]
"""`owner/name`, of GitLab also with more groups; a piece of URLs."""


class Push(Model):
    """A branch or a tag that was pushed."""

    repository: Repository
    ref: Annotated[str, Field(pattern=r"^refs/\S+$", max_length=500)]
    """In full: `refs/heads/main`, `refs/tags/v1.2`."""
    commit: Commit
    clone_url: Annotated[str, Field(max_length=2000)]
    """As the forge tells it."""

    @property
    def tag(self) -> str:
        """The name of the tag; empty for a branch."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else ""

    @property
    def branch(self) -> str:
        """The name of the branch; empty for a tag."""
        return self.ref.removeprefix("refs/heads/") if self.ref.startswith("refs/heads/") else ""


class Triggered(Model):
    """A push that a trigger has taken."""

    trigger: str
    """Its name in farm.toml."""
    delivery: str
    """The forge's id of it."""
    also: tuple[str, ...] = ()
    """Other names by which it would be known again."""
    push: Push


class FailedPush(Model):
    """A push that a trigger has taken, and that came to nothing."""

    id: int
    at: datetime
    trigger: str
    """Its name in farm.toml."""
    repository: str
    commit: str
    delivery: str
    """The forge's id of it: there it can be delivered again."""
    problem: str


class NewDelivery(Model):
    """Something that somebody is to be told."""

    target: str
    """`notify NAME` or `status NAME`: a section of farm.toml."""
    event: str
    payload: dict[str, Any]


class DeliveryRecord(NewDelivery):
    """The same, as it is kept until it was taken or given up."""

    id: int
    run: str
    created: datetime
    tries: int
    due: datetime | None
    """When it is tried next; null: not any more."""
    done: datetime | None
    """When it was taken; null: not yet, or given up."""
    problem: str
    """Of the last try, or why there are no more."""
