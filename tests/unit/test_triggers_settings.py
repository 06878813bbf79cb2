"""The sections of farm.toml about triggers: what is wrong is told with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.errors import ConfigError
from farm.serverconfig import load_config
from farm.triggers.settings import Notify, Status

TRIGGER = """\
[[trigger]]
name = "hello"
provider = "github"
repository = "acme/hello"
secret_env = "HOOK_SECRET"
matrix_name = "hello"
"""
NOTIFY = """\
[[notify]]
name = "chat"
url = "https://chat.example.org/hook"
secret_env = "CHAT_SECRET"
"""
STATUS = """\
[[status]]
name = "github"
provider = "github"
token_env = "GITHUB_TOKEN"
"""


def load(folder: Path, text: str) -> object:
    file = folder / "farm.toml"
    file.write_text(text)
    return load_config(file)


def test_the_least_that_has_to_be_said_is_enough(tmp_path: Path) -> None:
    config = load_config(None)
    assert (config.trigger, config.notify, config.status) == ((), (), ())
    (tmp_path / "farm.toml").write_text(TRIGGER + NOTIFY + STATUS)
    config = load_config(tmp_path / "farm.toml")
    assert config.trigger[0].refs == ("refs/heads/*", "refs/tags/*")
    assert config.trigger[0].allowed_hosts == ("github.com",)
    assert config.notify[0].events == ("run-finished",)
    assert config.status[0].api == "https://api.github.com"
    assert (config.delivery.tries, config.delivery.first_s) == (12, 10.0)


WRONG = [
    (TRIGGER + 'secret = "in the open"', "trigger.0.secret: unknown key"),
    (TRIGGER + 'secret_file = "/run/secret"', "trigger.0: Value error, write either `secret_env` or `secret_file`"),
    (TRIGGER.replace('secret_env = "HOOK_SECRET"', ""), "write either `secret_env` or `secret_file`"),
    (TRIGGER.replace("HOOK_SECRET", "not a name"), "trigger.0.secret_env: String should match"),
    (TRIGGER + 'matrix = "/m.yaml"', "write either `matrix_name` or `matrix`"),
    (TRIGGER.replace('matrix_name = "hello"', 'matrix = "m.yaml"'), "trigger.0.matrix: Value error, write an absolute"),
    (TRIGGER.replace('"github"', '"bitbucket"'), "trigger.0.provider: Input should be 'github', 'gitlab', 'gitea'"),
    (TRIGGER.replace('"github"', '"gitea"'), "gitea is on no host of its own: write `clone_hosts` or `clone_url`"),
    (TRIGGER.replace('"hello"\nprovider', '"Hello!"\nprovider'), "trigger.0.name: String should match"),
    (TRIGGER + "refs = []", "trigger.0.refs: Tuple should have at least 1 item"),
    (TRIGGER + "priority = 101", "trigger.0.priority: Input should be less than or equal to 100"),
    (TRIGGER + 'clone_url = "https://x/{owner}"', "trigger.0.clone_url: Value error, the only placeholder"),
    (TRIGGER + 'clone_hosts = ["https://x"]', "trigger.0.clone_hosts.0: String should match"),
    (TRIGGER + "[trigger.labels]\n'' = 'x'", "trigger.0.labels..[key]: String should match"),
    (TRIGGER + TRIGGER, "trigger: Value error, there are two of the name 'hello'"),
    (TRIGGER.replace('name = "hello"\nprovider', "provider"), "trigger.0.name: Field required"),
    (TRIGGER.replace('repository = "acme/hello"\n', ""), "trigger.0.repository: Field required"),
    (NOTIFY.replace("https://chat.example.org/hook", "ftp://x"), "notify.0.url: Value error, write an http or https"),
    (NOTIFY.replace("https://chat.example.org", "https://me:pw@chat"), "notify.0.url: Value error, write an http"),
    (NOTIFY + 'events = ["cell-finished"]', "notify.0.events.0: Input should be 'run-submitted' or 'run-finished'"),
    (NOTIFY + "events = []", "notify.0.events: Tuple should have at least 1 item"),
    (NOTIFY + "projects = []", "notify.0.projects: Tuple should have at least 1 item"),
    (NOTIFY + 'token_env = "X"', "notify.0.token_env: unknown key"),
    (NOTIFY.replace('secret_env = "CHAT_SECRET"', ""), "notify.0: Value error, write either `secret_env`"),
    (NOTIFY + NOTIFY, "notify: Value error, there are two of the name 'chat'"),
    (STATUS + 'token = "in the open"', "status.0.token: unknown key"),
    (STATUS + 'token_file = "/run/token"', "status.0: Value error, write either `token_env` or `token_file`"),
    (STATUS.replace('r = "github"', 'r = "forgejo"'), "forgejo is on no host of its own: write `api_url`"),
    (STATUS + 'api_url = "github.com"', "status.0.api_url: Value error, write an http or https URL"),
    (STATUS + "triggers = []", "status.0.triggers: Tuple should have at least 1 item"),
    (STATUS + "context = ''", "status.0.context: String should have at least 1 character"),
    (STATUS + STATUS, "status: Value error, there are two of the name 'github'"),
    ("[delivery]\ntries = 0", "delivery.tries: Input should be greater than or equal to 1"),
    ("[delivery]\nfirst_s = 0", "delivery.first_s: Input should be greater than 0"),
    ("[delivery]\nlongest_s = -1", "delivery.longest_s: Input should be greater than 0"),
    ("[delivery]\ntimeout_s = 301", "delivery.timeout_s: Input should be less than or equal to 300"),
    ("[delivery]\npatience = 1", "delivery.patience: unknown key"),
    ("[triggers]\n", "triggers: unknown key"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert reason in caught.value.message


# --- secrets ----------------------------------------------------------------------------------------


def test_a_secret_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    section = Notify(name="chat", url="https://example.org", secret_env="CHAT_SECRET")  # noqa: S106 - its name
    with pytest.raises(ConfigError, match="cannot use notify chat: the environment variable CHAT_SECRET is not set"):
        section.secret()
    monkeypatch.setenv("CHAT_SECRET", "hunter2")
    assert section.secret() == "hunter2"
    monkeypatch.setenv("CHAT_SECRET", " ")
    with pytest.raises(ConfigError, match="CHAT_SECRET is empty"):
        section.secret()


def test_a_secret_comes_from_a_file_which_may_end_with_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "token"
    section = Status(name="github", provider="github", token_file=file)
    with pytest.raises(ConfigError, match=r"cannot use status github: .*: No such file"):
        section.secret()
    file.write_bytes(b"hunter2\n")
    assert section.secret() == "hunter2"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        section.secret()
