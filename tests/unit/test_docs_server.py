"""The pages about the server are held against the code."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from farm.metrics import METRICS, Metric
from farm.model import Scope
from farm.serverconfig import ServerConfig
from tests.unit.test_docs import fences, first_column, sections, text

ROOT = Path(__file__).parents[2]
SECTIONS = {
    "trigger": ("[[trigger]]", "triggers.md"),
    "notify": ("[[notify]]", "triggers.md"),
    "status": ("[[status]]", "triggers.md"),
    "delivery": ("[delivery]", "triggers.md"),
    "hosts": ("[[hosts]]", "cluster.md"),
    "keep": ("[keep]", "#"),
}
"""Those that have a page of their own."""


def rows(table: str) -> dict[str, tuple[str, str]]:
    """Of a table of settings: key -> default, what it is for."""
    found = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", table, re.MULTILINE)
    return {key: (default, about) for key, default, about in found}


SETTINGS = rows(sections(text("docs/server.md"))["Settings"])


def test_every_setting_of_a_server_is_documented_and_no_other() -> None:
    assert list(SETTINGS) == list(ServerConfig.model_fields)


@pytest.mark.parametrize("key", [key for key in ServerConfig.model_fields if key not in SECTIONS])
def test_the_default_of_a_setting_is_the_documented_one(key: str) -> None:
    default: Any = ServerConfig.model_fields[key].default
    documented, _ = SETTINGS[key]
    assert documented == ("none" if default is None else f"`{json.dumps(default)}`")


@pytest.mark.parametrize("key", SECTIONS)
def test_a_section_is_named_and_leads_to_its_page(key: str) -> None:
    _, about = SETTINGS[key]
    section, page = SECTIONS[key]
    assert about.startswith(f"`{section}`")
    assert f"({page}" in about


def test_the_examples_of_settings_are_good_ones() -> None:
    examples = [*fences(text("docs/server.md"), "toml"), *fences(text("docs/cluster.md"), "toml")]
    assert examples
    for example in examples:
        ServerConfig.model_validate(tomllib.loads(example))


def test_every_scope_is_documented_in_its_order() -> None:
    assert first_column(sections(text("docs/server.md"))["Tokens and scopes"]) == list(Scope)


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.since} | {metric.help} |"


def test_the_table_of_metrics_is_the_one_of_the_code() -> None:
    found = [line for line in text("docs/metrics.md").splitlines() if line.startswith("| `farm_")]
    assert found == [row(metric) for metric in METRICS]


def test_every_alert_is_documented_in_its_order() -> None:
    (group,) = YAML(typ="safe").load(ROOT / "dashboards/prometheus/farm.rules.yml")["groups"]
    documented = first_column(sections(text("docs/metrics.md"))["Prometheus"])
    assert documented == [rule["alert"] for rule in group["rules"]]
