"""docs/api.md is held against the API: its commands are run, its table is the code's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from api.problems import KINDS
from farm.model import Scope
from tests.service.serving import Serving

pytestmark = pytest.mark.timeout(400)

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_command_of_the_page_works(server: Serving, tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    environment = {"FARM_SERVER": server.url, "FARM_TOKEN": server.token("submit"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert "event: end" in done.stdout
    assert "hello\n" in done.stdout
    assert (tmp_path / "junit.xml").read_text().startswith("<?xml")
    assert (tmp_path / "badge.svg").read_text().startswith("<svg")


def test_the_table_of_problems_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `/problems/([a-z-]+)` \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {kind: (int(status), meaning) for kind, status, meaning in rows} == {
        kind: (status.value, meaning) for kind, (status, meaning) in KINDS.items()
    }


def test_the_table_of_scopes_has_them_in_their_order() -> None:
    assert re.findall(r"^\| `(read|submit|operate|admin)` \|", PAGE, re.MULTILINE) == [scope.value for scope in Scope]
