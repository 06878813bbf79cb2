"""Commit statuses: what each forge is asked, in its own words. Pure.

GitHub: <https://docs.github.com/en/rest/commits/statuses#create-a-commit-status>. (Check runs say more, but only a
GitHub App may write them: <https://docs.github.com/en/rest/checks/runs>.)
GitLab: <https://docs.gitlab.com/api/commits/#set-commit-pipeline-status>.
Gitea and Forgejo: `repoCreateStatus` in the API that every instance shows at `/api/swagger`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from urllib.parse import quote

from farm.model import Model, Push
from farm.model.trigger import Commit, Repository
from farm.text import shorten

State = Literal["pending", "passed", "failed", "error", "cancelled"]

BY_EXIT_CODE: Mapping[int, State] = MappingProxyType(
    {0: "passed", 1: "failed", 2: "error", 3: "error", 130: "cancelled"}
)
"""What a run came to -> its status; nothing ran (3) is never green."""


class CommitStatus(Model):
    """What is said of a commit: the payload of a delivery."""

    repository: Repository
    commit: Commit
    ref: str
    """The short name of the branch or tag."""
    context: str
    state: State
    description: str
    link: str
    """Empty: none."""

    def same_place(self, other: CommitStatus) -> bool:
        """Whether the later of the two is the one to be seen."""
        return (self.repository, self.commit, self.context) == (other.repository, other.commit, other.context)


@dataclass(frozen=True)
class Request:
    """A request to a forge: POST, JSON."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, str]


@dataclass(frozen=True)
class Forge:
    """How a forge is told."""

    path: Callable[[CommitStatus], str]
    states: Mapping[State, str]
    longest: int
    """Characters of a description."""
    headers: Callable[[str], Mapping[str, str]]
    """Of a token."""
    context: str = "context"
    """The name of that field."""
    has_ref: bool = False


def _owner_and_name(status: CommitStatus) -> str:
    return f"/repos/{quote(status.repository)}/statuses/{status.commit}"


def _project(status: CommitStatus) -> str:
    return f"/projects/{quote(status.repository, safe='')}/statuses/{status.commit}"


_GITEA = Forge(
    path=_owner_and_name,
    states=MappingProxyType(
        {"pending": "pending", "passed": "success", "failed": "failure", "error": "error", "cancelled": "error"}
    ),
    longest=255,
    headers=lambda token: {"Authorization": f"token {token}"},
)

FORGES: Mapping[str, Forge] = MappingProxyType(
    {
        "github": Forge(
            path=_owner_and_name,
            states=_GITEA.states,
            longest=140,
            headers=lambda token: {
                "Authorization": f"Bearer {token}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        ),
        "gitlab": Forge(
            path=_project,
            states=MappingProxyType(
                {
                    "pending": "pending",
                    "passed": "success",
                    "failed": "failed",
                    "error": "failed",
                    "cancelled": "canceled",
                }
            ),
            longest=255,
            headers=lambda token: {"PRIVATE-TOKEN": token},
            context="name",
            has_ref=True,
        ),
        "gitea": _GITEA,
        "forgejo": _GITEA,
    }
)


def status(push: Push, *, context: str, state: State, description: str, link: str) -> CommitStatus:
    """The status of the commit of a push."""
    return CommitStatus(
        repository=push.repository,
        commit=push.commit,
        ref=push.tag or push.branch or push.ref,
        context=context,
        state=state,
        description=description,
        link=link,
    )


def request(provider: str, api: str, token: str, told: CommitStatus) -> Request:
    """How a forge is told of a status."""
    forge = FORGES[provider]
    body = {
        "state": forge.states[told.state],
        forge.context: told.context,
        "description": shorten(told.description, limit=forge.longest),
        "target_url": told.link,
        "ref": told.ref if forge.has_ref else "",
    }
    headers = {"Accept": "application/json", **forge.headers(token)}
    return Request(api + forge.path(told), headers, {key: value for key, value in body.items() if value})


def is_told_already(provider: str, status_code: int, answer: str) -> bool:
    """Whether a refusal means that the forge knows it: GitLab does not let a status become what it is.

    There is no code for it but 400; <https://gitlab.com/gitlab-org/gitlab-foss/-/issues/25807>.
    """
    return provider == "gitlab" and status_code == 400 and "Cannot transition status" in answer  # noqa: PLR2004
