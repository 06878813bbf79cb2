"""The snippets of docs/ci.md: valid YAML, and commands that the real program takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from farm.cli import app
from farm.report import FORMATS

PAGE = (Path(__file__).parents[2] / "docs/ci.md").read_text(encoding="utf-8")
SYSTEMS = r"^## (GitHub Actions|GitLab CI|Jenkins)$.*?^```\w+\n(.*?)^```$"
SNIPPETS = dict(re.findall(SYSTEMS, PAGE, re.MULTILINE | re.DOTALL))
COMMANDS: Any = typer.main.get_command(app)
EVENTS = {"push", "pull_request"}


def strings(node: Any) -> Iterator[str]:
    """Every text in a document."""
    match node:
        case dict():
            yield from (text for value in node.values() for text in strings(value))
        case list():
            yield from (text for value in node for text in strings(value))
        case str():
            yield node


def used() -> list[list[str]]:
    """Every `farm` command of the snippets, as a shell would split it."""
    texts = [
        text for name in ("GitHub Actions", "GitLab CI") for text in strings(YAML(typ="safe").load(SNIPPETS[name]))
    ]
    texts += re.findall(r"sh '(.*)'", SNIPPETS["Jenkins"])
    return [shlex.split(text) for text in texts if text.startswith("farm ")]


def test_there_is_a_snippet_for_each_system_with_a_command_in_it() -> None:
    assert set(SNIPPETS) == {"GitHub Actions", "GitLab CI", "Jenkins"}
    assert len(used()) == len(SNIPPETS)


@pytest.mark.parametrize("words", used(), ids=lambda words: words[1])
def test_the_program_takes_a_command_of_a_snippet(words: list[str]) -> None:
    program, name, *arguments = words
    assert program == "farm"
    context = COMMANDS.commands[name].make_context(name, arguments)
    assert (context.params["wait"], context.params["cancel_on_interrupt"]) == (True, True)
    assert str(context.params["folder"]) == "farm-report"


def test_the_workflow_of_github_has_what_a_workflow_has() -> None:
    workflow = YAML(typ="safe").load(SNIPPETS["GitHub Actions"])
    assert set(workflow["on"]) == EVENTS  # YAML 1.2: `on` is no boolean
    (job,) = workflow["jobs"].values()
    assert {"runs-on", "steps", "env"} <= set(job)
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_the_job_of_gitlab_has_what_a_job_has() -> None:
    (job,) = YAML(typ="safe").load(SNIPPETS["GitLab CI"]).values()
    assert all(isinstance(line, str) for line in job["script"])
    assert job["artifacts"]["reports"]["junit"] == f"farm-report/{FORMATS['junit'].file}"


def test_the_pipeline_of_jenkins_closes_what_it_opens() -> None:
    code = re.sub(r"'[^']*'", "''", SNIPPETS["Jenkins"])
    assert code.count("{") == code.count("}")
    assert code.count("(") == code.count(")")


def test_the_page_names_every_report() -> None:
    (row,) = re.findall(r"^\| `--out DIR` \| (.*) \|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(.*?)`", row)) == {form.file for form in FORMATS.values()}
