"""docs/triggers.md is true: its settings, its example, and what checks a signature."""

from __future__ import annotations

import json
import re
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from farm.model import Model
from farm.serverconfig import ServerConfig
from farm.triggers.messages import Message, body_of, signed_headers
from farm.triggers.settings import Delivery, Notify, Status, Trigger
from farm.triggers.statuses import BY_EXIT_CODE, FORGES

PAGE = (Path(__file__).parents[2] / "docs" / "triggers.md").read_text(encoding="utf-8")


def fence(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("### [[trigger]]", Trigger),
        ("### [[status]]", Status),
        ("### [[notify]]", Notify),
        ("### [delivery]", Delivery),
    ],
)
def test_every_key_is_documented_and_no_other(heading: str, section: type[Model]) -> None:
    assert [row[0].strip("`") for row in rows(heading)] == list(section.model_fields)


def test_the_defaults_of_deliveries_are_as_documented() -> None:
    documented = {row[0].strip("`"): float(row[1]) for row in rows("### [delivery]")}
    assert documented == Delivery().model_dump()


def test_the_example_is_good() -> None:
    config = ServerConfig.model_validate(tomllib.loads(fence("toml")))
    assert (len(config.trigger), len(config.status), len(config.notify)) == (1, 1, 1)


def test_the_table_of_states_is_the_one_of_the_code() -> None:
    documented = {int(re.split(r"\D", row[0])[0]): (row[1], row[2]) for row in rows("The words are each forge's own.")}
    assert documented == {
        code: (FORGES["github"].states[state], FORGES["gitlab"].states[state]) for code, state in BY_EXIT_CODE.items()
    }
    assert FORGES["github"].states == FORGES["gitea"].states == FORGES["forgejo"].states


def test_the_example_of_a_body_has_the_fields_of_a_message() -> None:
    body = json.loads(fence("json"))
    data = Message.model_fields["data"].annotation
    assert data is not None
    assert set(body) == set(Message.model_fields)
    assert set(body["data"]) == set(data.model_fields)
    for part in ("run", "origin"):
        assert set(body["data"][part]) <= set(_fields(data.model_fields[part].annotation))


def _fields(annotation: Any) -> list[str]:
    kinds = getattr(annotation, "__args__", (annotation,))
    return [name for kind in kinds for name in getattr(kind, "model_fields", ())]


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "any other"])
def test_the_snippet_takes_what_the_farm_signs_and_nothing_else(secret: str) -> None:
    names: dict[str, Any] = {}
    exec(fence("python"), names)  # noqa: S102 - it is what the page tells people to run
    verify = names["verify"]
    payload = {"id": "1c1f0f43", "type": "run-finished"}
    body = body_of(payload)
    now = datetime.now(UTC)
    headers = signed_headers(payload, body, secret, now=now)
    assert verify(headers, body, secret)
    assert not verify(headers, body + b" ", secret)
    assert not verify(headers, body, "another")
    assert not verify(headers | {"webhook-id": "other"}, body, secret)
    assert not verify(headers | {"webhook-timestamp": str(int(time.time()) - 301)}, body, secret)
