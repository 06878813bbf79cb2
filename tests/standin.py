"""A forge and a receiver of webhooks that stand in for real ones: a real HTTP server that checks what it is sent.

It takes the commit statuses of GitHub, GitLab and Gitea as their documentation has them, webhooks signed as Standard
Webhooks has it, and serves git repositories (`git update-server-info`). It can be told to fail.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

TOKEN = "forge-token"  # noqa: S105 - of a server that lives for a test
SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes !!!").decode()
WAIT_S = 60.0
_SHA = r"(?P<sha>[0-9a-f]{40})"
_REPOSITORY = r"(?P<repository>[\w.-]+/[\w.-]+)"
PATHS = {
    "github": rf"/github/repos/{_REPOSITORY}/statuses/{_SHA}",
    "gitea": rf"/gitea/api/v1/repos/{_REPOSITORY}/statuses/{_SHA}",
    "gitlab": rf"/gitlab/api/v4/projects/(?P<repository>[\w.%-]+)/statuses/{_SHA}",
}
AUTHORIZATION = {
    "github": ("Authorization", f"Bearer {TOKEN}"),
    "gitea": ("Authorization", f"token {TOKEN}"),
    "gitlab": ("PRIVATE-TOKEN", TOKEN),
}
STATES = {
    "github": {"error", "failure", "pending", "success"},
    "gitea": {"error", "failure", "pending", "success", "warning", "skipped"},
    "gitlab": {"pending", "running", "success", "failed", "canceled", "skipped"},
}
FIELDS = {
    "github": {"state", "target_url", "description", "context"},
    "gitea": {"state", "target_url", "description", "context"},
    "gitlab": {"state", "target_url", "description", "name", "ref", "pipeline_id", "coverage"},
}
LONGEST = {"github": 140, "gitea": 255, "gitlab": 255}


@dataclass(frozen=True)
class Told:
    """A request that was well-formed."""

    kind: str
    """`github`, `gitlab`, `gitea` or `webhook`."""
    path: str
    headers: dict[str, str]
    body: Any
    answered: int


class Failure(NamedTuple):
    """An answer that is not what is hoped for."""

    code: int
    headers: dict[str, str]
    text: bytes
    about: bytes
    """Only to a request with this in its body."""


@dataclass
class StandIn:
    """The server, and what it was told."""

    folder: Path
    """Its git repositories, below `git/`."""
    url: str = ""
    told: list[Told] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """What a real one would have refused."""
    answers: list[Failure] = field(default_factory=list)
    """What is answered next, instead of that it is well."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def fail(
        self, *codes: int, headers: dict[str, str] | None = None, text: bytes = b"not now", about: str = ""
    ) -> None:
        """Answer the next requests with these, or the next that mention something."""
        self.answers += [Failure(code, headers or {}, text, about.encode()) for code in codes]

    def wait(self, holds: Callable[[list[Told]], bool]) -> list[Told]:
        """What it was told, as soon as something holds of it."""
        with self.changed:
            came = self.changed.wait_for(lambda: holds(self.told), WAIT_S)
            assert came, ([(one.kind, one.answered, one.body.get("state")) for one in self.told[-20:]], self.wrong)
            assert self.wrong == []
            return list(self.told)

    def repository(self, name: str, files: dict[str, str]) -> str:
        """Make a git repository with one commit; gives the commit."""
        bare = self.folder / "git" / f"{name}.git"
        work = self.folder / "work" / name
        work.mkdir(parents=True)
        for path, text in files.items():
            (work / path).write_text(text)
        git("init", "--quiet", "--initial-branch=main", ".", at=work)
        git("add", ".", at=work)
        git("commit", "--quiet", "--message=one", at=work)
        git("clone", "--quiet", "--bare", str(work), str(bare), at=self.folder)
        git("update-server-info", at=bare)
        return git("rev-parse", "HEAD", at=work)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Check a request and answer it."""
        kind, problem = _check(path, headers, body)
        with self.changed:
            failure = next((one for one in self.answers if one.about in body), None)
            if failure:
                self.answers.remove(failure)
            code, more, text = failure[:3] if failure else (201, {}, b'{"id": 1}')
            if problem:
                self.wrong.append(f"{path}: {problem}")
                code, text = 422, problem.encode()
            self.told.append(Told(kind, path, headers, json.loads(body), code))
            self.changed.notify_all()
        return code, more, text


def git(*arguments: str, at: Path) -> str:
    """Run git as somebody."""
    who = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=at, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()


@contextmanager
def standing_in(folder: Path) -> Iterator[StandIn]:
    """A server that ends with this."""
    (folder / "git").mkdir(parents=True, exist_ok=True)
    stand_in = StandIn(folder)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code, headers, text = stand_in.take(self.path, dict(self.headers), body)
            self.send_response(code)
            for name, value in {"Content-Length": str(len(text)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield stand_in
        finally:
            server.shutdown()


def _check(path: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
    """The kind of a request, and what is wrong with it."""
    if headers.get("Content-Type") != "application/json":
        return "", "it is not JSON"
    for kind, pattern in PATHS.items():
        if found := re.fullmatch(pattern, path):
            return kind, _check_status(kind, found["repository"], headers, json.loads(body))
    return "webhook", _check_webhook(headers, body)


def _check_status(kind: str, repository: str, headers: dict[str, str], body: dict[str, str]) -> str:
    header, value = AUTHORIZATION[kind]
    checks = {
        "the token is wrong": headers.get(header) == value,
        "the state is unknown": body.get("state") in STATES[kind],
        "there is an unknown field": set(body) <= FIELDS[kind],
        "the description is too long": len(body.get("description", "")) <= LONGEST[kind],
        "the path of the project is not encoded": kind != "gitlab" or "%2F" in repository,
        "the link is no URL": body.get("target_url", "https://").startswith(("http://", "https://")),
    }
    return next((problem for problem, holds in checks.items() if not holds), "")


def _check_webhook(headers: dict[str, str], body: bytes) -> str:
    """By the letter of the specification, without a line of the farm's own code."""
    id_, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    right = base64.b64encode(hmac.new(key, f"{id_}.{sent}.".encode() + body, hashlib.sha256).digest()).decode()
    checks = {
        "the signature is wrong": headers.get("webhook-signature", "").split() == [f"v1,{right}"],
        "the time is wrong": sent.isdigit() and abs(int(sent) - time.time()) < 300,
        "the id is not that of the body": json.loads(body).get("id") == id_,
    }
    return next((problem for problem, holds in checks.items() if not holds), "")
